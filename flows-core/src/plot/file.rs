//! Whole files or none.

use crate::{Error, Result};
use std::{fs, io::Write, path::Path};

/// Writes `bytes` to a temporary file beside `path`, syncs it and renames it to `path`.
pub(super) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().ok_or_else(|| Error::file(path, "is not the name of a file"))?.to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        // What is left of it is of no use; that it cannot be removed is no second error.
        let _ = fs::remove_file(&temporary);
        Error::file(path, format!("cannot be written: {error}"))
    })
}
