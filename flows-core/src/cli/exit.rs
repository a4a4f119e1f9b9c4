//! How a program ends.

use super::note;
use crate::{Error, Result};
use clap::Parser;
use std::process::ExitCode;

/// Parses the arguments, runs the program, and shows its error, if it ends with one.
pub fn main<Args: Parser>(run: impl FnOnce(Args) -> Result<()>) -> ExitCode {
    one_candle_thread();
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

/// Keeps candle's own operations on the calling thread, unless `CANDLE_NUM_THREADS` is set.
///
/// Candle waits for its threads by spinning, on the processors that the threads of this crate work
/// on, whenever an operation has 65,536 elements: a backward pass takes up to 20 times as long. To be
/// called first in `main`, as [`main`] does.
pub fn one_candle_thread() {
    const NAME: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(NAME).is_none() {
        // SAFETY: by its documentation this runs before the process has a second thread, which
        // could read the environment meanwhile.
        unsafe { std::env::set_var(NAME, "1") }
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
