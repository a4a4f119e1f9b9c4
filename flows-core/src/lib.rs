//! Normalizing flows on candle: bijectors, distributions, likelihood and training.
//!
//! A normalizing flow is a probability density made of a simple one, its base, and an invertible map with weights, a
//! bijector. It gives the exact log-density of any point, draws new points, and can be trained by either. The
//! introduction in the repository, `docs/introduction.md`, starts from there; this page is a tour of the library.
//!
//! # A tour
//!
//! Data are candle's tensors, one row an observation: (B, D), or (B, C, H, W) for images. A [`bijectors::Bijector`] maps
//! them from the base to the data (`forward`, z -> x) and back (`inverse`, x -> z), each with the logarithm of the
//! determinant of that direction's Jacobian, (B):
//!
//! ```
//! use flows_core::Result;
//! use flows_core::bijectors::{Bijector, FixedAffine};
//! use flows_core::candle_core::{Device, Tensor};
//!
//! fn main() -> Result<()> {
//!     let doubled = FixedAffine::scale(&[2.0, 2.0])?;
//!     let (x, log_det) = doubled.forward(&Tensor::new(&[[1.0, 3.0]], &Device::Cpu)?, None)?;
//!     assert_eq!(x.to_vec2::<f64>()?, [[2.0, 6.0]]);
//!     assert!((log_det.to_vec1::<f64>()?[0] - 4f64.ln()).abs() < 1e-12);
//!     Ok(())
//! }
//! ```
//!
//! A base pushed through a bijector is a [`distributions::Transformed`], which like every
//! [`distributions::Distribution`] has `log_prob` and `sample`. A bijector takes its weights from a [`nn::Scope`] of a
//! store, [`nn::Parameters`]; several bijectors make a [`bijectors::Chain`]. Most programs need none of that: the flows
//! of papers have a name and a config in [`flows`], and a [`flows::Flow`] has its parameters with it. [`train::fit`]
//! trains one by maximum likelihood, and one file saves it. The [`prelude`] has what most programs need:
//!
//! ```
//! use flows_core::data::Toy;
//! use flows_core::prelude::*;
//!
//! fn main() -> Result<()> {
//!     // All randomness comes from a generator that is passed in: one seed, one result.
//!     let mut rng = Rng::seed(0);
//!     let x = Toy::TwoMoons.sample(10_000, &mut rng)?;
//!     let flow = Flow::new(FlowConfig::new(2, RealNvp { layers: 6, ..RealNvp::default() }), &mut rng)?;
//!     let train = TrainConfig { steps: 300, optimizer: OptimizerConfig::adam(3e-3), ..TrainConfig::default() };
//!     fit(&flow, &x, FitConfig { train, ..FitConfig::default() }, &mut rng)?;
//!
//!     let path = std::env::temp_dir().join("tour.safetensors");
//!     flow.save(&path)?;
//!     let flow = Flow::load(&path, &Device::Cpu)?;
//!     let nats = score(&flow, &x, None)?.mean_all()?.to_scalar::<f32>()?;
//!     assert!(nats > -2.9, "{nats}"); // At best -2.39; a normal density has -3.2.
//!     assert_eq!(draw(&flow, 5, None, &mut rng)?.dims(), [5, 2]);
//!     Ok(())
//! }
//! ```
//!
//! With a context, (B, C), a flow is a conditional density: `FlowConfig::new(..).with_context(C)`, a pair of data and
//! contexts for `fit`, and `Some(&context)` wherever `None` stands above; [`distributions::Distribution::given`] is the
//! density at one context. Where there is no data but a formula for its density, [`train::reverse_kl`] is the loss and
//! [`train::Trainer`] the loop; [`train::Step`] is for loops of your own. [`evaluate`] has means with their errors,
//! importance weights and bits per dimension, [`plot`] draws, [`data`] reads tables and images. The folder `examples`
//! has a short program for each of these.
//!
//! # Constraints
//!
//! A [`bijectors::Support`] says where values lie (positive numbers, intervals, the simplex, covariances, bounds that
//! depend on other parameters, products of these by name) and has a bijector onto that set. A flow ends with it:
//! `FlowConfig::over(support, ..)`, or `with_bounds` for columns between numbers. `examples/posterior.rs` is variational
//! inference with one.
//!
//! # If you come from Python
//!
//! | zuko, nflows, Pyro | here |
//! |---|---|
//! | a transform; a flow | [`Bijector`](bijectors::Bijector); [`Transformed`](distributions::Transformed), or [`Flow`](flows::Flow) by name |
//! | `forward`, x -> z in zuko and nflows | `inverse`: `forward` is z -> x, as in Pyro |
//! | `CompositeTransform`, `ComposeTransform` | [`Chain`](bijectors::Chain), whose first step is next to the base |
//! | `flow.log_prob(x)`, `flow(c).log_prob(x)` | [`score`](distributions::score), on all threads and without a graph; `log_prob` with gradients |
//! | `sample`, `rsample_and_log_prob` | [`draw`](distributions::draw), [`draw_with_log_prob`](distributions::draw_with_log_prob); `sample`, `sample_with_log_prob` with gradients |
//! | `flow(c)`, `condition(c)` | [`given`](distributions::Distribution::given); [`draw_given`](distributions::draw_given) for many contexts |
//! | `constraints`, `biject_to` | [`Support`](bijectors::Support), [`Support::bijector`](bijectors::Support::bijector) |
//! | a module's parameters, `state_dict` | [`Scope::weight`](nn::Scope::weight); [`Model::save`], [`Model::load`] |
//! | `SVI` with `Trace_ELBO` | [`reverse_kl`](train::reverse_kl) in a [`Trainer`](train::Trainer) |
//! | `torch.manual_seed` | an [`Rng`] that is passed to whatever draws |
//!
//! # Which flow
//!
//! | you want | take | because |
//! |---|---|---|
//! | the density of a table | [`Nsf`](flows::Nsf) | both directions are one pass, and splines bend where they must |
//! | the best likelihood, samples rarely | [`NsfAutoregressive`](flows::NsfAutoregressive), [`Maf`](flows::Maf) | each number is conditioned on all before it |
//! | samples in the loop (reverse KL) | [`RealNvp`](flows::RealNvp), [`Nsf`](flows::Nsf), [`Iaf`](flows::Iaf) | a sample is one pass, and so is its density |
//! | little data, many columns | [`RealNvp`](flows::RealNvp), [`Maf`](flows::Maf) with small networks | fewer weights |
//! | angles | [`CircularSpline`](flows::CircularSpline) | its density is the same at -pi and pi |
//! | flow weights made by a network | [`PlanarFlow`](flows::PlanarFlow), [`SylvesterFlow`](flows::SylvesterFlow), [`Iaf`](flows::Iaf) | few numbers a layer, all from the context |
//! | images | the crate `glow` | levels, convolutions, learned priors |
//! | any network at all; particles | the crate `ffjord` | the flow of any smooth vector field is invertible |
//!
//! # Your own bijector
//!
//! A bijector states its shape, how it maps in each direction and, for people to read, its [`Structure`]. It then works
//! in chains, flows and training like those of the library; [`testing::measure`] compares its log-determinant with
//! autograd's Jacobian. This is `examples/own_bijector.rs`:
//!
//! ```
#![doc = include_str!("../examples/own_bijector.rs")]
//! ```
//!
//! For an increasing function of one number write a [`bijectors::univariate::Univariate`], which couplings,
//! autoregressive layers and element-wise maps take.
//!
//! # Your own conditioner, and your own flow
//!
//! A conditioner is a [`nn::Network`]. [`bijectors::Coupling::with_network`] takes one over vectors,
//! [`bijectors::Coupling::over_channels`] one over signals or images of any size, [`bijectors::Embed`] one that makes a
//! context of another (a summary of a signal, say), or a bijector of your own calls it, as below;
//! `examples/own_conditioner.rs` writes one over signals. A serialisable
//! [`Config`] that builds a distribution in a scope makes a [`Model`] of it, with parameters, saving and loading. This is
//! `examples/own_flow.rs`:
//!
//! ```
#![doc = include_str!("../examples/own_flow.rs")]
//! ```
//!
//! # Features
//!
//! All are on by default; with `default-features = false` the crate is the library alone, with few dependencies.
//!
//! - `cli`: what the programs share, and the program `flows`; includes the others.
//! - `hub`: fetches files from the Hugging Face Hub; without it `hub::Address::fetch` is an error.
//! - `images`: `data::images`, image files and Parquet files of images.
//! - `tables`: Parquet files, and tables that are compressed.
//! - `plot`: pictures as SVG and PNG.
//!
//! Off by default: `cuda` for NVIDIA's GPUs, `mkl` for Intel's matrix products, `mpi` for training on many machines.
//!
//! # Vector instructions
//!
//! Kernels use the widest vectors that the processor has, AVX-512, AVX2, NEON or the target's own, with the same results
//! to the bit. The environment variable `FLOWS_SIMD` (`avx512`, `avx2`, `neon`, `plain`) forces others, for tests and
//! timings: `FLOWS_SIMD=avx2 cargo bench -p flows-core`. It does not affect matrix products, where gemm, faer and MKL
//! choose for themselves, nor candle's own operations: see [`ops::Simd`].

/// The README and the introduction, whose code is tested with the documentation.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/introduction/densities.md")]
    struct Densities;
    #[doc = include_str!("../../docs/introduction/maps.md")]
    struct Maps;
    #[doc = include_str!("../../docs/introduction/flows.md")]
    struct Flows;
}

mod error;
mod random;
mod structure;

pub mod bijectors;
#[cfg(feature = "cli")]
pub mod cli;
pub mod data;
pub mod distributions;
pub mod evaluate;
pub mod files;
pub mod flows;
pub mod hub;
pub mod latent;
pub mod model;
pub mod nn;
pub mod ops;
#[cfg(feature = "plot")]
pub mod plot;
pub mod prelude;
#[cfg(feature = "cli")]
pub mod run;
pub mod shape;
pub mod testing;
pub mod text;
pub mod train;

pub use error::{Error, Result};
pub use model::{Config, Model};
pub use random::Rng;
pub use structure::Structure;

pub use candle_core;
pub use rand_distr;
