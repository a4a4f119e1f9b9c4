//! The program `glow`: images.

mod edit;
mod eval;
mod exchange;
mod interpolate;
mod pictures;
mod reconstruct;
mod sample;
mod saved;
mod super_resolve;
mod train;

use candle_core::Device;
use clap::{Parser, Subcommand};
use flows_core::run::InfoArgs;
use flows_core::train::Ranks;
use flows_core::{Result, cli};
use glow::Glow;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: cli::Allocator = cli::Allocator;

/// Glow: a normalizing flow over images
///
/// A model is an exact density of images and a bijection between images and noise: it evaluates how likely an image is,
/// draws new ones, and interpolates between them. `glow train` without arguments learns synthetic digits in about two
/// minutes.
#[derive(Parser)]
#[command(name = "glow", version, arg_required_else_help = true, propagate_version = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<train::TrainArgs>),
    Eval(eval::EvalArgs),
    Sample(sample::SampleArgs),
    Reconstruct(reconstruct::ReconstructArgs),
    Interpolate(interpolate::InterpolateArgs),
    Edit(edit::EditArgs),
    SuperResolve(super_resolve::SuperResolveArgs),
    #[command(after_long_help = "Example:\n  glow info runs/digits")]
    Info(InfoArgs),
    Import(exchange::ImportArgs),
    Export(exchange::ExportArgs),
}

fn run(args: Args, ranks: &Ranks) -> Result<()> {
    match args.command {
        Command::Train(args) => train::run(*args, ranks),
        Command::Eval(args) => eval::run(args, ranks),
        // Subcommands that do not divide their work run on rank 0 only.
        _ if !ranks.is_first() => Ok(()),
        Command::Sample(args) => sample::run(args),
        Command::Reconstruct(args) => reconstruct::run(args),
        Command::Interpolate(args) => interpolate::run(args),
        Command::Edit(args) => edit::run(args),
        Command::SuperResolve(args) => super_resolve::run(args),
        Command::Info(args) => {
            let glow = Glow::load(args.file()?, &Device::Cpu)?;
            args.show(Glow::KIND, glow.config(), glow.parameters(), &glow)
        }
        Command::Import(args) => exchange::import(args),
        Command::Export(args) => exchange::export(args),
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
        check_arguments(super::Args::command(), &[glow::run::PRESETS])
    }

    #[test]
    fn every_preset_is_a_run_and_survives_its_file() -> flows_core::Result<()> {
        check_presets(glow::run::PRESETS, "images", glow::run::RunConfig::check)
    }
}
