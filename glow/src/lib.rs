//! Glow: images as a normalizing flow (Kingma and Dhariwal, 2018, arXiv:1807.03039).
//!
//! ```
//! use flows_core::{Rng, distributions::Distribution};
//! use glow::{Glow, GlowConfig};
//! let mut rng = Rng::seed(0);
//! let config = GlowConfig { levels: 2, steps: 2, hidden: 16, ..GlowConfig::new([1, 8, 8]) };
//! let glow = Glow::new(config, &mut rng)?;
//! let x = glow.sample(3, None, &mut rng)?;
//! assert_eq!(x.dims(), [3, 1, 8, 8]);
//! # Ok::<(), flows_core::Error>(())
//! ```

/// The chapter of the introduction, whose code is tested with the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../docs/introduction/images.md")]
struct Chapter;

mod answers;
mod class_features;
mod config;
mod conv;
mod coupling;
mod dequantizer;
mod encoder;
mod evaluate;
mod injector;
mod model;
mod prior;
mod rosinality;
#[cfg(feature = "cli")]
pub mod run;
mod step;

pub use answers::{Answers, AnswersPsnr};
pub use class_features::ClassFeatures;
pub use config::{Condition, CouplingKind, Dequantizer, GlowConfig, Mixing};
pub use coupling::coupling;
pub use dequantizer::dequantizer;
pub use encoder::Encoder;
pub use evaluate::{Bits, class_context, context, log_likelihoods};
pub use injector::injector;
pub use model::{Glow, GlowDensity};
pub use prior::{TopPrior, normal_prior};
pub use rosinality::{from_state_dict, read_state_dict, state_dict};
pub use step::{flow, levels};
