//! A training run of a program: its settings, folder, random streams, observers and results.
//!
//! A [`Program`] describes what a program calls its runs and settings. [`Program::open`] merges the settings of preset,
//! file and flags, and returns them with a [`Run`] in a locked folder, which is new, resumed, or replaces another run.
//! The training loop belongs to the program. It calls [`Run::start`] (or [`Run::begin`], if it saves what it trains
//! itself), passes each step to [`Run::watch`], and ends with [`Run::trained`], [`Run::save_results`] and
//! [`Run::report`]. With several [`Ranks`](crate::train::Ranks), all make these calls in the same order, and only rank
//! 0 writes files and prints.
//!
//! ```
//! use candle_core::{DType, Device};
//! use flows_core::cli::{OutputArgs, RunArgs};
//! use flows_core::nn::{Init, Parameters};
//! use flows_core::run::{Loss, Presets, Program, Settings, stream};
//! use flows_core::train::{Ranks, TrainConfig, Trainer};
//! use flows_core::{Result, Rng};
//! use serde::{Deserialize, Serialize};
//!
//! const PROGRAM: Program = Program {
//!     name: "squares",
//!     presets: Presets::new("[small]\nabout = 'a moment'\ndata = 'three'\ntrain.steps = 5\n"),
//!     subject: "data",
//!     counted: "numbers",
//!     files: &[],
//!     kept: &["data"],
//!     changeable: &[],
//! };
//!
//! #[derive(Serialize, Deserialize)]
//! struct Config {
//!     data: String,
//!     #[serde(default)]
//!     seed: u64,
//!     train: TrainConfig,
//! }
//!
//! impl Settings for Config {}
//!
//! /// The program's own flags, laid out like the settings; a real program also derives `clap::Args`.
//! #[derive(Serialize)]
//! struct Flags {
//!     data: Option<String>,
//! }
//!
//! enum Stream {
//!     Weights,
//!     Training,
//! }
//!
//! # fn main() -> Result<()> {
//! # let folder = std::env::temp_dir().join(format!("flows-run-{}", std::process::id()));
//! let output = OutputArgs { quiet: true, ..Default::default() };
//! let args = RunArgs { out: Some(folder.clone()), overwrite: true, ..Default::default() };
//! let (ranks, flags) = (Ranks::alone(), Flags { data: None });
//! let (mut run, config): (_, Config) = PROGRAM.open(&args, output, "small", &flags, &ranks)?;
//! let parameters = Parameters::new(DType::F64, &Device::Cpu, stream(config.seed, Stream::Weights as usize));
//! let x = parameters.scope().weight("x", 2, Init::Constant(3.0))?;
//! let trainer = Trainer::new(&parameters, config.train.clone(), stream(config.seed, Stream::Training as usize))?;
//! let mut trainer = run.start(trainer, "square", &"x^2", &config)?;
//! let outcome = trainer.run(|_, _| Ok(x.sqr()?.sum_all()?), None, &mut run.watch(trainer.step(), 5)?)?;
//! let trained = run.trained(outcome, &trainer, config.train.steps, vec![Loss::all("squares")])?;
//! run.save_results(&trained)?;
//! run.report(&trained, &trained.lines("trained", "written"))?;
//! # std::fs::remove_dir_all(folder).ok();
//! # Ok(())
//! # }
//! ```

mod check;
mod folder;
mod images;
mod impute;
mod info;
mod inspect;
mod lock;
mod losses;
mod margins;
mod pictures;
mod plane;
mod program;
mod reference;
mod results;
mod saved;
mod settings;
mod tables;
mod training;
mod watch;

pub use check::{CheckArgs, check_figure};
pub use images::{FoundImages, ImageData, ImageSettings, ImageStream};
pub use impute::ImputeArgs;
pub use info::InfoArgs;
pub use inspect::InspectArgs;
pub use losses::{Losses, loss_figure, loss_panels};
pub use margins::{margins_compared, margins_figure};
pub use pictures::table_figure;
pub use plane::{density, plane_figure};
pub use program::{Program, Settings};
pub use reference::{Reference, RowScore};
pub use results::{Loss, Trained};
pub use saved::Saved;
pub use settings::{
    Presets, Rows, check_at_least_one, check_count, check_temperature, check_training, overlay, parse_settings,
    read_settings, with_decided, without, write_settings,
};
pub use tables::{Blocks, ContextArgs, DataArgs, TableSettings};
pub use training::Run;
pub use watch::Watch;

use crate::Rng;

/// The generator of random stream `index` of a run with this `seed`: the streams are independent, and drawing from one
/// does not affect another. A program lists its streams in an enum, whose order must not change.
pub fn stream(seed: u64, index: usize) -> Rng {
    let mut seed = Rng::seed(seed);
    for _ in 0..index {
        seed.fork();
    }
    seed.fork()
}
