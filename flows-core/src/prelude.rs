//! What most programs with flows use.
//!
//! ```
//! use flows_core::prelude::*;
//! let mut rng = Rng::seed(0);
//! let flow = Flow::new(FlowConfig::new(2, Nsf::default()), &mut rng)?;
//! let (x, log_prob) = draw_with_log_prob(&flow, 100, None, &mut rng)?;
//! assert_eq!((x.dims(), log_prob.dims()), (&[100, 2][..], &[100][..]));
//! # Ok::<(), flows_core::Error>(())
//! ```

pub use crate::bijectors::{Bijector, Chain, Direction, Mode};
pub use crate::distributions::{
    Distribution, Normal, StandardNormal, Transformed, draw, draw_given, draw_with_log_prob, score,
};
pub use crate::flows::{Flow, FlowConfig, Iaf, Maf, NamedFlow, Nsf, RealNvp};
pub use crate::nn::{Network, NetworkConfig, Output, Parameters, Scope};
pub use crate::train::{FitConfig, OptimizerConfig, TrainConfig, Trainer, fit, forward_kl, reverse_kl};
pub use crate::{Config, Error, Model, Result, Rng, Structure};
pub use candle_core::{DType, Device, Tensor};
