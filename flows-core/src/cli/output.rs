//! Output as text and as JSON.

use super::OutputArgs;
use crate::files::write_atomically;
use crate::{Error, Result};
use serde::Serialize;
use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};
use std::path::Path;

/// Writes `text` and a newline to standard output; a closed pipe is not an error.
///
/// # Errors
/// When it cannot be written.
pub fn print(text: impl Display) -> Result<()> {
    let mut out = stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::unwritten("standard output", error)),
        _ => Ok(()),
    }
}

/// Writes `value` as JSON to standard output; non-finite numbers are `null`.
///
/// # Errors
/// When it cannot be written.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    print(serde_json::to_string_pretty(value).map_err(|e| Error::Config(format!("the results are not JSON ({e})")))?)
}

/// Prints `value` as JSON with `--json`, else `text`.
///
/// # Errors
/// When it cannot be written.
pub fn print_or_json(output: OutputArgs, value: &impl Serialize, text: impl Display) -> Result<()> {
    if output.json { print_json(value) } else { print(text) }
}

/// Writes `value` as JSON to the file `path` atomically.
///
/// # Errors
/// When it cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::file(path, e))?;
    write_atomically(path, |file| writeln!(file, "{text}").map_err(|e| Error::unwritten(path, e)))
}

/// Checks that a command that writes to `out` does not overwrite one of its inputs.
///
/// # Errors
/// When `out` is one of the `inputs`.
pub fn check_out(out: &Path, inputs: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<()> {
    let Ok(out) = out.canonicalize() else { return Ok(()) };
    match inputs.into_iter().any(|input| input.as_ref().canonicalize().is_ok_and(|input| input == out)) {
        true => {
            Err(Error::file(out, "is what the command reads and would be lost; choose another place for the result"))
        }
        false => Ok(()),
    }
}

/// Checks that a file has the extension of `what` a command writes, such as `png` for pictures.
///
/// # Errors
/// When it has another extension or none.
pub fn check_extension(out: &Path, extension: &str, what: &str) -> Result<()> {
    match out.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension)) {
        true => Ok(()),
        false => Err(Error::file(out, format!("has the wrong extension: {what} are .{extension}"))),
    }
}

/// Writes a line to standard error; a failure to do so is ignored.
pub fn note(text: impl Display) {
    writeln!(stderr().lock(), "{text}").ok();
}
