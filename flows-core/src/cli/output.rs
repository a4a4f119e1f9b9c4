//! Text for people and for programs.

use super::OutputArgs;
use crate::files::write_atomically;
use crate::structure;
use crate::{Error, Result};
use serde::Serialize;
use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};
use std::path::Path;

/// Writes `text` and a line's end to standard output; a reader that has left is no error.
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

/// Writes `value` as JSON to standard output; numbers that are not finite are `null`.
///
/// # Errors
/// When it cannot be written.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    print(serde_json::to_string_pretty(value).map_err(|e| Error::Config(format!("the results are not JSON ({e})")))?)
}

/// Prints `value` as JSON if that is wanted, else `text`.
///
/// # Errors
/// When it cannot be written.
pub fn print_or_json(output: OutputArgs, value: &impl Serialize, text: impl Display) -> Result<()> {
    if output.json { print_json(value) } else { print(text) }
}

/// Writes `value` as JSON to the file `path`, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::file(path, e))?;
    write_atomically(path, |file| writeln!(file, "{text}").map_err(|e| Error::unwritten(path, e)))
}

/// Passes if a command that writes to `out` does not write over what it reads.
///
/// # Errors
/// When `out` is one of the `inputs`.
pub fn check_out(out: &Path, inputs: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<()> {
    let Ok(out) = out.canonicalize() else { return Ok(()) };
    match inputs.into_iter().any(|input| input.as_ref().canonicalize().is_ok_and(|input| input == out)) {
        true => Err(Error::file(out, "is what the command reads and would be lost; choose another --out")),
        false => Ok(()),
    }
}

/// Passes if a file by this name is of the kind that a command writes, by its extension: `.png`, say, for pictures.
///
/// # Errors
/// When it has another extension or none.
pub fn check_extension(out: &Path, extension: &str, what: &str) -> Result<()> {
    match out.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension)) {
        true => Ok(()),
        false => Err(Error::file(out, format!("is the name of another kind of file: {what} are .{extension}"))),
    }
}

/// Writes a line to standard error; nothing can be done where that fails.
pub fn note(text: impl Display) {
    writeln!(stderr().lock(), "{text}").ok();
}

/// `1234567` as `1,234,567`.
pub fn count(n: usize) -> String {
    structure::thousands(n)
}

/// A number of things: `1 row`, `2,000 rows`.
pub fn plural(n: usize, noun: &str) -> String {
    structure::plural(n, noun)
}

/// Seconds as `0.8s`, `42s`, `1m 20s`, `3h 05m` or `2d 04h`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "forever".into();
    }
    if seconds < 9.95 {
        return format!("{:.1}s", seconds.max(0.0));
    }
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {:02}h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_with_their_nouns() {
        assert_eq!([0, 1, 2000].map(|n| plural(n, "row")), ["0 rows", "1 row", "2,000 rows"]);
    }

    #[test]
    fn durations_read_well() {
        let cases = [
            (0.0, "0.0s"),
            (9.94, "9.9s"),
            (9.96, "10s"),
            (59.6, "1m 00s"),
            (80.0, "1m 20s"),
            (11_100.0, "3h 05m"),
            (187_200.0, "2d 04h"),
            (f64::INFINITY, "forever"),
            (f64::NAN, "forever"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }
}
