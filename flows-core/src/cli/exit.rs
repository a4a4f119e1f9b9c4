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
/// on, whenever an operation has 65,536 elements: a backward pass takes up to 20 times as long. Candle
/// reads the variable from the environment, which a running program cannot change safely: it starts
/// again in its own place. To be called first in `main`, as [`main`] does; on Windows it does nothing.
pub fn one_candle_thread() {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        const NAME: &str = "CANDLE_NUM_THREADS";
        let mut arguments = std::env::args_os();
        if let (None, Ok(program), Some(name)) = (std::env::var_os(NAME), std::env::current_exe(), arguments.next()) {
            // Returns only if it fails, and then only speed is lost.
            let _ = std::process::Command::new(program).arg0(name).args(arguments).env(NAME, "1").exec();
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
