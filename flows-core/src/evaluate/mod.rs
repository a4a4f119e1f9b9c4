//! Evaluation of models: means with standard errors, log-likelihoods and those of simple densities, bits per dimension,
//! importance weights, checks of draws against data.
//!
//! ```
//! use flows_core::distributions::{Distribution, StandardNormal};
//! use flows_core::evaluate::{ImportanceWeights, Mean};
//! use flows_core::Rng;
//! use candle_core::{DType, Device};
//! let q = StandardNormal::new([2], DType::F64, &Device::Cpu)?;
//! // 3 exp(-|x|^2 / 2), whose integral is 6 pi.
//! let log_density = |x: &_| Ok((q.log_prob(x, None)? + (6.0 * std::f64::consts::PI).ln())?);
//! let weights = ImportanceWeights::draw(&q, log_density, 1000, None, &mut Rng::seed(0))?;
//! assert!((weights.log_evidence() - (6.0 * std::f64::consts::PI).ln()).abs() < 1e-9);
//! assert!((weights.effective_sample_size() - 1000.0).abs() < 1e-6);
//! assert_eq!(Mean::of(&[1.0, 2.0, 3.0]).mean, 2.0);
//! # Ok::<(), flows_core::Error>(())
//! ```

mod baselines;
mod bits;
mod check;
mod exact;
mod importance;
mod likelihood;
mod mean;
mod percentile;
mod psnr;

pub(crate) use baselines::cholesky;
#[cfg(feature = "cli")]
pub(crate) use baselines::log_sum_exp;
pub use baselines::{Baseline, Split, baselines};
pub use bits::{BitsPerDimension, ImageBits, bits_per_dimension};
pub use check::{
    Calibration, Check, Classifier, Coverage, Dependence, Distance, Finding, Margin, PairDifference, TransformedColumn,
    Transforms, ValueShares, Variable, VariableKind, Verdict, wasserstein,
};
pub(crate) use check::{chi_squared, evenly, normal};
pub use exact::Exact;
pub use importance::ImportanceWeights;
pub use likelihood::{Likelihood, in_chunks, log_likelihoods, noisy_log_likelihoods};
pub use mean::Mean;
pub use percentile::{Ranked, Typical};
pub use psnr::psnr;
