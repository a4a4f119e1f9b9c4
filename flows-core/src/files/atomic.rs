//! Atomic writing of files.

use crate::{Error, Result};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes the file `path` atomically: it holds either everything that `write` wrote or what it held before.
///
/// `write` gets a temporary file in the same folder, which is synced to disk and then renamed;
/// if anything fails, the temporary file is removed. A process that is killed while writing leaves it behind:
/// see [`remove_stale_temporaries`].
///
/// # Errors
/// Any error from `write`, and [`Error::Io`] when the folder does not exist or cannot be written to.
pub fn write_atomically(path: impl AsRef<Path>, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let path = path.as_ref();
    let cannot = |e: std::io::Error| {
        let remedy = match e.kind() {
            ErrorKind::NotFound => "create the folder first, or choose another",
            ErrorKind::StorageFull => "free some space, or choose another disk",
            _ => "choose a location that you may write to",
        };
        Error::Io(format!("{}: cannot be written ({e}); {remedy}", path.display()))
    };
    let Some(name) = path.file_name() else {
        return Err(Error::file(path, "is not a file name; name a file to write to"));
    };
    let (mut temporary, mut file) = create_beside(path, name).map_err(cannot)?;
    write(&mut file)?;
    file.sync_all().map_err(cannot)?;
    // Still locked, so that no process takes it for stale.
    fs::rename(&temporary.0, path).map_err(cannot)?;
    temporary.0.clear();
    drop(file);
    // The rename survives a power failure only once the folder is synced, which not every system supports.
    if let Ok(folder) = File::open(folder_of(path)) {
        folder.sync_all().ok();
    }
    Ok(())
}

/// A path whose file is removed on drop unless the path has been cleared.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            fs::remove_file(&self.0).ok();
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The suffix of the names of temporary files.
const SUFFIX: &str = ".flows.tmp";

/// A new temporary file, locked for as long as it is open.
fn create_beside(path: &Path, name: &OsStr) -> std::io::Result<(Temporary, File)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.{}{SUFFIX}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let candidate = folder_of(path).join(hidden);
        let file = match OpenOptions::new().write(true).create_new(true).open(&candidate) {
            Ok(file) => file,
            // Left behind by a killed process with the same id: take the next name.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
            Err(e) => return Err(e),
        };
        // Another process may have taken it for stale before it was locked. Not every file system supports locks.
        let lost = matches!(file.try_lock(), Err(TryLockError::WouldBlock)) || !candidate.exists();
        if !lost {
            return Ok((Temporary(candidate), file));
        }
    }
}

/// Removes the temporary files that [`write_atomically`] left in `folder` when processes were killed, and returns
/// their number.
///
/// A file that is still being written is locked by its process, on this machine or another, and is kept. Where the file
/// system does not support locks, all are kept.
///
/// # Errors
/// When the folder cannot be read or a stale file cannot be removed.
pub fn remove_stale_temporaries(folder: impl AsRef<Path>) -> Result<usize> {
    let folder = folder.as_ref();
    let unreadable = |e: std::io::Error| Error::file(folder, format!("cannot be read ({e}); check the path"));
    let mut removed = 0;
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !(name.starts_with('.') && name.ends_with(SUFFIX)) {
            continue;
        }
        // A file that is gone by now was completed.
        let Ok(file) = OpenOptions::new().write(true).open(&path) else { continue };
        if file.try_lock().is_err() {
            continue;
        }
        match fs::remove_file(&path) {
            Ok(()) => removed += 1,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::Io(format!("{}: cannot be removed ({e}); remove it", path.display()))),
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_atomically(&path, |f| f.write_all(b"one").map_err(|e| Error::unwritten(&path, e)))?;
        let failed = write_atomically(&path, |f| {
            f.write_all(b"half").ok();
            Err(Error::Data("stop".into()))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_atomically(&path, |f| f.write_all(b"two").map_err(|e| Error::unwritten(&path, e)))?;
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let nowhere = write_atomically(folder.path().join("no/a.txt"), |_| Ok(())).unwrap_err().to_string();
        assert!(nowhere.contains("create the folder"), "{nowhere}");
        assert!(write_atomically("/", |_| Ok(())).is_err());
        assert!(write_atomically("", |_| Ok(())).is_err());
        Ok(())
    }

    #[test]
    fn stale_files_are_removed_and_others_kept() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let stale = format!(".a.txt.{}.7{SUFFIX}", u32::MAX);
        let others = ["model.safetensors", ".hidden", ".a.txt.1.2.tmp", "mine.flows.tmp"];
        for name in others.iter().copied().chain([stale.as_str()]) {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        write_atomically(&path, |f| {
            f.write_all(b"whole").ok();
            assert_eq!(remove_stale_temporaries(folder.path())?, 1);
            Ok(())
        })?;
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(remove_stale_temporaries(folder.path())?, 0);
        assert!(!folder.path().join(stale).exists());
        assert!(others.iter().all(|name| folder.path().join(name).exists()));
        assert!(remove_stale_temporaries(folder.path().join("no")).is_err());
        Ok(())
    }
}
