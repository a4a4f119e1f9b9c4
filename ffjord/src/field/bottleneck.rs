//! Passes of a network over a block of rows, with the tangents at the data or where it is narrowest.

use super::kernel::Block;
use super::{Batch, Mlp, Vectors};
use flows_core::ops::kernel::Real;

/// A pass, and the way back.
pub(super) struct Pass<'a, T> {
    /// The whole network, or its part g.
    block: Block<'a, T>,
    parts: Option<Parts<'a, T>>,
}

/// The part h, which is gone through twice: for its value, and with what g makes of the tangents.
struct Parts<'a, T> {
    enter: Block<'a, T>,
    through: Block<'a, T>,
    dim: usize,
}

impl<'a, T: Real> Pass<'a, T> {
    /// Room for a pass, given the layers at a time.
    pub(super) fn new(network: &'a Mlp, maps: &'a [T], vectors: Vectors<'_, T>) -> Self {
        let block = |tangents| Block::new(&network.places, network.config.activation, maps, tangents);
        let is_narrow = matches!(vectors, Vectors::Bottleneck { .. });
        match network.layers_of_h().filter(|_| is_narrow) {
            None => Self { block: block(vectors.tangents(network.dim)), parts: None },
            Some(h) => {
                let (enter, through) = (block(0).through(0..h), block(1).through(0..h));
                let parts = Parts { enter, through, dim: network.dim };
                Self { block: block(1).through(h..network.places.layers.len()), parts: Some(parts) }
            }
        }
    }

    /// Values (B, D) and products of the rows that begin and are as many as `at` says.
    pub(super) fn forward(&mut self, network: &Mlp, batch: Batch<'_, T>, at: (usize, usize)) -> (&[T], &[T]) {
        let (rows, dim) = (at.1, network.dim);
        let Some(Parts { enter, through, .. }) = &mut self.parts else {
            self.block.set(rows, |inputs| network.fill(batch, at, inputs));
            return self.block.forward().split_at(rows * dim);
        };
        enter.set(rows, |inputs| network.fill(batch, at, inputs));
        let h = enter.forward();
        self.block.set(rows, |inputs| {
            let (values, tangents) = inputs.split_at_mut(h.len());
            values.copy_from_slice(h);
            batch.vectors.write(at, dim, h.len() / rows, tangents);
        });
        let (values, tangents) = self.block.forward().split_at(rows * dim);
        through.set(rows, |inputs| {
            let width = inputs.len() / (2 * rows);
            let (z, of_z) = inputs.split_at_mut(rows * width);
            network.fill(batch, at, z);
            of_z.chunks_exact_mut(width)
                .zip(tangents.chunks_exact(dim))
                .for_each(|(to, v)| to[..dim].copy_from_slice(v));
        });
        (values, &through.forward()[h.len()..])
    }

    /// The gradient of the inputs of `rows` rows, values first, given that of values and products, which must
    /// be those of the last [`Self::forward`]; the gradient of the maps is added to `of_maps`.
    pub(super) fn backward(&self, rows: usize, mut gradient: Vec<T>, of_maps: &mut [T]) -> Vec<T> {
        let Some(Parts { enter, through, dim }) = &self.parts else { return self.block.backward(gradient, of_maps) };
        let of_products = gradient.split_off(rows * dim);
        let zeros = vec![T::zero(); of_products.len()];
        let mut of_inputs = through.backward([zeros, of_products].concat(), of_maps);
        let width = of_inputs.len() / (2 * rows);
        // What comes out of g goes into h.
        let of_tangents = of_inputs.split_off(rows * width);
        of_tangents.chunks_exact(width).for_each(|row| gradient.extend_from_slice(&row[..*dim]));
        let mut of_h = self.block.backward(gradient, of_maps);
        of_h.truncate(of_h.len() / 2);
        of_inputs.iter_mut().zip(enter.backward(of_h, of_maps)).for_each(|(sum, v)| *sum += v);
        of_inputs
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

    /// Over a basis of the narrow place the estimates add up to the divergence.
    #[test]
    fn the_trace_is_the_same_where_the_field_is_narrow() -> Result<()> {
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

    /// The mean of many draws is the divergence, and they scatter less than those at the data: with one number
    /// in between by theory, whatever the weights.
    #[test]
    fn draws_are_right_on_average_and_scatter_less() -> Result<()> {
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

    /// The kernels' values and gradients are those of the composition, and these those of differences.
    #[test]
    fn kernels_are_the_composition() -> Result<()> {
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
            let (of_value, of_divergence) = (var(&[rows, 3])?, var(&[rows])?);
            let penalty = Penalty { kinetic: 0.3, jacobian: 0.0 };
            let probe = Probe::Bottleneck(e.as_tensor().clone());
            let both = || composed(&field, 0.7, &z, given.as_ref().map(Var::as_tensor), &probe, penalty);
            let loss = || {
                let (value, divergence) = both()?;
                let second = (divergence * of_divergence.as_tensor())?.sum_all()?;
                Ok(((value * of_value.as_tensor())?.sum_all()? + second)?)
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
            let got = field.gradients(&weights, 0.7, batch, (&values(&of_value)?, &values(&of_divergence)?));
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
