//! Files that are either written whole or not at all.

use crate::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes the file `path` so that it holds either all that `write` wrote or what it held before.
///
/// `write` gets a temporary file in the same folder, which is synced to the disk and then renamed;
/// if anything fails the temporary file is removed.
///
/// # Errors
/// Those of `write`, and [`Error::Io`] when the folder does not exist or cannot be written to.
pub fn write_atomically(path: impl AsRef<Path>, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let path = path.as_ref();
    let cannot = |e: std::io::Error| {
        let remedy = match e.kind() {
            ErrorKind::NotFound => "make the folder first, or choose another",
            ErrorKind::StorageFull => "free some space, or choose another disk",
            _ => "choose a place that you may write to",
        };
        Error::Io(format!("{}: cannot be written ({e}); {remedy}", path.display()))
    };
    let Some(name) = path.file_name() else {
        return Err(Error::file(path, "is no file name; name a file to write to"));
    };
    let (mut temporary, mut file) = create_beside(path, name).map_err(cannot)?;
    write(&mut file)?;
    file.sync_all().map_err(cannot)?;
    drop(file);
    fs::rename(&temporary.0, path).map_err(cannot)?;
    temporary.0.clear();
    // The new name is safe from a power failure only once its folder is; not every system can do it.
    if let Ok(folder) = File::open(folder_of(path)) {
        folder.sync_all().ok();
    }
    Ok(())
}

/// A path that is removed at the end of its scope unless it has been cleared.
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

fn create_beside(path: &Path, name: &std::ffi::OsStr) -> std::io::Result<(Temporary, File)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let candidate = folder_of(path).join(hidden);
        match OpenOptions::new().write(true).create_new(true).open(&candidate) {
            Ok(file) => return Ok((Temporary(candidate), file)),
            // Left behind by a process of the same number that was killed: take the next name.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
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
        assert!(nowhere.contains("make the folder"), "{nowhere}");
        assert!(write_atomically("/", |_| Ok(())).is_err());
        assert!(write_atomically("", |_| Ok(())).is_err());
        Ok(())
    }
}
