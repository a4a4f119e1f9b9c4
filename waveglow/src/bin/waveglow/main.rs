//! The program `waveglow`: audio.

mod convert_checkpoint;
mod eval;
mod mel;
mod saved;
mod spectrograms;
mod train;
mod vocode;

use candle_core::Device;
use clap::{Parser, Subcommand};
use flows_core::run::InfoArgs;
use flows_core::train::Ranks;
use flows_core::{Result, cli};
use std::process::ExitCode;
use waveglow::AudioFlow;

#[global_allocator]
static ALLOCATOR: cli::Allocator = cli::Allocator;

/// WaveGlow: normalizing flows over audio
///
/// A model is an exact density of sound given its mel spectrogram, and turns spectrograms into sound. `waveglow train`
/// without arguments learns plucked strings and bells, which it makes itself, in about two minutes. Checkpoints of
/// WaveGlow in PyTorch's format can be used wherever a model can.
#[derive(Parser)]
#[command(name = "waveglow", version, arg_required_else_help = true, propagate_version = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<train::TrainArgs>),
    Vocode(vocode::VocodeArgs),
    Mel(mel::MelArgs),
    Eval(eval::EvalArgs),
    #[command(after_long_help = "Example:\n  waveglow info runs/plucks")]
    Info(InfoArgs),
    ConvertCheckpoint(convert_checkpoint::ConvertArgs),
}

fn run(args: Args, ranks: &Ranks) -> Result<()> {
    match args.command {
        Command::Train(args) => train::run(*args, ranks),
        // Subcommands that do not divide their work run on rank 0 only.
        _ if !ranks.is_first() => Ok(()),
        Command::Vocode(args) => vocode::run(args),
        Command::Mel(args) => mel::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Info(args) => {
            let model = saved::load(args.file()?, &Device::Cpu)?;
            args.show(AudioFlow::KIND, model.config(), model.parameters(), &model)
        }
        Command::ConvertCheckpoint(args) => convert_checkpoint::run(args),
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
        check_arguments(super::Args::command(), &[waveglow::run::PRESETS])
    }

    #[test]
    fn every_preset_is_a_run_and_survives_its_file() -> flows_core::Result<()> {
        check_presets(waveglow::run::PRESETS, "clips", waveglow::run::RunConfig::check)
    }
}
