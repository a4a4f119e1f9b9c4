//! Training for every model of the workspace: optimisers, schedules, the loop, checkpoints, metrics.
//!
//! The loop knows nothing of flows: it takes a closure that gives a scalar loss.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use flows_core::nn::{Init, Parameters};
//! use flows_core::train::{Outcome, TrainConfig, Trainer};
//! use flows_core::Rng;
//! let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
//! let x = parameters.scope().weight("x", 2, Init::Constant(3.0))?;
//! let mut trainer = Trainer::new(&parameters, TrainConfig { steps: 5, ..Default::default() }, Rng::seed(1))?;
//! let outcome = trainer.run(|_batch, _rng| Ok(x.sqr()?.sum_all()?), None, &mut ())?;
//! assert_eq!(outcome, Outcome::Finished);
//! # Ok::<(), flows_core::Error>(())
//! ```

mod checkpoint;
mod clip;
mod config;
mod ema;
mod gradients;
mod groups;
mod memory;
mod metrics;
mod objective;
mod observer;
mod optimizer;
mod optimizer_config;
mod rule;
mod schedule;
mod slices;
mod soft_update;
mod state;
mod tensorboard;
mod trainer;

pub use checkpoint::Checkpoint;
pub use clip::{clip_by_norm, gradient_norm};
pub use config::TrainConfig;
pub use ema::{Ema, EmaConfig};
pub use gradients::{Loss, LossGradients};
pub use groups::ParameterGroup;
pub use memory::{FlowLoss, Memory};
pub use metrics::Metrics;
pub use objective::{conditional_reverse_kl, forward_kl, reverse_kl};
pub use observer::{Observer, StepEvent};
pub use optimizer::Optimizer;
pub use optimizer_config::OptimizerConfig;
pub use schedule::{Schedule, Scheduler, SchedulerState};
pub use soft_update::soft_update;
pub use tensorboard::TensorBoard;
pub use trainer::{Evaluate, Outcome, Trainer};
