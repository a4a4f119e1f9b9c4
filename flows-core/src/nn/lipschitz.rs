//! Networks with a bounded Lipschitz constant and a derivative that can be differentiated.

use super::{Buffer, Init, Mode, Scope};
use crate::{Error, Result, Structure, ops};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// The most steps of the power iteration; from the saved vectors, a few are enough.
const ITERATIONS: usize = 10_000;

/// An activation with continuous derivative and Lipschitz constant at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LipschitzActivation {
    /// `x sigmoid(softplus(beta) x) / 1.1` with one trained beta per layer (Chen et al., 2019).
    #[default]
    LipSwish,
    /// `x` where positive, `e^x - 1` elsewhere.
    Elu,
}

/// A perceptron of D inputs and outputs whose Lipschitz constant is at most a coefficient below 1:
/// each of its L weights is scaled by `min(1, coefficient^(1/L) / sigma)`, sigma being the largest
/// singular value. With a context c, the first layer adds `A c`, a free linear map that the constant
/// in x does not depend on.
///
/// Sigma comes from the power iteration (Miyato et al., 2018), run to a tolerance from vectors that
/// are saved with the model. Derivatives are computed in forward mode, by [`NormalizedMlp::jvp`], from
/// operations that have gradients themselves; candle has no second derivatives.
#[derive(Debug)]
pub struct LipschitzMlp {
    layers: Vec<Layer>,
    /// A, (first width, context).
    context: Option<Tensor>,
    activation: LipschitzActivation,
    /// The bound on each layer.
    bound: f64,
    tolerance: f64,
}

#[derive(Debug)]
struct Layer {
    weight: Tensor,
    bias: Tensor,
    beta: Option<Tensor>,
    left: Buffer,
    right: Buffer,
}

impl LipschitzMlp {
    /// A network from `dim` numbers to `dim` through layers of the `hidden` widths, given a context of this
    /// width if there is one; sigma is iterated until its relative change is below `tolerance`.
    ///
    /// # Errors
    /// When a width is 0, or the coefficient or tolerance is not between 0 and 1.
    pub fn new(
        dim: usize,
        hidden: &[usize],
        context: Option<usize>,
        coefficient: f64,
        activation: LipschitzActivation,
        tolerance: f64,
        scope: &Scope,
    ) -> Result<Self> {
        let inside = |value: f64| value > 0.0 && value < 1.0;
        if !inside(coefficient) || !inside(tolerance) {
            return Err(Error::Config(format!(
                "the Lipschitz coefficient ({coefficient}) and the tolerance ({tolerance}) must lie between 0 and 1"
            )));
        }
        let widths = [&[dim], hidden, &[dim]].concat();
        if widths.contains(&0) {
            return Err(Error::Config(format!("a network of widths {widths:?} is empty")));
        }
        let mut rng = scope.draw(|rng| rng.clone());
        let mut layers = Vec::with_capacity(widths.len() - 1);
        for (i, pair) in widths.windows(2).enumerate() {
            let (inputs, outputs, scope) = (pair[0], pair[1], scope.enter(format!("layer{i}")));
            let activated = i + 2 < widths.len() && activation == LipschitzActivation::LipSwish;
            let mut start = |n: usize| match &mut rng {
                Some(rng) => rng.normal_tensor(n, scope.dtype(), scope.device()),
                None => Ok(Tensor::zeros(n, scope.dtype(), scope.device())?),
            };
            layers.push(Layer {
                weight: scope.weight("weight", (outputs, inputs), Init::fan_in(inputs, 1.0))?,
                bias: scope.weight("bias", outputs, Init::fan_in(inputs, 1.0))?,
                beta: if activated { Some(scope.weight("beta", 1, Init::Constant(0.5))?) } else { None },
                left: scope.buffer("u", &start(outputs)?)?,
                right: scope.buffer("v", &start(inputs)?)?,
            });
        }
        let context = match context {
            None => None,
            Some(0) => return Err(Error::Config("the context has width 0: leave it out".into())),
            Some(width) => {
                Some(scope.enter("context").weight("weight", (widths[1], width), Init::fan_in(width, 1.0))?)
            }
        };
        let bound = coefficient.powf(1.0 / layers.len() as f64);
        Ok(Self { layers, context, activation, bound, tolerance })
    }

    /// What the context adds to the first layer, (B, first width), if the network takes one.
    ///
    /// # Errors
    /// When the context is missing or has another shape.
    pub fn context_term(&self, context: Option<&Tensor>, batch: usize) -> Result<Option<Tensor>> {
        let Some(weight) = &self.context else { return Ok(None) };
        let context = crate::shape::check_context(context, weight.dim(1)?, batch)?;
        Ok(Some(ops::linear(context, weight, None, ops::FusedActivation::Identity)?))
    }

    /// The network with its current weights, normalized. In training the singular vectors are saved, as the start of
    /// the next power iteration.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn normalized(&self, mode: &Mode<'_>) -> Result<NormalizedMlp> {
        let layers = self.layers.iter().map(|layer| {
            let (u, v) = match mode.is_training() && !mode.updates_buffers() {
                // The vectors of the pass whose activations are recomputed.
                true => (layer.left.get(), layer.right.get()),
                false => layer.singular_vectors(self.tolerance)?,
            };
            // Copies: a weight of zeros leaves the buffers' own tensors.
            layer.left.update(&u.copy()?, mode)?;
            layer.right.update(&v.copy()?, mode)?;
            let sigma = ops::product(&ops::product(&u.unsqueeze(0)?, &layer.weight)?, &v.unsqueeze(1)?)?;
            let scale = (sigma.maximum(self.bound)?.recip()? * self.bound)?;
            let steepness = layer.beta.as_ref().map(ops::softplus).transpose()?;
            let weight = layer.weight.broadcast_mul(&scale)?.t()?.contiguous()?;
            Ok(Normalized { weight, bias: layer.bias.clone(), steepness })
        });
        Ok(NormalizedMlp { layers: layers.collect::<Result<_>>()?, activation: self.activation })
    }

    /// What this is made of.
    pub fn structure(&self) -> Structure {
        let weights = self.layers.iter().flat_map(|l| [Some(&l.weight), Some(&l.bias), l.beta.as_ref()]).flatten();
        let weights = weights.chain(&self.context);
        let widths: Vec<usize> = self.layers.iter().map(|l| l.bias.elem_count()).collect();
        let bound = self.bound.powi(self.layers.len() as i32);
        let name = match self.activation {
            LipschitzActivation::LipSwish => "LipSwish",
            LipschitzActivation::Elu => "ELU",
        };
        let context = self.context.as_ref().map_or_else(String::new, |a| format!(", context {}", a.dims()[1]));
        Structure::new("Lipschitz MLP", format!("{widths:?}, {name}, constant {bound:.3}{context}")).weights(weights)
    }
}

impl Layer {
    /// The singular vectors of the largest singular value, without graph.
    fn singular_vectors(&self, tolerance: f64) -> Result<(Tensor, Tensor)> {
        let values = |t: &Tensor| -> Result<Vec<f64>> { Ok(t.detach().to_dtype(DType::F64)?.to_vec1()?) };
        let (mut u, mut v) = (values(&self.left.get())?, values(&self.right.get())?);
        let weight = values(&self.weight.flatten_all()?)?;
        let mut sigma = 0.0;
        normalize(&mut v);
        for _ in 0..ITERATIONS {
            for (u, row) in u.iter_mut().zip(weight.chunks(v.len())) {
                *u = row.iter().zip(&v).map(|(w, v)| w * v).sum();
            }
            normalize(&mut u);
            let mut next = vec![0.0; v.len()];
            for (u, row) in u.iter().zip(weight.chunks(v.len())) {
                next.iter_mut().zip(row).for_each(|(next, w)| *next += u * w);
            }
            let last = sigma;
            sigma = normalize(&mut next);
            // A zero or NaN matrix has no singular vectors: keep the old ones.
            if sigma.is_nan() || sigma == 0.0 {
                return Ok((self.left.get(), self.right.get()));
            }
            v = next;
            if (sigma - last).abs() <= tolerance * sigma {
                break;
            }
        }
        let tensor = |values: Vec<f64>| -> Result<Tensor> {
            Ok(Tensor::new(values, self.weight.device())?.to_dtype(self.weight.dtype())?)
        };
        Ok((tensor(u)?, tensor(v)?))
    }
}

/// Scales to length 1, unless all is 0; returns the length.
fn normalize(v: &mut [f64]) -> f64 {
    let length = v.iter().map(|v| v * v).sum::<f64>().sqrt();
    if length > 0.0 {
        v.iter_mut().for_each(|v| *v /= length);
    }
    length
}

/// A [`LipschitzMlp`] with its weights at one time, normalized.
#[derive(Clone, Debug)]
pub struct NormalizedMlp {
    layers: Vec<Normalized>,
    activation: LipschitzActivation,
}

#[derive(Clone, Debug)]
struct Normalized {
    /// (inputs, outputs).
    weight: Tensor,
    bias: Tensor,
    /// softplus(beta) of LipSwish.
    steepness: Option<Tensor>,
}

impl NormalizedMlp {
    /// The same weights as constants of the graph.
    pub fn detach(&self) -> Self {
        let layers = self.layers.iter().map(|l| Normalized {
            weight: l.weight.detach(),
            bias: l.bias.detach(),
            steepness: l.steepness.as_ref().map(Tensor::detach),
        });
        Self { layers: layers.collect(), activation: self.activation }
    }

    /// `g(x)` for x (B, D), and the derivatives of the activations for [`Self::jvp`]; `shift` is what
    /// [`LipschitzMlp::context_term`] gave.
    ///
    /// # Errors
    /// When `x` has another width.
    pub fn forward(&self, x: &Tensor, shift: Option<&Tensor>) -> Result<(Tensor, Vec<Tensor>)> {
        let mut slopes = Vec::with_capacity(self.layers.len() - 1);
        let mut h = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            h = ops::product(&h, &layer.weight)?.broadcast_add(&layer.bias)?;
            if let (0, Some(shift)) = (i, shift) {
                h = (h + shift)?;
            }
            if i + 1 < self.layers.len() {
                let (value, slope) = activate(self.activation, &h, layer.steepness.as_ref())?;
                slopes.push(slope);
                h = value;
            }
        }
        Ok((h, slopes))
    }

    /// `J v` for the Jacobian J = dg/dx of each row and n directions v, (B, n, D) or (1, n, D); (B, n, D).
    ///
    /// # Errors
    /// When shapes do not agree.
    pub fn jvp(&self, slopes: &[Tensor], v: &Tensor) -> Result<Tensor> {
        let mut v = v.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            let (batch, n, width) = v.dims3()?;
            let outputs = layer.weight.dim(1)?;
            v = ops::product(&v.reshape((batch * n, width))?, &layer.weight)?.reshape((batch, n, outputs))?;
            if let Some(slope) = slopes.get(i) {
                v = v.broadcast_mul(&slope.unsqueeze(1)?)?;
            }
        }
        Ok(v)
    }
}

/// The activation and its derivative.
fn activate(activation: LipschitzActivation, x: &Tensor, steepness: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
    match (activation, steepness) {
        (LipschitzActivation::LipSwish, Some(b)) => {
            let bx = x.broadcast_mul(b)?;
            let s = ops::sigmoid(&bx)?;
            // x s(bx) and s(bx) (1 + bx (1 - s(bx))), over 1.1.
            let slope = (&s * (bx * s.affine(-1.0, 1.0)?)?.affine(1.0, 1.0)?)?;
            Ok(((x * s)?.affine(1.0 / 1.1, 0.0)?, slope.affine(1.0 / 1.1, 0.0)?))
        }
        _ => {
            // e^x where negative, 1 elsewhere.
            Ok((ops::elu(x)?, ops::exp(&x.minimum(0.0)?)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::nn::Parameters;
    use crate::testing::{difference, perturb};
    use candle_core::Device;

    #[test]
    fn constant_is_bounded_and_jvp_is_the_derivative() -> Result<()> {
        for activation in [LipschitzActivation::LipSwish, LipschitzActivation::Elu] {
            let mut rng = Rng::seed(1);
            let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
            let network = LipschitzMlp::new(3, &[16, 16], Some(2), 0.9, activation, 1e-9, &parameters.scope())?;
            perturb(&parameters, 3.0, &mut rng)?;
            let pass = network.normalized(&Mode::evaluation())?;
            let x = rng.normal_tensor((64, 3), DType::F64, &Device::Cpu)?;
            let v = rng.normal_tensor((64, 1, 3), DType::F64, &Device::Cpu)?;
            let context = rng.normal_tensor((64, 2), DType::F64, &Device::Cpu)?;
            let shift = network.context_term(Some(&context), 64)?;
            let g = |x: &Tensor| pass.forward(x, shift.as_ref());
            let (_, slopes) = g(&x)?;
            let jv = pass.jvp(&slopes, &v)?.squeeze(1)?;
            let step = (v.squeeze(1)? * 1e-6)?;
            let rise = (g(&(&x + &step)?)?.0 - g(&(&x - &step)?)?.0)?;
            assert!(difference(&jv, &(rise / 2e-6)?)? < 1e-8);
            let norm = |t: &Tensor| -> Result<Vec<f64>> { Ok(t.sqr()?.sum(1)?.sqrt()?.to_vec1()?) };
            for (jv, v) in norm(&jv)?.iter().zip(norm(&v.squeeze(1)?)?) {
                assert!(*jv < 0.9 * (1.0 + 1e-6) * v);
            }
        }
        Ok(())
    }
}
