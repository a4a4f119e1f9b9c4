//! The command-line interface that the programs of the workspace share: arguments, output, progress.
//!
//! A program's `main` calls [`main`], and its allocator is [`Allocator`]. A subcommand that trains flattens
//! [`RunArgs`], [`DeviceArgs`] and [`OutputArgs`] into its arguments; one that uses a model flattens [`ModelArgs`].
//! Training runs are in [`run`](crate::run). [`main`] passes the [`Ranks`](crate::train::Ranks) that share the work.

mod args;
mod columns;
mod device;
mod exit;
mod images;
mod interrupt;
mod model;
mod output;
mod progress;
mod rows;
mod schema;
mod scores;

pub use crate::text::{count, duration, plural};
pub use args::{OptimizerFlags, OutputArgs, RunArgs, RunFlags, TrainFlags, unset};
pub use columns::Columns;
pub use device::{DeviceArgs, DeviceName};
pub use exit::{main, prepare_process, status};
pub use images::{FitFlags, SkipArgs, describe_images, sides};
pub use interrupt::Interrupt;
/// The allocator of the programs: a step allocates and frees many small tensors, which with the system allocator takes
/// a quarter of the time of a small flow.
pub use mimalloc::MiMalloc as Allocator;
pub use model::{ModelArgs, model_file};
pub use output::{check_extension, check_out, note, print, print_json, print_or_json, write_json};
pub use progress::{ProgressBar, log_likelihoods, with_bar, work_bar};
pub use rows::{check_draws, describe_rows, draw_rows, write_frame_rows, write_rows};
pub use schema::{check_strict, describe_table};
pub use scores::write_scores;
