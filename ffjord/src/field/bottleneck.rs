//! Passes of a network over a block of rows, with tangents at its inputs or at its bottleneck.

use super::kernel::Block;
use super::{Batch, Mlp, Vectors};
use flows_core::ops::kernel::Real;
use std::ops::Range;

/// A forward pass over one block, and its backward pass.
pub(super) struct Pass<'a, T> {
    /// The whole network, or g where the tangents are at the bottleneck.
    block: Block<'a, T>,
    /// h, where the tangents are at the bottleneck.
    encoder: Option<Encoder<'a, T>>,
}

/// The half h of a field `g(h(z))`, evaluated twice: before g for its value, and after g along the tangents of g.
struct Encoder<'a, T> {
    value: Block<'a, T>,
    tangent: Block<'a, T>,
    dim: usize,
}

impl<'a, T: Real> Pass<'a, T> {
    /// Buffers for a pass, given the network's affine maps at a time.
    pub(super) fn new(network: &'a Mlp, maps: &'a [T], vectors: Vectors<'_, T>) -> Self {
        let block = |tangents| Block::new(&network.layout, network.config.activation, maps, tangents);
        let at_bottleneck = matches!(vectors, Vectors::Bottleneck { .. });
        match network.layers_to_bottleneck().filter(|_| at_bottleneck) {
            None => Self { block: block(vectors.tangents(network.dim)), encoder: None },
            Some(h) => {
                let (value, tangent) = (block(0).with_layers(0..h), block(1).with_layers(0..h));
                let encoder = Encoder { value, tangent, dim: network.dim };
                Self { block: block(1).with_layers(h..network.layout.layers.len()), encoder: Some(encoder) }
            }
        }
    }

    /// The values (rows, D) and the Jacobian-vector products (K, rows, D) or (1, rows, H) of `rows` of the batch.
    pub(super) fn forward(&mut self, network: &Mlp, batch: Batch<'_, T>, rows: Range<usize>) -> (&[T], &[T]) {
        let (count, dim) = (rows.len(), network.dim);
        let Some(Encoder { value, tangent, .. }) = &mut self.encoder else {
            self.block.set(count, |inputs| network.fill(batch, rows, inputs));
            return self.block.forward().split_at(count * dim);
        };
        value.set(count, |inputs| network.fill(batch, rows.clone(), inputs));
        let h = value.forward();
        self.block.set(count, |inputs| {
            let (values, tangents) = inputs.split_at_mut(h.len());
            values.copy_from_slice(h);
            batch.vectors.write(rows.clone(), dim, h.len() / count, tangents);
        });
        let (values, tangents) = self.block.forward().split_at(count * dim);
        tangent.set(count, |inputs| {
            let width = inputs.len() / (2 * count);
            let (z, tangents_in) = inputs.split_at_mut(count * width);
            network.fill(batch, rows, z);
            for (row, v) in tangents_in.chunks_exact_mut(width).zip(tangents.chunks_exact(dim)) {
                row[..dim].copy_from_slice(v);
            }
        });
        (values, &tangent.forward()[h.len()..])
    }

    /// The gradient with respect to the inputs of `rows` rows, values first, given the one with respect to the values
    /// and products of the last [`Self::forward`]; the gradient with respect to the affine maps is added to
    /// `grad_maps`.
    pub(super) fn backward(&self, rows: usize, mut gradient: Vec<T>, grad_maps: &mut [T]) -> Vec<T> {
        let Some(Encoder { value, tangent, dim }) = &self.encoder else {
            return self.block.backward(gradient, grad_maps);
        };
        let grad_products = gradient.split_off(rows * dim);
        let zeros = vec![T::zero(); grad_products.len()];
        let mut grad_inputs = tangent.backward([zeros, grad_products].concat(), grad_maps);
        let width = grad_inputs.len() / (2 * rows);
        // The tangents that leave g enter h.
        let grad_tangents = grad_inputs.split_off(rows * width);
        grad_tangents.chunks_exact(width).for_each(|row| gradient.extend_from_slice(&row[..*dim]));
        let mut grad_h = self.block.backward(gradient, grad_maps);
        grad_h.truncate(grad_h.len() / 2);
        grad_inputs.iter_mut().zip(value.backward(grad_h, grad_maps)).for_each(|(sum, v)| *sum += v);
        grad_inputs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::evaluator::composed;
    use crate::field::{Activation, Kernel, MlpConfig, Penalty, Probe, TimeLayer, weights};
    use candle_core::{DType, Device, Tensor, Var};
    use flows_core::nn::Parameters;
    use flows_core::testing::{difference, gradient_difference, perturb};
    use flows_core::{Error, Result, Rng};

    const CPU: &Device = &Device::Cpu;

    fn field(config: MlpConfig, context: Option<usize>, rng: &mut Rng) -> Result<(Mlp, Parameters)> {
        let parameters = Parameters::new(DType::F64, CPU, rng.fork());
        let field = Mlp::new(3, context, &config, &parameters.scope())?;
        perturb(&parameters, 0.3, rng)?;
        Ok((field, parameters))
    }

    fn values(t: &Tensor) -> Result<Vec<f64>> {
        Ok(t.flatten_all()?.to_vec1()?)
    }

    /// Over the standard basis of the bottleneck the estimates add up to the divergence.
    #[test]
    fn the_trace_at_the_bottleneck_is_the_divergence() -> Result<()> {
        let mut rng = Rng::seed(0);
        let config = MlpConfig { hidden: vec![5, 2, 4], activation: Activation::Silu, ..MlpConfig::default() };
        let (field, _) = field(config, None, &mut rng)?;
        let z = rng.normal_tensor((4, 3), DType::F64, CPU)?;
        let by = |probe: Probe| composed(&field, 0.6, &z, None, &probe, Penalty::default());
        let (value, want) = by(Probe::Basis)?;
        let mut sum = want.zeros_like()?;
        for k in 0..2 {
            let e = Tensor::eye(2, DType::F64, CPU)?.narrow(0, k, 1)?.broadcast_as((4, 2))?.contiguous()?;
            let (again, part) = by(Probe::Bottleneck(e))?;
            assert!(difference(&value, &again)? < 1e-14);
            sum = (sum + part)?;
        }
        assert!(difference(&want, &sum)? < 1e-12);
        Ok(())
    }

    /// The estimates average to the divergence, with a smaller variance than estimates at the data: for a bottleneck of
    /// width 1 this holds for all weights.
    #[test]
    fn estimates_are_unbiased_with_less_variance() -> Result<()> {
        const DRAWS: usize = 20_000;
        let mut rng = Rng::seed(1);
        let config = MlpConfig { hidden: vec![5, 1, 4], ..MlpConfig::default() };
        let (field, _) = field(config, None, &mut rng)?;
        let z = rng.normal_tensor((1, 3), DType::F64, CPU)?.broadcast_as((DRAWS, 3))?.contiguous()?;
        let mut noise = |width| rng.normal_tensor((DRAWS, width), DType::F64, CPU);
        let probes = [Probe::Basis, Probe::Bottleneck(noise(1)?), Probe::Noise(noise(3)?)];
        let [exact, narrow, wide] = probes.map(|probe| {
            let draws = values(&composed(&field, 0.6, &z, None, &probe, Penalty::default())?.1)?;
            let mean = draws.iter().sum::<f64>() / DRAWS as f64;
            let deviation = (draws.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / DRAWS as f64).sqrt();
            Ok::<_, Error>((mean, deviation))
        });
        let ((exact, _), narrow, wide) = (exact?, narrow?, wide?);
        for (mean, deviation) in [narrow, wide] {
            assert!((mean - exact).abs() < 4.0 * deviation / (DRAWS as f64).sqrt(), "{mean}, not {exact}");
        }
        assert!(narrow.1 < wide.1 && narrow.1 > 0.0, "{narrow:?} {wide:?}");
        Ok(())
    }

    /// The kernels' values and gradients agree with the composition's, whose gradients agree with central differences.
    #[test]
    fn kernels_agree_with_the_composition() -> Result<()> {
        let mut rng = Rng::seed(2);
        let layers = [TimeLayer::Ignore, TimeLayer::Concat, TimeLayer::ConcatSquash, TimeLayer::Hyper];
        let activations = [Activation::Tanh, Activation::Softplus, Activation::Silu, Activation::Swish];
        for ((layer, activation), (hidden, context, rows)) in layers.into_iter().zip(activations).flat_map(|pair| {
            [(vec![2, 4], None, 5), (vec![5, 2, 4], Some(2), 170), (vec![5, 1], None, 3)].map(|rest| (pair, rest))
        }) {
            let width = *hidden.iter().min().expect("a layer");
            let config = MlpConfig { hidden, layer, activation, ..MlpConfig::default() };
            let (field, parameters) = field(config, context, &mut rng)?;
            let mut var =
                |shape: &[usize]| Ok::<_, Error>(Var::from_tensor(&rng.normal_tensor(shape, DType::F64, CPU)?)?);
            let (z, e) = (var(&[rows, 3])?, var(&[rows, width])?);
            let given = context.map(|c| var(&[rows, c])).transpose()?;
            let (grad_value, grad_divergence) = (var(&[rows, 3])?, var(&[rows])?);
            let penalty = Penalty { kinetic: 0.3, jacobian: 0.0 };
            let probe = Probe::Bottleneck(e.as_tensor().clone());
            let both = || composed(&field, 0.7, &z, given.as_ref().map(Var::as_tensor), &probe, penalty);
            let loss = || {
                let (value, divergence) = both()?;
                let second = (divergence * grad_divergence.as_tensor())?.sum_all()?;
                Ok(((value * grad_value.as_tensor())?.sum_all()? + second)?)
            };
            let (zs, es) = (values(&z)?, values(&e)?);
            let cs = given.as_ref().map_or(Ok(Vec::new()), |given| values(given))?;
            let vectors = Vectors::Bottleneck { noise: &es, width };
            let batch = Batch { z: &zs, context: &cs, vectors, penalty };
            let tensor = |v: Vec<f64>, like: &Tensor| Tensor::from_vec(v, like.shape().clone(), CPU);
            let weights = values(&weights(&field)?)?;
            let ((value, divergence), got) = (both()?, field.rates(&weights, 0.7, batch));
            assert!(difference(&value, &tensor(got.0, &value)?)? < 1e-12);
            assert!(difference(&divergence, &tensor(got.1, &divergence)?)? < 1e-12);

            let gradients = loss()?.backward()?;
            let got = field.gradients(&weights, 0.7, batch, (&values(&grad_value)?, &values(&grad_divergence)?));
            let want = |var: &Tensor| gradients.get(var).cloned().ok_or_else(|| Error::Config("no gradient".into()));
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
                let d = gradient_difference(loss, &parameters, &[("z", &z)], &mut Rng::seed(1))?;
                assert!(d < 1e-8, "{layer:?} {activation}: {d}");
            }
        }
        Ok(())
    }
}
