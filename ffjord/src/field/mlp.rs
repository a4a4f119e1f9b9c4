//! A multi-layer perceptron as a vector field.

use super::bottleneck::Pass;
use super::kernel::block_rows;
use super::time::{HYPER_WIDTH, Layout, layer_at};
use super::{Batch, Bottleneck, Dual, Gradients, Kernel, Kernels, MlpConfig, TimeLayer, VectorField};
use candle_core::Tensor;
use flows_core::nn::{Init, Scope};
use flows_core::ops::kernel::Real;
use flows_core::{Error, Result, Structure, ops};
use rayon::prelude::*;
use std::ops::Range;

/// The pieces of a batch that are processed in parallel; with the block size it fixes the order of summation,
/// whatever the number of threads.
const PIECES: usize = 8;

/// A multi-layer perceptron `f(t, z)` for z of D numbers, with a context of C numbers if it is conditional: its
/// layers depend on time as [`TimeLayer`] says, with a smooth activation between them.
#[derive(Clone, Debug)]
pub struct Mlp {
    pub(super) dim: usize,
    context: usize,
    pub(super) config: MlpConfig,
    layers: Vec<Layer>,
    pub(super) layout: Layout,
}

#[derive(Clone, Debug)]
struct Layer {
    /// (outputs, inputs).
    weight: Tensor,
    bias: Tensor,
    /// h of a concat or concat-squash layer, (outputs); H of a hyper layer, (outputs (inputs + 1), 8).
    shift: Option<Tensor>,
    /// g and c of a concat-squash layer, (outputs) each, or of a hyper layer, (8) each.
    gate: Option<[Tensor; 2]>,
    /// The beta of the activation that follows, (1).
    beta: Option<Tensor>,
}

impl Mlp {
    /// A field over vectors of `dim` numbers, conditional on a context of the given width if any, initialised as
    /// in PyTorch.
    ///
    /// # Errors
    /// When a width is 0, the gain is not positive, or a name is already taken in `scope`.
    pub fn new(dim: usize, context: Option<usize>, config: &MlpConfig, scope: &Scope) -> Result<Self> {
        let widths = [&[dim + context.unwrap_or(0)], &config.hidden[..], &[dim]].concat();
        if dim == 0 || context == Some(0) || widths.contains(&0) {
            return Err(Error::Config("a field needs at least one dimension, and no layer of width 0".into()));
        }
        if !(config.gain.is_finite() && config.gain > 0.0) {
            return Err(Error::Config("the `gain` of a field must be a positive number".into()));
        }
        let layer = |(i, w): (usize, &[usize])| {
            let ([inputs, outputs], scope) = ([w[0], w[1]], scope.enter(i));
            let time_weight = |name| scope.weight(name, outputs, Init::fan_in(1, 1.0));
            let gain = if i == 0 { config.gain } else { 1.0 };
            let hyper = config.layer == TimeLayer::Hyper;
            let init = if hyper { Init::Normal(0.01 * gain) } else { Init::fan_in(inputs, gain) };
            let weight = scope.weight("weight", (outputs, inputs), init.clone())?;
            let bias = scope.weight("bias", outputs, init)?;
            let shift = match config.layer {
                TimeLayer::Ignore => None,
                TimeLayer::Concat | TimeLayer::ConcatSquash => Some(time_weight("shift")?),
                TimeLayer::Hyper => Some(scope.weight("hyper", (outputs * (inputs + 1), HYPER_WIDTH), Init::Zeros)?),
            };
            let gate = match config.layer {
                TimeLayer::Ignore | TimeLayer::Concat => None,
                TimeLayer::ConcatSquash => Some([time_weight("gate")?, time_weight("gate_bias")?]),
                TimeLayer::Hyper => Some([
                    scope.weight("hyper_hidden", HYPER_WIDTH, Init::Zeros)?,
                    scope.weight("hyper_hidden_bias", HYPER_WIDTH, Init::Normal(0.01))?,
                ]),
            };
            let has_beta = config.activation.has_beta() && i < config.hidden.len();
            let beta = has_beta.then(|| scope.weight("beta", 1, Init::Constant(1.0))).transpose()?;
            Ok(Layer { weight, bias, shift, gate, beta })
        };
        let layers = widths.windows(2).enumerate().map(layer).collect::<Result<_>>()?;
        let layout = Layout::new(&widths, config.layer, config.activation.has_beta());
        Ok(Self { dim, context: context.unwrap_or(0), config: config.clone(), layers, layout })
    }

    /// The number of layers up to the bottleneck, the narrowest hidden layer, if it is narrower than the data.
    pub(super) fn layers_to_bottleneck(&self) -> Option<usize> {
        let (i, width) = self.config.hidden.iter().enumerate().min_by_key(|(_, width)| **width)?;
        (*width < self.dim).then_some(i + 1)
    }

    /// Runs `x` through a range of the layers, given the weights of all layers.
    fn run(&self, layers: Range<usize>, weights: &[Tensor], t: &Tensor, mut x: Dual) -> Result<Dual> {
        let mut weights = weights.iter();
        let mut next = || weights.next().ok_or_else(|| Error::Internal("an MLP was given too few weights".into()));
        for (l, layer) in self.layers.iter().enumerate() {
            let (weight, bias) = (next()?, next()?);
            let shift = layer.shift.as_ref().map(|_| next()).transpose()?;
            let gate = layer.gate.as_ref().map(|_| Ok::<_, Error>((next()?, next()?))).transpose()?;
            let beta = layer.beta.as_ref().map(|_| next()).transpose()?;
            if !layers.contains(&l) {
                continue;
            }
            let (matrix, bias) = layer_at(self.config.layer, (weight, bias), shift, gate, t)?;
            x = x.linear(|x| ops::product(x, &matrix.t()?))?.shift(&bias)?;
            if l + 1 < self.layers.len() {
                x = x.map(|u| self.config.activation.composed(beta, u))?;
            }
        }
        Ok(x)
    }

    /// z with the context appended, (B, D + C).
    fn inputs(z: &Dual, context: Option<&Tensor>) -> Result<Dual> {
        context.map_or_else(|| Ok(z.clone()), |context| z.append(context))
    }

    /// Writes the network's inputs for `rows` of the batch to `inputs`, which must be zero: the values
    /// (rows, D + C), then the tangents if there is room for them.
    pub(super) fn fill<T: Real>(&self, batch: Batch<'_, T>, rows: Range<usize>, inputs: &mut [T]) {
        let (dim, width) = (self.dim, self.dim + self.context);
        let (values, tangents) = inputs.split_at_mut(rows.len() * width);
        for (r, row) in rows.clone().zip(values.chunks_exact_mut(width)) {
            let (z, context) = row.split_at_mut(dim);
            z.copy_from_slice(&batch.z[r * dim..][..dim]);
            context.copy_from_slice(&batch.context[r * self.context..][..self.context]);
        }
        batch.vectors.write(rows, dim, width, tangents);
    }
}

impl<T: Real> Kernel<T> for Mlp {
    fn rates(&self, weights: &[T], t: f64, batch: Batch<'_, T>) -> (Vec<T>, Vec<T>) {
        let (dim, rows) = (self.dim, batch.z.len() / self.dim);
        let maps = self.layout.maps_at(weights, t);
        let (mut value, mut divergence) = (vec![T::zero(); rows * dim], vec![T::zero(); rows]);
        let tangents = batch.vectors.tangents(dim);
        let Sizes { piece, block } = sizes(rows, tangents);
        let work = |(i, (value, divergence)): (usize, (&mut [T], &mut [T]))| {
            let mut pass = Pass::new(self, &maps, batch.vectors);
            let blocks = value.chunks_mut(block * dim).zip(divergence.chunks_mut(block));
            for (j, (value, divergence)) in blocks.enumerate() {
                let start = i * piece + j * block;
                let (values, products) = pass.forward(self, batch, start..start + divergence.len());
                value.copy_from_slice(values);
                batch.vectors.contract(start, dim, products, divergence);
                batch.penalty.subtract(dim, values, products, divergence);
            }
        };
        if rows <= piece {
            work((0, (&mut value, &mut divergence)));
        } else {
            let pieces = value.par_chunks_mut(piece * dim).zip(divergence.par_chunks_mut(piece));
            pieces.enumerate().for_each(work);
        }
        (value, divergence)
    }

    fn gradients(
        &self,
        weights: &[T],
        t: f64,
        batch: Batch<'_, T>,
        (grad_value, grad_divergence): (&[T], &[T]),
    ) -> Gradients<T> {
        let (dim, width, rows) = (self.dim, self.dim + self.context, grad_divergence.len());
        let maps = self.layout.maps_at(weights, t);
        let tangents = batch.vectors.tangents(dim);
        let Sizes { piece, block } = sizes(rows, tangents);
        let mut inputs = vec![T::zero(); rows * width];
        let mut value = vec![T::zero(); rows * dim];
        let work = |(i, (grad_inputs, value)): (usize, (&mut [T], &mut [T]))| {
            let mut pass = Pass::new(self, &maps, batch.vectors);
            let mut grad_maps = vec![T::zero(); self.layout.maps];
            for (j, (grad_inputs, value)) in
                grad_inputs.chunks_mut(block * width).zip(value.chunks_mut(block * dim)).enumerate()
            {
                let (start, count) = (i * piece + j * block, value.len() / dim);
                let (values, products) = pass.forward(self, batch, start..start + count);
                value.copy_from_slice(values);
                let mut gradient = vec![T::zero(); values.len() + products.len()];
                let (grad_values, grad_products) = gradient.split_at_mut(count * dim);
                grad_values.copy_from_slice(&grad_value[start * dim..][..count * dim]);
                let grad_divergence = &grad_divergence[start..][..count];
                batch.vectors.spread(start, dim, grad_divergence, grad_products);
                if !batch.penalty.is_zero() {
                    batch.penalty.add_gradient(dim, &[values, products].concat(), grad_divergence, &mut gradient);
                }
                grad_inputs.copy_from_slice(&pass.backward(count, gradient, &mut grad_maps)[..count * width]);
            }
            grad_maps
        };
        let grad_maps = if rows <= piece {
            work((0, (&mut inputs, &mut value)))
        } else {
            let pieces = inputs.par_chunks_mut(piece * width).zip(value.par_chunks_mut(piece * dim)).enumerate();
            // Summed in the order of the rows, whichever thread finishes first.
            let mut parts = pieces.map(work).collect::<Vec<_>>().into_iter();
            let mut sum = parts.next().unwrap_or_default();
            parts.for_each(|part| sum.iter_mut().zip(part).for_each(|(s, v)| *s += v));
            sum
        };
        let mut grad_weights = vec![T::zero(); self.layout.weights];
        let grad_t = self.layout.backward(weights, t, &grad_maps, &mut grad_weights);
        let columns =
            |part: Range<usize>| inputs.chunks_exact(width).flat_map(|row| row[part.clone()].to_vec()).collect();
        let (z, context) = match self.context {
            0 => (inputs, Vec::new()),
            _ => (columns(0..dim), columns(dim..width)),
        };
        Gradients { value, z, context, weights: grad_weights, t: grad_t }
    }
}

impl VectorField for Mlp {
    fn dim(&self) -> usize {
        self.dim
    }

    fn context(&self) -> usize {
        self.context
    }

    fn reach(&self) -> f64 {
        if self.config.activation.is_bounded() { f64::INFINITY } else { 1e12 }
    }

    fn tensors(&self) -> Vec<Tensor> {
        let parts = self.layers.iter().flat_map(|layer| {
            let gate = layer.gate.iter().flatten();
            [&layer.weight, &layer.bias].into_iter().chain(&layer.shift).chain(gate).chain(&layer.beta)
        });
        parts.cloned().collect()
    }

    fn evaluate(&self, weights: &[Tensor], t: &Tensor, z: &Dual, context: Option<&Tensor>) -> Result<Dual> {
        self.run(0..self.layers.len(), weights, t, Self::inputs(z, context)?)
    }

    fn bottleneck(&self) -> Option<&dyn Bottleneck> {
        self.layers_to_bottleneck().map(|_| self as &dyn Bottleneck)
    }

    fn structure(&self) -> Structure {
        let MlpConfig { hidden, layer, activation, .. } = &self.config;
        Structure::new(
            "Mlp",
            format!("{} -> {hidden:?} -> {}, {layer:?}, {activation}", self.dim + self.context, self.dim),
        )
        .with_parameters(self.layout.weights)
    }

    fn kernels(&self) -> Option<Kernels<'_>> {
        Some(Kernels::of(self))
    }
}

impl Bottleneck for Mlp {
    fn width(&self) -> usize {
        self.config.hidden.iter().copied().min().unwrap_or(self.dim)
    }

    fn enter(&self, weights: &[Tensor], t: &Tensor, z: &Dual, context: Option<&Tensor>) -> Result<Dual> {
        self.run(0..self.layers_to_bottleneck().unwrap_or(0), weights, t, Self::inputs(z, context)?)
    }

    fn leave(&self, weights: &[Tensor], t: &Tensor, h: &Dual) -> Result<Dual> {
        self.run(self.layers_to_bottleneck().unwrap_or(0)..self.layers.len(), weights, t, h.clone())
    }
}

/// The number of rows in each piece of a batch, and in each of the blocks of a piece.
struct Sizes {
    piece: usize,
    block: usize,
}

fn sizes(rows: usize, tangents: usize) -> Sizes {
    let block = block_rows(tangents);
    Sizes { piece: rows.div_ceil(PIECES).next_multiple_of(block), block }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::evaluator::{Evaluator, composed};
    use crate::field::{Activation, Penalty, Probe, Vectors, weights};
    use candle_core::{DType, Device, Var};
    use flows_core::nn::Parameters;
    use flows_core::testing::difference;
    use flows_core::{
        Rng,
        testing::{gradient_difference, perturb},
    };

    fn values(t: &Tensor) -> Result<Vec<f64>> {
        Ok(t.flatten_all()?.to_vec1()?)
    }

    /// The kernels' values and gradients agree with the composition's, and the composition's divergence and gradients
    /// agree with central differences.
    #[test]
    fn fields_are_differentiated_exactly() -> Result<()> {
        let mut rng = Rng::seed(0);
        let layers = [TimeLayer::Ignore, TimeLayer::Concat, TimeLayer::ConcatSquash, TimeLayer::Hyper];
        let activations = [Activation::Tanh, Activation::Softplus, Activation::Silu, Activation::Swish];
        for (i, activation) in activations.into_iter().enumerate() {
            for (layer, noisy, context, rows) in
                layers.iter().flat_map(|l| [(*l, false, None, 5), (*l, true, Some(2), 70), (*l, false, Some(1), 700)])
            {
                let dim = 1 + i;
                let config = MlpConfig { hidden: vec![7, 6], layer, activation, ..MlpConfig::default() };
                let parameters = Parameters::new(DType::F64, &Device::Cpu, rng.fork());
                let field = Mlp::new(dim, context, &config, &parameters.scope())?;
                perturb(&parameters, 0.2, &mut rng)?;
                assert_eq!(field.structure().total(), parameters.count());
                let mut var = |shape: &[usize]| {
                    Ok::<_, Error>(Var::from_tensor(&rng.normal_tensor(shape, DType::F64, &Device::Cpu)?)?)
                };
                let (z, e) = (var(&[rows, dim])?, var(&[rows, dim])?);
                let given = context.map(|c| var(&[rows, c])).transpose()?;
                let (grad_value, grad_divergence) = (var(&[rows, dim])?, var(&[rows])?);
                let probe = if noisy { Probe::Noise(e.as_tensor().clone()) } else { Probe::Basis };
                let penalty = Penalty { kinetic: 0.3 * i as f64, jacobian: 0.2 * i as f64 };
                let both = |t: f64| composed(&field, t, &z, given.as_ref().map(Var::as_tensor), &probe, penalty);
                let loss = |t: f64| {
                    let (value, divergence) = both(t)?;
                    let second = (divergence * grad_divergence.as_tensor())?.sum_all()?;
                    Ok(((value * grad_value.as_tensor())?.sum_all()? + second)?)
                };
                let (value, divergence) = both(0.7)?;
                let gradients = loss(0.7)?.backward()?;

                let [zs, es, cs] = [Some(&z), Some(&e), given.as_ref()]
                    .map(|v| v.map_or(Ok(Vec::new()), |v| values(v)).expect("values"));
                let vectors = if noisy { Vectors::Noise(&es) } else { Vectors::Basis };
                let batch = Batch { z: &zs, context: &cs, vectors, penalty };
                let weights = values(&weights(&field)?)?;
                let (got_value, got_divergence) = field.rates(&weights, 0.7, batch);
                let tensor = |v: Vec<f64>, like: &Tensor| Tensor::from_vec(v, like.shape().clone(), &Device::Cpu);
                assert!(difference(&value, &tensor(got_value, &value)?)? < 1e-12);
                assert!(difference(&divergence, &tensor(got_divergence, &divergence)?)? < 1e-12);
                let seeds = (values(&grad_value)?, values(&grad_divergence)?);
                let got = field.gradients(&weights, 0.7, batch, (&seeds.0, &seeds.1));
                assert!(difference(&value, &tensor(got.value.clone(), &value)?)? < 1e-12);
                // The same network, evaluated as a field without kernels.
                let leaf = |weight: &Tensor| Ok(Var::from_tensor(&weight.detach())?);
                let bare = Evaluator::Composed(&field, field.tensors().iter().map(leaf).collect::<Result<_>>()?);
                let same = |a: &[f64], b: &[f64]| {
                    let scale = a.iter().fold(1.0f64, |most, v| most.max(v.abs()));
                    assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-11 * scale));
                };
                let without = bare.rates(0.7, batch)?;
                let rates = field.rates(&weights, 0.7, batch);
                same(&[rates.0, rates.1].concat(), &[without.0, without.1].concat());
                let other = bare.gradients(0.7, batch, (&seeds.0, &seeds.1))?;
                let all = |g: &Gradients<f64>| [&g.value[..], &g.z, &g.context, &g.weights, &[g.t]].concat();
                same(&all(&got), &all(&other));
                let slope = (loss(0.7 + 1e-5)? - loss(0.7 - 1e-5)?)?.to_scalar::<f64>()? / 2e-5;
                assert!((slope - got.t).abs() < 1e-6 * slope.abs().max(1.0), "{slope} {}", got.t);
                let want =
                    |var: &Tensor| gradients.get(var).cloned().ok_or_else(|| Error::Config("no gradient".into()));
                assert!(difference(&want(&z)?, &tensor(got.z, &z)?)? < 1e-11, "{layer:?} {activation}");
                if let Some(given) = &given {
                    assert!(difference(&want(given)?, &tensor(got.context, given)?)? < 1e-11);
                }
                let flat: Vec<Tensor> =
                    parameters.trainable().iter().map(|(_, v)| Ok(want(v)?.flatten_all()?)).collect::<Result<_>>()?;
                let flat = Tensor::cat(&flat, 0)?;
                let scale = flat.abs()?.max_all()?.to_scalar::<f64>()?;
                let d = difference(&(&flat / scale)?, &(tensor(got.weights, &flat)? / scale)?)?;
                assert!(d < 1e-11, "{layer:?} {activation}: {d}");

                if rows == 5 {
                    let bare = composed(&field, 0.7, &z, None, &probe, Penalty::default())?.1;
                    let d = gradient_difference(|| loss(0.7), &parameters, &[("z", &z)], &mut Rng::seed(1))?;
                    assert!(d < 1e-8, "{layer:?} {activation}: {d}");
                    let mut sum = divergence.zeros_like()?;
                    for k in 0..dim {
                        let step = Tensor::eye(dim, DType::F64, &Device::Cpu)?.narrow(0, k, 1)?;
                        let at = |h: f64| {
                            let z = z.broadcast_add(&(&step * h)?)?;
                            Ok::<_, Error>(
                                composed(&field, 0.7, &z, None, &probe, penalty)?.0.narrow(1, k, 1)?.squeeze(1)?,
                            )
                        };
                        sum = (sum + ((at(1e-5)? - at(-1e-5)?)? / 2e-5)?)?;
                    }
                    assert!(difference(&sum, &bare)? < 1e-8, "{layer:?} {activation}");
                }
            }
        }
        Ok(())
    }
}
