//! How a program ends.

use super::note;
use crate::ops::Simd;
use crate::train::Ranks;
use crate::{Error, Result};
use clap::Parser;
use std::process::ExitCode;

/// Parses the arguments, runs the program, alone or as one of the ranks that an MPI launcher has started, and shows its
/// error, if it ends with one.
pub fn main<Args: Parser>(run: impl FnOnce(Args, &Ranks) -> Result<()> + Send) -> ExitCode {
    prepare_process();
    ExitCode::from(with_stack(|| match Ranks::start() {
        Ok(ranks) => run_as(run, &ranks),
        Err(error) => report(&error, &Ranks::alone()),
    }))
}

/// Parses the arguments, runs the program, and gives its exit status.
fn run_as<Args: Parser>(run: impl FnOnce(Args, &Ranks) -> Result<()>, ranks: &Ranks) -> u8 {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            if ranks.is_first() {
                error.print().ok();
            }
            return error.exit_code() as u8;
        }
    };
    let result = Simd::chosen().and_then(|_| run(args, ranks));
    let result = ranks.finish(result, |error| report(error, ranks));
    result.map_or_else(|error| report(&error, ranks), |()| 0)
}

/// Shows an error, and gives its exit status.
fn report(error: &Error, ranks: &Ranks) -> u8 {
    match (error, ranks.rank()) {
        (Error::Interrupted(_), 0) => note(error),
        (Error::Interrupted(_), _) => {}
        (_, 0) => note(format_args!("error: {error}")),
        (_, rank) => note(format_args!("error on rank {rank}: {error}")),
    }
    status(error)
}

/// Calls `run` on a thread whose stack is large: candle follows a graph by recursion, as deep as a chain of operations
/// is long, such as those of a solver's steps.
fn with_stack(run: impl FnOnce() -> u8 + Send) -> u8 {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("main".into()).stack_size(STACK);
        match thread.spawn_scoped(scope, run) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => {
                let message = format!("a thread with a stack of {STACK} bytes cannot be had ({error})");
                report(&Error::Io(format!("{message}: raise the limit of memory")), &Ranks::alone())
            }
        }
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
