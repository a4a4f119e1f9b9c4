//! Flows over particles: invariances of their densities, and learning.

use candle_core::{DType, Device, Tensor};
use ffjord::field::GraphConfig;
use ffjord::solver::{Method, Solver};
use ffjord::{Cnf, CnfSettings, ContinuousFlow, ContinuousFlowConfig, Pairing};
use flows_core::distributions::Distribution;
use flows_core::testing::{Case, difference, perturb};
use flows_core::train::{OptimizerConfig, TrainConfig, Trainer, forward_kl};
use flows_core::{Result, Rng};

fn model(particles: usize, dimension: usize, tolerance: f64, dtype: DType, rng: &mut Rng) -> Result<ContinuousFlow> {
    let flow = CnfSettings {
        field: GraphConfig { dimension, width: 16, layers: 2, ..GraphConfig::default() }.into(),
        end_time: 1.0,
        solver: Solver::new(Method::Dopri5, tolerance),
        ..CnfSettings::default()
    };
    let config = ContinuousFlowConfig { features: particles * dimension, columns: None, flows: 1, flow };
    ContinuousFlow::on(config, dtype, &Device::Cpu, rng)
}

/// Configurations x (B, N D) with permuted particles, multiplied by the orthogonal matrix `rotation` (D, D) and
/// translated.
fn moved(x: &Tensor, order: &[u32], rotation: &Tensor, shift: f64) -> Result<Tensor> {
    let (rows, dimension) = (x.dim(0)?, rotation.dim(0)?);
    let order = Tensor::from_slice(order, order.len(), &Device::Cpu)?;
    let particles = x.reshape((rows, (), dimension))?.index_select(&order, 1)?.contiguous()?;
    let rotated = particles.broadcast_matmul(rotation)?;
    Ok((rotated.reshape((rows, ()))? + shift)?)
}

#[test]
fn flows_over_particles_satisfy_the_contract_of_bijectors() -> Result<()> {
    let case = Case::new("particles", |scope| {
        let settings = CnfSettings {
            field: GraphConfig { dimension: 2, width: 3, layers: 2, range: 1.0, features: 0 }.into(),
            solver: Solver::new(Method::Dopri5, 1e-11),
            ..CnfSettings::default()
        };
        Ok(Box::new(Cnf::new(4, &settings, None, scope)?))
    });
    let case = case.overflows();
    case.derivatives()?;
    case.every_weight_learns()?;
    case.rows_are_independent()?;
    case.extremes_stay_in_their_row()?;
    case.precisions_agree()?;
    case.trains()?;
    case.recomputes()?;
    case.structure_counts()?;
    case.saves_and_loads(tempfile::tempdir().unwrap().path())
}

#[test]
fn densities_are_invariant_under_translation_permutation_and_rotation() -> Result<()> {
    let mut rng = Rng::seed(0);
    for (particles, dimension, dtype, limit) in
        [(4, 2, DType::F64, 1e-6), (5, 3, DType::F64, 1e-6), (5, 3, DType::F32, 1e-4)]
    {
        let model = model(particles, dimension, 1e-6, dtype, &mut rng)?;
        perturb(model.parameters(), 0.1, &mut rng)?;
        let x = (rng.normal_tensor((6, particles * dimension), dtype, &Device::Cpu)? * 1.5)?;
        model.standardize(&x)?;
        let log_prob = model.log_prob(&x, None)?;
        // A rotation in the plane of the first two axes, with a reflection of the first.
        let (sin, cos) = 0.9f64.sin_cos();
        let mut rotation = vec![0.0; dimension * dimension];
        (0..dimension).for_each(|i| rotation[i * dimension + i] = 1.0);
        (rotation[0], rotation[1], rotation[dimension], rotation[dimension + 1]) = (-cos, sin, sin, cos);
        let rotation = Tensor::from_vec(rotation, (dimension, dimension), &Device::Cpu)?.to_dtype(dtype)?;
        let order: Vec<u32> = (0..particles as u32).rev().collect();
        let d = difference(&log_prob, &model.log_prob(&moved(&x, &order, &rotation, 2.0)?, None)?)?;
        assert!(d < limit, "{particles} particles, {dtype:?}: {d}");
        // But it is not constant.
        let other = model.log_prob(&(x * 1.1)?, None)?;
        assert!(difference(&log_prob, &other)? > 1e-3);
    }
    Ok(())
}

/// Samples are centred and come with their log-density, and the density integrates to 1: the mean of q(x) / p(x) over
/// samples of p is 1 for any density q on the same subspace.
#[test]
fn densities_are_densities_on_the_centred_subspace() -> Result<()> {
    let mut rng = Rng::seed(1);
    let model = model(3, 2, 1e-8, DType::F64, &mut rng)?;
    perturb(model.parameters(), 0.05, &mut rng)?;
    model.standardize(&(rng.normal_tensor((50, 6), DType::F64, &Device::Cpu)? * 2.0)?)?;
    assert_eq!(model.dimensions(), 4);
    let (x, log_prob) = model.sample_with_log_prob(1500, None, &mut rng)?;
    assert!(difference(&log_prob, &model.log_prob(&x, None)?)? < 1e-5);
    let centre = x.reshape((1500, 3, 2))?.sum(1)?;
    assert!(difference(&centre.zeros_like()?, &centre)? < 1e-12);
    // A normal with a smaller standard deviation on the subspace, so that the ratio is bounded.
    let deviation = 1.2f64;
    let constant = -2.0 * (2.0 * std::f64::consts::PI * deviation * deviation).ln();
    let other = (x.sqr()?.sum(1)? * (-0.5 / (deviation * deviation)))?;
    let ratio = ((other + constant)? - log_prob)?.exp()?.to_vec1::<f64>()?;
    let mean = ratio.iter().sum::<f64>() / ratio.len() as f64;
    let variance = ratio.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / ratio.len() as f64;
    let error = (variance / ratio.len() as f64).sqrt();
    assert!((mean - 1.0).abs() < 4.0 * error && error < 0.08, "{mean} with standard error {error}");
    Ok(())
}

/// Configurations of four particles at the corners of a rhombus, with random rotation and order and a little noise.
fn rhombi(count: usize, rng: &mut Rng) -> Result<Tensor> {
    let mut values = Vec::with_capacity(count * 8);
    for _ in 0..count {
        let (sin, cos) = (rng.uniform() * std::f64::consts::TAU).sin_cos();
        let at = [[0.0, 2.0], [0.0, -2.0], [1.2, 0.0], [-1.2, 0.0]];
        for i in rng.permutation(4) {
            let [x, y] = at[i as usize].map(|v| v + 0.2 * rng.normal());
            values.extend([cos * x - sin * y, sin * x + cos * y]);
        }
    }
    Ok(Tensor::from_vec(values, (count, 8), &Device::Cpu)?.to_dtype(DType::F32)?)
}

#[test]
fn matching_and_likelihood_learn_rhombi() -> Result<()> {
    let mut rng = Rng::seed(0);
    let model = model(4, 2, 1e-2, DType::F32, &mut rng)?;
    let x = rhombi(2000, &mut rng)?;
    model.standardize(&x)?;
    let test = rhombi(500, &mut rng)?;
    let nats = || Ok::<_, flows_core::Error>(model.log_prob(&test, None)?.mean_all()?.to_scalar::<f32>()?);
    let before = nats()?;
    let config = TrainConfig { steps: 330, optimizer: OptimizerConfig::adam(5e-3), ..TrainConfig::default() };
    let mut trainer = Trainer::new(model.parameters(), config, rng.fork())?;
    let loss = |i: u64, rng: &mut Rng| {
        let x = rhombi(32, rng)?;
        if i < 300 { model.matching_loss(&x, Pairing::Optimal, rng) } else { forward_kl(&model, &x, None, rng) }
    };
    trainer.run(loss, None, &mut ())?;
    let after = nats()?;
    assert!(after > before + 3.0, "{before} before, {after} after");
    Ok(())
}
