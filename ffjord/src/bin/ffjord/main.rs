//! The program `ffjord`: continuous normalizing flows.

mod animate;
mod eval;
mod images;
mod kind;
mod sample;
mod solve;
mod tables;
mod train;

use candle_core::Device;
use clap::{Parser, Subcommand};
use ffjord::{ContinuousFlow, ImageModel};
use flows_core::distributions::Distribution;
use flows_core::run::InfoArgs;
use flows_core::train::Ranks;
use flows_core::{Result, cli};
use kind::Kind;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: cli::Allocator = cli::Allocator;

/// Continuous normalizing flows: densities whose samples move along a learnt vector field
///
/// `ffjord train` without arguments learns the pinwheel density in one or two minutes, and draws density and samples.
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
    #[command(after_long_help = "Example:\n  ffjord info runs/pinwheel")]
    Info(InfoArgs),
    Solve(solve::SolveArgs),
}

fn run(args: Args, ranks: &Ranks) -> Result<()> {
    match args.command {
        Command::Train(args) if Kind::of_run(&args)? == Kind::Images => images::train(*args, ranks),
        Command::Train(args) => tables::train(*args, ranks),
        Command::Eval(args) => eval::run(args, ranks),
        // Subcommands that do not divide their work run on rank 0 only.
        _ if !ranks.is_first() => Ok(()),
        Command::Sample(args) => sample::run(args),
        Command::Animate(args) => animate::run(args),
        Command::Info(args) => info(args),
        Command::Solve(args) => solve::run(args),
    }
}

fn info(args: InfoArgs) -> Result<()> {
    let path = args.file()?;
    if Kind::of_model(&path)? == Kind::Images {
        let model = ImageModel::load(path, &Device::Cpu)?;
        return args.show(ImageModel::KIND, model.config(), model.parameters(), model.structure());
    }
    let model = ContinuousFlow::load(path, &Device::Cpu)?;
    args.show(ContinuousFlow::KIND, model.config(), model.parameters(), model.structure())
}

fn main() -> ExitCode {
    cli::main(run)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use ffjord::run::{images, tables};
    use flows_core::run::Settings;
    use flows_core::testing::{check_arguments, check_presets};

    #[test]
    fn arguments_are_consistent_and_explained() -> flows_core::Result<()> {
        check_arguments(super::Args::command(), &[tables::PRESETS, images::PRESETS])
    }

    #[test]
    fn every_preset_is_a_run_and_survives_its_file() -> flows_core::Result<()> {
        check_presets(tables::PRESETS, "rings", tables::RunConfig::check)?;
        check_presets(images::PRESETS, "images.npy", images::RunConfig::check)
    }
}
