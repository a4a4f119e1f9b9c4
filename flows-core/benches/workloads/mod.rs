//! The models that are timed.

use candle_core::{DType, Device, Tensor};
use flows_core::bijectors::univariate::{Affine, RqSpline};
use flows_core::bijectors::{Autoregressive, Bijector, Chain, Coupling, Mask};
use flows_core::distributions::{Distribution, StandardNormal, Transformed, draw, score};
use flows_core::flows::{Flow, FlowConfig, Maf, NamedFlow, Nsf, NsfAutoregressive, RealNvp};
use flows_core::nn::{Activation, Linear, Mlp, Mode, Network, NetworkConfig, Output, Parameters};
use flows_core::train::{LossGradients, Optimizer, OptimizerConfig, forward_kl};
use flows_core::{Result, Rng, ops};
use std::sync::Arc;

/// Pieces of a batch, as in a run of `flows train`.
const PIECES: usize = 2;

/// A flow with a batch and an optimiser.
pub struct Workload {
    flow: Box<dyn Distribution>,
    x: Tensor,
    optimizer: Optimizer,
    rng: Rng,
}

impl Workload {
    fn new(features: usize, batch: usize, model: impl Into<NamedFlow>) -> Result<Self> {
        let mut rng = Rng::seed(0);
        let flow = Flow::new(FlowConfig::new(features, model), &mut rng)?;
        let parameters = flow.parameters().clone();
        Self::of(Box::new(flow), &parameters, batch, rng)
    }

    fn of(flow: Box<dyn Distribution>, parameters: &Parameters, batch: usize, mut rng: Rng) -> Result<Self> {
        let x = rng.normal_tensor((batch, flow.event_shape()[0]), DType::F32, &Device::Cpu)?;
        let optimizer = Optimizer::new(OptimizerConfig::adam(1e-3), parameters)?;
        Ok(Self { flow, x, optimizer, rng })
    }

    /// A step of maximum likelihood.
    pub fn train(&mut self) -> Result<()> {
        let Self { flow, x, optimizer, rng } = self;
        let loss = LossGradients::of_pieces(x.dim(0)?, PIECES, rng, |rows, rng| {
            forward_kl(&**flow, &x.narrow(0, rows.start, rows.len())?, None, rng)
        })?;
        match &loss.gradients {
            Some(gradients) => optimizer.step(gradients, 1e-3),
            None => Ok(()),
        }
    }

    /// The log-likelihood of the batch.
    pub fn log_prob(&mut self) -> Result<()> {
        score(&*self.flow, &self.x, None).map(drop)
    }

    /// As many samples as the batch has rows.
    pub fn sample(&mut self) -> Result<()> {
        draw(&*self.flow, self.x.dim(0)?, None, &mut self.rng).map(drop)
    }
}

/// 2 columns, batch 256; 8 affine couplings, MLP 64-64.
pub fn realnvp() -> Result<Workload> {
    Workload::new(2, 256, RealNvp { layers: 8, network: NetworkConfig::mlp([64, 64]), ..RealNvp::default() })
}

/// 21 columns, batch 512; 10 spline couplings with LU maps, 2 residual blocks of 256, 8 bins.
pub fn nsf_coupling() -> Result<Workload> {
    Workload::new(21, 512, Nsf::default())
}

/// 21 columns, batch 512; 10 spline couplings of halves, MLP 256-256, 8 bins, and no other layers.
pub fn nsf_coupling_mlp() -> Result<Workload> {
    let mut rng = Rng::seed(0);
    let parameters = Parameters::new(DType::F32, &Device::Cpu, rng.fork());
    let layer = |i: usize| -> Result<Box<dyn Bijector>> {
        let (mask, spline) = (Mask::Halves { swap: i % 2 == 1 }, Arc::new(RqSpline::linear_tails(8, 3.0)?));
        let network = NetworkConfig::mlp([256, 256]);
        Ok(Box::new(Coupling::new(&[21], &mask, spline, None, &network, &parameters.scope().enter(i))?))
    };
    let chain = Chain::new((0..10).map(layer).collect::<Result<_>>()?)?;
    let flow = Transformed::new(Box::new(StandardNormal::new([21], DType::F32, &Device::Cpu)?), Box::new(chain))?;
    Workload::of(Box::new(flow), &parameters, 512, rng)
}

/// 21 columns, batch 512; 5 autoregressive spline layers, MADE 256-256, 8 bins, no linear maps.
pub fn nsf_autoregressive() -> Result<Workload> {
    let network = NetworkConfig::mlp([256, 256]);
    Workload::new(21, 512, NsfAutoregressive { layers: 5, network, linear: false, ..NsfAutoregressive::default() })
}

/// 43 columns, batch 512; 5 autoregressive affine layers, MADE 512-512.
pub fn maf() -> Result<Workload> {
    Workload::new(43, 512, Maf { network: NetworkConfig::mlp([512, 512]), batch_norm: false, ..Maf::default() })
}

/// The variational autoencoder: 784 pixels, batch 100, 64 latents, MLPs 512-512, 4 IAF layers of MADE 320-320
/// given 64 numbers.
pub struct VaeIaf {
    encoder: Mlp,
    heads: [Linear; 3],
    flow: Chain,
    decoder: Mlp,
    x: Tensor,
    optimizer: Optimizer,
    rng: Rng,
}

impl VaeIaf {
    pub fn new() -> Result<Self> {
        let mut rng = Rng::seed(0);
        let parameters = Parameters::new(DType::F32, &Device::Cpu, rng.fork());
        let scope = parameters.scope();
        let mlp = |from, hidden: &[usize], to, name| {
            Mlp::new(from, hidden, Output::new(to), None, Activation::Relu, &scope.enter(name))
        };
        let head = |name: &str| Linear::new(512, 64, &scope.enter(name));
        let layer = |i: usize| -> Result<Box<dyn Bijector>> {
            let order = (i % 2 == 1).then(|| (0..64).rev().collect());
            let network = NetworkConfig::mlp([320, 320]);
            let scope = scope.enter(format!("flow{i}"));
            Ok(Box::new(Autoregressive::new(64, Arc::new(Affine::default()), Some(64), order, &network, &scope)?))
        };
        let (encoder, decoder) = (mlp(784, &[512], 512, "encoder")?, mlp(64, &[512, 512], 784, "decoder")?);
        Ok(Self {
            encoder,
            decoder,
            heads: [head("mean")?, head("log_scale")?, head("context")?],
            flow: Chain::new((0..4).map(layer).collect::<Result<_>>()?)?,
            x: rng.uniform_tensor((100, 784), DType::F32, &Device::Cpu)?.round()?,
            optimizer: Optimizer::new(OptimizerConfig::adam(1e-3), &parameters)?,
            rng,
        })
    }

    /// A step of the evidence lower bound.
    pub fn train(&mut self) -> Result<()> {
        let Self { encoder, heads, flow, decoder, x, optimizer, rng } = self;
        let [mean, log_scale, context] = &*heads;
        let loss = LossGradients::of_pieces(x.dim(0)?, PIECES, rng, |rows, rng| {
            let x = x.narrow(0, rows.start, rows.len())?;
            let h = encoder.forward(&x, None, &mut Mode::evaluation())?.relu()?;
            let s = log_scale.forward(&h)?;
            let noise = rng.normal_tensor(s.shape(), DType::F32, &Device::Cpu)?;
            let z0 = (mean.forward(&h)? + (&noise * s.exp()?)?)?;
            // The direction of one pass: as in IAF, that of sampling.
            let (z, log_det) = flow.inverse(&z0, Some(&context.forward(&h)?))?;
            let log_q = ((noise.sqr()?.sum(1)? * -0.5)? - (s.sum(1)? + log_det)?)?;
            let log_prior = (z.sqr()?.sum(1)? * -0.5)?;
            let logits = decoder.forward(&z, None, &mut Mode::evaluation())?;
            let log_x = ((&x * &logits)? - ops::softplus(&logits)?)?.sum(1)?;
            Ok(((log_q - log_prior)? - log_x)?.mean_all()?)
        })?;
        match &loss.gradients {
            Some(gradients) => optimizer.step(gradients, 1e-3),
            None => Ok(()),
        }
    }
}
