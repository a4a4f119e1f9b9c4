//! What the programs of the workspace share: arguments, settings, folders of runs, progress, results.
//!
//! A program's `main` is [`main`]; a subcommand that trains flattens [`RunArgs`], [`DeviceArgs`] and
//! [`OutputArgs`] into its arguments, layers its settings with [`Presets`] and [`RunArgs::layer`], and
//! watches the run through [`RunFolder::observers`]. Its allocator is [`Allocator`].

mod args;
mod columns;
mod device;
mod exit;
mod folder;
mod images;
mod interrupt;
mod likelihood;
mod losses;
mod mean;
mod model;
mod output;
mod progress;
mod settings;

pub use args::{OutputArgs, RunArgs};
pub use columns::in_order;
pub use device::{DeviceArgs, DeviceName};
pub use exit::{main, prepare_process, status};
pub use folder::{Replaced, RunFolder};
pub use images::{FitArgs, SkipArgs, describe_images};
pub use interrupt::Interrupt;
pub use likelihood::{Exact, Likelihood, log_likelihoods};
pub use losses::{Losses, loss_figure, loss_panel};
pub use mean::Mean;
/// The allocator of the programs: a step makes and drops many small tensors, which takes a quarter of
/// the time of a small flow with the system's.
pub use mimalloc::MiMalloc as Allocator;
pub use model::{ModelArgs, model_file, settings_of_run};
pub use output::{check_out, check_png, count, duration, note, plural, print, print_json, write_json};
pub use progress::{ProgressBar, work_bar};
pub use settings::{Presets, check_count, check_temperature, overlay, parse_settings, read_settings, write_settings};
