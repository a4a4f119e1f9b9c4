//! Training for every model of the workspace: optimisers, schedules, the loop, checkpoints, metrics.
//!
//! [`fit`] is maximum likelihood in one call. [`Trainer`] minimises one loss over the weights of one store. It knows
//! nothing of flows: it takes a closure that returns a scalar.
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
//!
//! Where one loss is not enough, build another loop from the same parts: a [`Step`] for each optimiser,
//! [`soft_update`] for target networks, and a [`Snapshot`] of everything in one file. Here an
//! actor and a critic, with a target network, learn to answer a state s with the action s / 2:
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use flows_core::nn::{Mode, Network, NetworkConfig, Output, Parameters};
//! use flows_core::train::{Optimizer, OptimizerConfig, Snapshot, Step, soft_update};
//! use flows_core::{Result, Rng};
//!
//! let mut rng = Rng::seed(0);
//! let network = |inputs, parameters: &Parameters| {
//!     NetworkConfig::mlp([32, 32]).build(inputs, None, Output { width: 1, gain: 1.0, bias: None }, &parameters.scope())
//! };
//! let actor_parameters = Parameters::new(DType::F32, &Device::Cpu, rng.fork());
//! let critic_parameters = Parameters::new(DType::F32, &Device::Cpu, rng.fork());
//! let (actor, critic) = (network(1, &actor_parameters)?, network(2, &critic_parameters)?);
//! let target_parameters = critic_parameters.to_device(&Device::Cpu);
//! let target = network(2, &target_parameters)?;
//! let step = |lr, of: &Parameters| Step::new(Optimizer::new(OptimizerConfig::adam(lr), of)?, of);
//! let (mut actor_step, mut critic_step) = (step(3e-3, &actor_parameters)?, step(1e-2, &critic_parameters)?);
//!
//! let apply = |network: &dyn Network, x: &Tensor| network.forward(x, None, &mut Mode::evaluation());
//! for _ in 0..150 {
//!     let state = rng.normal_tensor((64, 1), DType::F32, &Device::Cpu)?;
//!     let next = rng.normal_tensor((64, 1), DType::F32, &Device::Cpu)?;
//!     let action = (apply(&*actor, &state)? + rng.normal_tensor((64, 1), DType::F32, &Device::Cpu)?)?.detach();
//!     let reward = (&action - (&state * 0.5)?)?.sqr()?.neg()?;
//!     let value = |critic: &dyn Network, state: &Tensor, action: &Tensor| -> Result<Tensor> {
//!         apply(critic, &Tensor::cat(&[state, action], 1)?)
//!     };
//!     let later = value(&*target, &next, &apply(&*actor, &next)?)?.detach();
//!     let wanted = (reward + (later * 0.5)?)?;
//!     critic_step.minimize(|| Ok((value(&*critic, &state, &action)? - wanted)?.sqr()?.mean_all()?))?;
//!     actor_step.minimize(|| Ok(value(&*critic, &state, &apply(&*actor, &state)?)?.mean_all()?.neg()?))?;
//!     soft_update(&target_parameters, &critic_parameters, 0.05)?;
//! }
//! let snapshot = Snapshot::new("actor-critic", "{}")?
//!     .with_tensors("actor", actor_parameters.tensors())?
//!     .with_tensors("actor_step", actor_step.state()?)?
//!     .with_value("rng", &rng)?;
//! # let answer = apply(&*actor, &Tensor::new(&[[1f32]], &Device::Cpu)?)?.to_vec2::<f32>()?[0][0];
//! # assert!((answer - 0.5).abs() < 0.2, "{answer}");
//! # Ok::<(), flows_core::Error>(())
//! ```

mod checkpoint;
mod clip;
mod config;
mod ema;
mod fit;
mod gradients;
mod groups;
mod memory;
mod metrics;
mod objective;
mod observer;
mod optimizer;
mod optimizer_config;
mod ranks;
mod rule;
mod schedule;
mod slices;
mod snapshot;
mod soft_update;
mod state;
mod step;
mod tensorboard;
mod trainer;

pub use checkpoint::Checkpoint;
pub use clip::{clip_by_norm, gradient_norm};
pub use config::TrainConfig;
pub use ema::{Ema, EmaConfig};
pub use fit::{Fit, FitConfig, fit};
pub use gradients::{Loss, LossGradients};
pub use groups::ParameterGroup;
pub use memory::{FlowLoss, Memory};
pub use metrics::Metrics;
pub use objective::{conditional_reverse_kl, forward_kl, reverse_kl};
pub use observer::{Observer, StepEvent};
pub use optimizer::Optimizer;
pub use optimizer_config::OptimizerConfig;
#[cfg(feature = "mpi")]
pub use ranks::Mpi;
pub use ranks::{Communicator, Ranks};
pub use schedule::{Schedule, Scheduler, SchedulerState};
pub use snapshot::Snapshot;
pub use soft_update::soft_update;
pub use step::{Step, StepOutcome};
pub use tensorboard::TensorBoard;
pub use trainer::{Evaluate, Outcome, Trainer};
