//! The program `ffjord`: continuous normalizing flows.

mod animate;
mod config;
mod eval;
mod images;
mod losses;
mod particles;
mod picture;
mod sample;
mod saved;
mod solve;
mod train;
mod watch;

use clap::{Parser, Subcommand};
use flows_core::{Result, cli};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: cli::Allocator = cli::Allocator;

/// Continuous normalizing flows: densities whose samples flow along a learnt vector field
///
/// `ffjord train` without arguments learns the pinwheel in one or two minutes, and draws its density and samples.
#[derive(Parser)]
#[command(name = "ffjord", version, arg_required_else_help = true, propagate_version = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<train::TrainArgs>),
    Eval(eval::EvalArgs),
    Sample(sample::SampleArgs),
    Animate(animate::AnimateArgs),
    Solve(solve::SolveArgs),
}

fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Train(args) => train::run(*args),
        Command::Eval(args) => eval::run(args),
        Command::Sample(args) => sample::run(args),
        Command::Animate(args) => animate::run(args),
        Command::Solve(args) => solve::run(args),
    }
}

fn main() -> ExitCode {
    cli::main(run)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use flows_core::testing::check_arguments;

    #[test]
    fn arguments_are_consistent_and_explained() -> flows_core::Result<()> {
        check_arguments(super::Args::command(), &[crate::config::PRESETS, crate::images::PRESETS])
    }
}
