//! A lock that keeps other processes out of a run's folder.

use crate::{Error, Result};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// The name of the lock file.
const NAME: &str = ".lock";

/// A lock on a folder, held until it is dropped; the system releases it when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    /// None where the file system does not support locks.
    _file: Option<File>,
}

impl Lock {
    /// Locks `folder`.
    ///
    /// # Errors
    /// When another process holds the lock, or the folder cannot be written to.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        loop {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
            let file = file.map_err(|e| Error::unwritten(&path, e))?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => return Ok(Self { path, _file: Some(file) }),
                // The previous holder removed the file after we opened it.
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => {
                    let message = "is in use by a run that is training: wait for it, end it by Ctrl-C, or choose another \
                                   folder by --out";
                    return Err(Error::Config(format!("{} {message}", folder.display())));
                }
                Err(TryLockError::Error(_)) => return Ok(Self { path, _file: None }),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the lock is released.
        fs::remove_file(&self.path).ok();
    }
}

/// Whether the open file is still the one at `path`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().is_ok_and(|open| fs::metadata(path).is_ok_and(|there| id(open) == id(there)))
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_while_the_first_lives() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let error = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains("in use by a run") && error.contains("--out"), "{error}");
        drop(first);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // The lock file of a killed process does not lock.
        fs::write(folder.path().join(NAME), "").unwrap();
        Lock::take(folder.path()).unwrap();
    }
}
