//! The program `flows`: densities of tables and of points in the plane.

mod config;
mod eval;
mod figures;
mod plot;
mod sample;
mod score;
mod train;

use candle_core::Device;
use clap::{Parser, Subcommand};
use flows_core::flows::TableModel;
use flows_core::run::{CheckArgs, ImputeArgs, InfoArgs, InspectArgs};
use flows_core::train::Ranks;
use flows_core::{Result, cli};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: cli::Allocator = cli::Allocator;

/// Normalizing flows for tables of numbers and points in the plane
///
/// A flow is a trained probability density: it evaluates how likely a row is, finds unusual rows,
/// and draws new ones. `flows train` without arguments learns the two moons in less than a minute.
#[derive(Parser)]
#[command(name = "flows", version, arg_required_else_help = true, propagate_version = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<train::TrainArgs>),
    #[command(after_long_help = "Examples:\n  flows inspect prices.csv\n  flows inspect prices.csv --out margins.png")]
    Inspect(InspectArgs),
    Eval(eval::EvalArgs),
    Check(CheckArgs),
    Impute(ImputeArgs),
    Score(score::ScoreArgs),
    Sample(sample::SampleArgs),
    Plot(plot::PlotArgs),
    #[command(after_long_help = "Example:\n  flows info runs/two-moons")]
    Info(InfoArgs),
    Figures(figures::FiguresArgs),
}

fn run(args: Args, ranks: &Ranks) -> Result<()> {
    match args.command {
        Command::Train(args) => train::run(*args, ranks),
        Command::Eval(args) => eval::run(args, ranks),
        Command::Score(args) => score::run(args, ranks),
        // Subcommands that do not divide their work run on rank 0 only.
        _ if !ranks.is_first() => Ok(()),
        Command::Inspect(args) => args.show(),
        Command::Check(args) => args.run::<config::RunConfig>(),
        Command::Impute(args) => args.run::<config::RunConfig>(),
        Command::Sample(args) => sample::run(args),
        Command::Plot(args) => plot::run(args),
        Command::Info(args) => {
            let flow = TableModel::load(args.file()?, &Device::Cpu)?;
            args.show(TableModel::KIND, flow.config(), flow.parameters(), &flow)
        }
        Command::Figures(args) => figures::run(&args),
    }
}

fn main() -> ExitCode {
    cli::main(run)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use flows_core::run::Settings;
    use flows_core::testing::{check_arguments, check_presets};

    #[test]
    fn arguments_are_consistent_and_explained() -> flows_core::Result<()> {
        check_arguments(super::Args::command(), &[crate::config::PROGRAM.presets])
    }

    #[test]
    fn every_preset_is_a_run_and_survives_its_file() -> flows_core::Result<()> {
        check_presets(crate::config::PROGRAM.presets, "rings", crate::config::RunConfig::check)
    }
}
