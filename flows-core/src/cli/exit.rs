//! How a program ends.

use super::note;
use crate::{Error, Result};
use clap::Parser;
use std::process::ExitCode;

/// Parses the arguments, runs the program, and shows its error, if it ends with one.
pub fn main<Args: Parser>(run: impl FnOnce(Args) -> Result<()>) -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match &error {
                Error::Interrupted(_) => note(&error),
                _ => note(format_args!("error: {error}")),
            }
            ExitCode::from(status(&error))
        }
    }
}

/// The exit status of an error: 2 for what the user has to mend, 130 after Ctrl-C, else 1.
pub fn status(error: &Error) -> u8 {
    match error {
        Error::Interrupted(_) => 130,
        error if error.is_bad_use() => 2,
        _ => 1,
    }
}
