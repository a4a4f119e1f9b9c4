use super::*;
use crate::field::{Batch, Kernel, Penalty, Probe, Vectors, composed, weights};
use candle_core::{DType, Device, Var};
use flows_core::Rng;
use flows_core::nn::Parameters;
use flows_core::testing::{difference, gradient_difference, perturb};

fn values(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.flatten_all()?.to_vec1()?)
}

fn field(particles: usize, dimension: usize, layers: usize, rng: &mut Rng) -> Result<(Graph, Parameters)> {
    let parameters = Parameters::new(DType::F64, &Device::Cpu, rng.fork());
    let config = GraphConfig { dimension, width: 5, layers, ..GraphConfig::default() };
    let field = Graph::new((particles - 1) * dimension, None, &config, &parameters.scope())?;
    perturb(&parameters, 0.1, rng)?;
    Ok((field, parameters))
}

/// The kernels' values and gradients agree with the composition's, for blocks and chunks of every kind; the
/// composition's gradients agree with central differences.
#[test]
fn fields_are_differentiated_exactly() -> Result<()> {
    let mut rng = Rng::seed(0);
    for (particles, dimension, layers, noisy, rows) in
        [(2, 1, 1, false, 3), (4, 2, 2, false, 30), (4, 2, 3, true, 9), (13, 3, 2, false, 3), (13, 3, 2, true, 20)]
    {
        let (field, parameters) = field(particles, dimension, layers, &mut rng)?;
        assert_eq!(field.structure().total(), parameters.count());
        let dim = field.dim();
        let mut var =
            |shape: &[usize]| Ok::<_, Error>(Var::from_tensor(&rng.normal_tensor(shape, DType::F64, &Device::Cpu)?)?);
        let (z, e) = (var(&[rows, dim])?, var(&[rows, dim])?);
        let (grad_value, grad_divergence) = (var(&[rows, dim])?, var(&[rows])?);
        let probe = if noisy { Probe::Noise(e.as_tensor().clone()) } else { Probe::Basis };
        let penalty = Penalty { kinetic: 0.3, jacobian: 0.2 };
        let both = |t: f64| composed(&field, t, &z, None, &probe, penalty);
        let loss = |t: f64| {
            let (value, divergence) = both(t)?;
            let second = (divergence * grad_divergence.as_tensor())?.sum_all()?;
            Ok(((value * grad_value.as_tensor())?.sum_all()? + second)?)
        };
        let (value, divergence) = both(0.7)?;
        let gradients = loss(0.7)?.backward()?;

        let (zs, es) = (values(&z)?, values(&e)?);
        let vectors = if noisy { Vectors::Noise(&es) } else { Vectors::Basis };
        let batch = Batch { z: &zs, context: &[], vectors, penalty };
        let weights = values(&weights(&field)?)?;
        let close = |want: &Tensor, got: &[f64], what: &str| {
            let scale = want.abs()?.max_all()?.to_scalar::<f64>()?.max(1.0);
            let got = Tensor::from_slice(got, want.shape().clone(), &Device::Cpu)?;
            let d = difference(&(want / scale)?, &(got / scale)?)?;
            assert!(d < 1e-11, "{particles} particles, {what}: {d}");
            Ok::<_, Error>(())
        };
        let (got_value, got_divergence) = field.rates(&weights, 0.7, batch);
        close(&value, &got_value, "value")?;
        close(&divergence, &got_divergence, "divergence")?;
        let seeds = (values(&grad_value)?, values(&grad_divergence)?);
        let got = field.gradients(&weights, 0.7, batch, (&seeds.0, &seeds.1));
        let want = |var: &Tensor| gradients.get(var).cloned().ok_or_else(|| Error::Config("no gradient".into()));
        close(&value, &got.value, "value with gradients")?;
        close(&want(&z)?, &got.z, "gradient of z")?;
        let flat: Vec<Tensor> =
            parameters.trainable().iter().map(|(_, v)| Ok(want(v)?.flatten_all()?)).collect::<Result<_>>()?;
        close(&Tensor::cat(&flat, 0)?, &got.weights, "gradient of the weights")?;
        let slope = (loss(0.7 + 1e-5)? - loss(0.7 - 1e-5)?)?.to_scalar::<f64>()? / 2e-5;
        assert!((slope - got.t).abs() < 1e-6 * slope.abs().max(1.0), "{slope} {}", got.t);
        if particles < 10 && rows < 10 {
            let d = gradient_difference(|| loss(0.7), &parameters, &[("z", &z)], &mut Rng::seed(1))?;
            assert!(d < 1e-7, "{particles} particles: {d}");
        }
    }
    Ok(())
}

/// The gradient with respect to a context is right, and the field is equivariant when particles are permuted along with
/// their features.
#[test]
fn a_context_holds_features_of_particles_and_of_the_configuration() -> Result<()> {
    let mut rng = Rng::seed(2);
    let (n, d) = (3, 2);
    for (features, width) in [(0, 2), (1, 3), (2, 7)] {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, rng.fork());
        let config = GraphConfig { dimension: d, width: 4, layers: 2, features, ..GraphConfig::default() };
        let field = Graph::new((n - 1) * d, Some(width), &config, &parameters.scope())?;
        perturb(&parameters, 0.1, &mut rng)?;
        assert_eq!(field.structure().total(), parameters.count());
        let mut var =
            |shape: &[usize]| Ok::<_, Error>(Var::from_tensor(&rng.normal_tensor(shape, DType::F64, &Device::Cpu)?)?);
        let (z, c, e) = (var(&[5, (n - 1) * d])?, var(&[5, width])?, var(&[5, (n - 1) * d])?);
        let both = |z: &Tensor, c: &Tensor| composed(&field, 0.4, z, Some(c), &Probe::Basis, Penalty::default());
        let loss = || {
            let (value, divergence) = both(&z, &c)?;
            Ok(((value * e.as_tensor())?.sum_all()? + divergence.sum_all()?)?)
        };
        let d_loss = gradient_difference(loss, &parameters, &[("z", &z), ("c", &c)], &mut Rng::seed(1))?;
        assert!(d_loss < 1e-7, "{features}, {width}: {d_loss}");
        // Exchanging particles 0 and 2 is an orthogonal map of the coordinates.
        let basis = Tensor::new(centred_basis(n), &Device::Cpu)?.reshape((n - 1, n))?;
        let exchange = |particles: &Tensor| particles.index_select(&Tensor::new(&[2u32, 1, 0], &Device::Cpu)?, 1);
        let moved = |z: &Tensor| {
            let at = basis.t()?.contiguous()?.broadcast_matmul(&z.reshape((5, n - 1, d))?)?;
            Ok::<_, Error>(basis.broadcast_matmul(&exchange(&at)?)?.reshape((5, (n - 1) * d))?)
        };
        let own = exchange(&c.narrow(1, 0, n * features)?.reshape((5, n, features))?)?.reshape((5, n * features))?;
        let moved_context = Tensor::cat(&[&own, &c.narrow(1, n * features, width - n * features)?], 1)?;
        let (value, divergence) = both(&z, &c)?;
        let (there, divergence_there) = both(&moved(&z)?, &moved_context)?;
        assert!(difference(&moved(&value)?, &there)? < 1e-12 && difference(&divergence, &divergence_there)? < 1e-11);
        let distinguished = difference(&both(&moved(&z)?, &c)?.1, &divergence)? > 1e-6;
        assert_eq!(distinguished, features > 0);
    }
    Ok(())
}

/// The divergence is the trace of the Jacobian, as autograd computes it.
#[test]
fn the_divergence_is_a_trace() -> Result<()> {
    let mut rng = Rng::seed(1);
    let (field, _) = field(3, 2, 2, &mut rng)?;
    let z = Var::from_tensor(&rng.normal_tensor((5, 4), DType::F64, &Device::Cpu)?)?;
    let (value, divergence) = composed(&field, 0.3, &z, None, &Probe::Basis, Penalty::default())?;
    let mut trace = Tensor::zeros(5, DType::F64, &Device::Cpu)?;
    for k in 0..4 {
        let gradients = value.narrow(1, k, 1)?.sum_all()?.backward()?;
        trace = (trace + gradients.get(&z).expect("a gradient").narrow(1, k, 1)?.squeeze(1)?)?;
    }
    assert!(difference(&trace, &divergence)? < 1e-11);
    Ok(())
}

#[test]
fn invalid_sizes_are_errors() -> Result<()> {
    let build = |dim: usize, config: GraphConfig| {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        Graph::new(dim, None, &config, &parameters.scope()).map(drop)
    };
    assert!(build(6, GraphConfig::default()).is_ok());
    let error = build(7, GraphConfig::default()).unwrap_err().to_string();
    assert!(error.contains("`dimension`"), "{error}");
    for config in [
        GraphConfig { dimension: 0, ..GraphConfig::default() },
        GraphConfig { width: 0, ..GraphConfig::default() },
        GraphConfig { layers: 0, ..GraphConfig::default() },
        GraphConfig { range: f64::NAN, ..GraphConfig::default() },
        GraphConfig { features: 1, ..GraphConfig::default() },
    ] {
        assert!(build(6, config).is_err());
    }
    Ok(())
}
