//! How a program ends.

use super::note;
use crate::ops::Simd;
use crate::{Error, Result};
use clap::Parser;
use std::process::ExitCode;

/// Parses the arguments, runs the program, and shows its error, if it ends with one.
pub fn main<Args: Parser + Send>(run: impl FnOnce(Args) -> Result<()> + Send) -> ExitCode {
    prepare_process();
    let run = |args| {
        Simd::chosen()?;
        run(args)
    };
    match with_stack(run, Args::parse()) {
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

/// Calls `run` on a thread whose stack is large: candle follows a graph by recursion, as deep as a chain of operations
/// is long, such as those of a solver's steps.
fn with_stack<Args: Send>(run: impl FnOnce(Args) -> Result<()> + Send, args: Args) -> Result<()> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("main".into()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, || run(args)).map_err(|e| {
            Error::Io(format!("a thread with a stack of {STACK} bytes cannot be had ({e}): raise the limit of memory"))
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Bytes, of which the system gives those that are used.
const STACK: usize = 1 << 29;

/// Variables of the environment that candle and [`Allocator`](super::Allocator) read at the start of a program.
const ENVIRONMENT: [(&str, &str); 2] = [
    // Candle waits for its threads by spinning, on the processors that the threads of this crate work on, whenever
    // an operation has 65,536 elements: a backward pass takes up to 20 times as long.
    ("CANDLE_NUM_THREADS", "1"),
    // Milliseconds that free memory is kept for. Steps of training need the same memory again and again, and the
    // system clears each page that it gives.
    ("MIMALLOC_PURGE_DELAY", "10000"),
];

/// Starts the program again in its own place with the environment that makes flows fast, unless it is set.
///
/// Candle's own operations are kept on the calling thread, and free memory is kept for ten seconds. A running program
/// cannot change its environment safely. To be called first in `main`, as [`main`] does; on Windows it does nothing.
pub fn prepare_process() {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        let missing: Vec<_> = ENVIRONMENT.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect();
        let mut arguments = std::env::args_os();
        if let (false, Ok(program), Some(name)) = (missing.is_empty(), std::env::current_exe(), arguments.next()) {
            // Returns only if it fails, and then only speed is lost.
            let _ = std::process::Command::new(program).arg0(name).args(arguments).envs(missing).exec();
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
