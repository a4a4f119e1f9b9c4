//! Flow matching: training without solving.

use super::CnfSettings;
use super::operation::PrecomputedGradient;
use crate::assignment::assign;
use crate::field::{Batch, Evaluator, Gradients, Number, Penalty, VectorField, Vectors, value, weights};
use candle_core::{DType, Shape, Tensor};
use flows_core::ops::kernel::{Precomputed, with_slice};
use flows_core::{Error, Result, Rng};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How flow matching pairs points of the base with points of the data. Each point of the base is then aligned with its
/// partner by the field's symmetries, if it has any ([`VectorField::align`](crate::field::VectorField::align)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairing {
    /// At random (Lipman et al. 2023).
    Independent,
    /// By optimal transport, the least sum of squared distances within each group (Tong et al. 2024; Pooladian et
    /// al. 2023): paths become straighter and take fewer evaluations to solve. Distances are measured after
    /// aligning every pair (Klein et al. 2023), which takes longer for particles than evaluating their network.
    #[default]
    Optimal,
}

/// How flow matching draws times and groups points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matching {
    /// The largest group of rows, which share a time and are paired with each other; a batch is divided evenly.
    pub group: usize,
    /// Times are `T u^skew` with uniform u: a skew above 1 puts more of them near the data, which the likelihood
    /// depends on more (Kingma et al. 2021, section 4).
    pub skew: f64,
}

impl Default for Matching {
    fn default() -> Self {
        Self { group: 64, skew: 1.0 }
    }
}

impl Matching {
    pub(super) fn check(self) -> Result<()> {
        if self.group == 0 || !(self.skew.is_finite() && self.skew > 0.0) {
            return Err(Error::Config("flow matching needs a `group` of at least 1 and a `skew` above 0".into()));
        }
        Ok(())
    }
}

/// Points on the paths between data and base at one time, and their velocities.
struct Group {
    t: f64,
    /// The group's first row in the batch.
    first: usize,
    /// The number of rows.
    rows: usize,
    /// The points x_t, (rows, D).
    points: Vec<f64>,
    /// The velocities, (rows, D).
    velocity: Vec<f64>,
}

/// Divides a batch x (B, D) into groups and pairs it with draws z of the base: points `x_t = (1 - s) x + s z` at time
/// `t = s T`, where `s` is a power of a uniform number stratified over the groups, and velocities `(z - x) / T`.
fn groups(
    field: &dyn VectorField,
    settings: &CnfSettings,
    x: &Tensor,
    pairing: Pairing,
    rng: &mut Rng,
) -> Result<Vec<Group>> {
    let (matching, end_time) = (settings.matching, settings.end_time);
    let (rows, dim) = x.dims2()?;
    let x = x.detach().to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    // Groups of equal size give each stratum of times the same weight.
    let count = rows.div_ceil(matching.group);
    let first = |i: usize| i * rows / count;
    let drawn: Vec<_> = (0..count)
        .map(|i| {
            let x = &x[first(i) * dim..first(i + 1) * dim];
            let z: Vec<f64> = x.iter().map(|_| rng.normal()).collect();
            (first(i), x, z, ((i as f64 + rng.uniform()) / count as f64).powf(matching.skew))
        })
        .collect();
    let group = |(first, x, z, share): (usize, &[f64], Vec<f64>, f64)| {
        let rows = x.len() / dim;
        let partner: Vec<usize> = match pairing {
            Pairing::Independent => (0..rows).collect(),
            Pairing::Optimal => {
                let distance = |a: &[f64], b: &[f64]| {
                    let mut b = b.to_vec();
                    field.align(a, &mut b);
                    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
                };
                let cost = x.chunks(dim).map(|x| z.chunks(dim).map(|z| distance(x, z)).collect());
                assign(&cost.collect::<Vec<_>>())
            }
        };
        let mut z: Vec<f64> = partner.iter().flat_map(|&i| &z[i * dim..(i + 1) * dim]).copied().collect();
        x.chunks(dim).zip(z.chunks_mut(dim)).for_each(|(x, z)| field.align(x, z));
        let pairs = || x.iter().zip(&z);
        Group {
            t: share * end_time,
            first,
            rows,
            points: pairs().map(|(x, z)| (1.0 - share) * x + share * z).collect(),
            velocity: pairs().map(|(x, z)| (z - x) / end_time).collect(),
        }
    };
    Ok(drawn.into_par_iter().map(group).collect())
}

/// The mean of `(f(t, x_t) - velocity)^2` over all numbers of the batch x (B, D), given its context: a scalar with
/// gradients with respect to the weights and the context.
pub(super) fn loss(
    field: &dyn VectorField,
    settings: &CnfSettings,
    (x, context): (&Tensor, Option<&Tensor>),
    pairing: Pairing,
    rng: &mut Rng,
) -> Result<Tensor> {
    let groups = groups(field, settings, x, pairing, rng)?;
    match (x.device().is_cpu(), x.dtype()) {
        (true, DType::F32) => by_kernels::<f32>(field, &groups, (x, context)),
        (true, DType::F64) => by_kernels::<f64>(field, &groups, (x, context)),
        _ => composed(field, &groups, (x, context)),
    }
}

fn by_kernels<T: Number>(
    field: &dyn VectorField,
    groups: &[Group],
    (x, context): (&Tensor, Option<&Tensor>),
) -> Result<Tensor> {
    let weights = weights(field)?;
    let given = context.map_or(Ok(Vec::new()), |context| with_slice::<T, _>(&context.contiguous()?, <[T]>::to_vec))?;
    let width = given.len() / x.dim(0)?;
    let evaluator = Evaluator::<T>::new(field, &weights)?;
    let scale = 1.0 / x.elem_count() as f64;
    // The loss of a group, and its gradients with respect to weights and context.
    let part = |group: &Group| -> Result<(f64, Vec<T>, Vec<T>)> {
        let points: Vec<T> = group.points.iter().map(|v| T::of(*v)).collect();
        let given = &given[group.first * width..(group.first + group.rows) * width];
        let batch = Batch { z: &points, context: given, vectors: Vectors::None, penalty: Penalty::default() };
        let error = |start: usize, value: &[T]| {
            value.iter().zip(&group.velocity[start..]).map(|(f, v)| f.wide() - v).collect::<Vec<f64>>()
        };
        let seeds = |start: usize, value: &[T]| {
            error(start, value).into_iter().map(|e| T::of(2.0 * scale * e)).collect::<Vec<T>>()
        };
        let Gradients { value, weights, context, .. } = evaluator.value_gradients(group.t, batch, &seeds)?;
        Ok((scale * error(0, &value).iter().map(|e| e * e).sum::<f64>(), weights, context))
    };
    // Summed in the order of the rows, whichever thread finishes first.
    let parts: Vec<_> = groups.par_iter().map(part).collect();
    let (mut value, mut gradient, mut grad_context) = (0.0, vec![T::zero(); evaluator.weights()], Vec::new());
    for part in parts {
        let (loss, weights, context) = part?;
        value += loss;
        gradient.iter_mut().zip(weights).for_each(|(sum, v)| *sum += v);
        grad_context.extend(context);
    }
    let gradient = T::tensor(gradient, weights.shape())?;
    let scalar = |value: f64, gradient: Tensor| {
        Precomputed::new((T::storage(vec![T::of(value)]), Shape::from(())), PrecomputedGradient { gradient })
    };
    let loss = weights.apply_op1(scalar(value, gradient))?;
    match context.filter(|context| context.track_op()) {
        Some(context) => {
            let gradient = T::tensor(grad_context, context.shape())?;
            Ok((loss + context.apply_op1(scalar(0.0, gradient))?)?)
        }
        None => Ok(loss),
    }
}

/// The loss in candle's operations, for devices without kernels and as the tests' reference.
fn composed(field: &dyn VectorField, groups: &[Group], (x, context): (&Tensor, Option<&Tensor>)) -> Result<Tensor> {
    let (mut sum, dim) = (Tensor::zeros((), x.dtype(), x.device())?, x.dim(1)?);
    for group in groups {
        let tensor = |values: &[f64]| {
            Tensor::from_slice(values, (group.rows, dim), &candle_core::Device::Cpu)?
                .to_dtype(x.dtype())?
                .to_device(x.device())
        };
        let points = tensor(&group.points)?;
        let given = context.map(|context| context.narrow(0, group.first, group.rows)).transpose()?;
        let value = value(field, group.t, &points, given.as_ref())?;
        sum = (sum + (value - tensor(&group.velocity)?)?.sqr()?.sum_all()?)?;
    }
    Ok((sum / x.elem_count() as f64)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{Mlp, MlpConfig};
    use candle_core::{Device, Var};
    use flows_core::nn::Parameters;
    use flows_core::testing::difference;

    #[test]
    fn kernels_agree_with_the_composition() -> Result<()> {
        let mut rng = Rng::seed(0);
        let parameters = Parameters::new(DType::F64, &Device::Cpu, rng.fork());
        let config = MlpConfig { hidden: vec![9], ..MlpConfig::default() };
        let fields = [
            Mlp::new(2, None, &config, &parameters.scope().enter("plain"))?,
            Mlp::new(2, Some(3), &config, &parameters.scope().enter("given"))?,
        ];
        let x = rng.normal_tensor((150, 2), DType::F64, &Device::Cpu)?;
        let source = Var::from_tensor(&rng.normal_tensor((150, 3), DType::F64, &Device::Cpu)?)?;
        let pairings = [Pairing::Independent, Pairing::Optimal];
        for (field, pairing) in fields.iter().flat_map(|field| pairings.map(|pairing| (field, pairing))) {
            let context = (source.as_tensor() * 2.0)?;
            let context = (field.context() > 0).then_some(&context);
            let matching = Matching { skew: 1.5, ..Matching::default() };
            let settings = CnfSettings { end_time: 0.7, matching, ..CnfSettings::default() };
            let groups = groups(field, &settings, &x, pairing, &mut rng)?;
            assert!(groups.iter().all(|group| (0.0..0.7).contains(&group.t) && group.rows == 50) && groups.len() == 3);
            let (got, want) =
                (by_kernels::<f64>(field, &groups, (&x, context))?, composed(field, &groups, (&x, context))?);
            assert!(difference(&want, &got)? < 1e-12);
            let (got, want) = (got.backward()?, want.backward()?);
            let own = if context.is_some() { "given" } else { "plain" };
            let weights = parameters.trainable().into_iter().filter(|(name, _)| name.starts_with(own));
            let context = context.map(|_| ("the context's source".to_string(), source.clone()));
            for (name, var) in weights.chain(context) {
                let (Some(got), Some(want)) = (got.get(&var), want.get(&var)) else { panic!("{name}") };
                assert!(difference(want, got)? < 1e-12, "{name}");
            }
        }
        Ok(())
    }
}
