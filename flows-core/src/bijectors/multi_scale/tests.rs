use super::*;
use crate::Rng;
use crate::bijectors::univariate::Affine;
use crate::bijectors::{Bounds, Chain, Elementwise, Indexed, Radial, Reshape, Squeeze};
use crate::nn::{Activation, Mlp, Network, NetworkConfig, Output, Parameters, Scope};
use crate::testing::{Case, difference, measure, perturb};
use candle_core::{DType, Device};
use std::sync::Arc;

/// The context as a vector.
#[derive(Debug)]
struct Flatten;

impl Network for Flatten {
    fn forward(&self, x: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<Tensor> {
        Ok(x.flatten_from(1)?)
    }

    fn structure(&self) -> Structure {
        Structure::new("Flatten", "")
    }
}

fn level(data: &[usize], prior: bool, scope: &Scope) -> Result<Level> {
    let squeeze = Squeeze::new(data, 2)?;
    let shape = squeeze.latent_shape().to_vec();
    let n: usize = shape.iter().product();
    let step = Indexed::new(Box::new(Radial::new(n, None, &scope.enter("flow"))?), &shape, 0..n)?;
    let flow = Box::new(Chain::new(vec![Box::new(step), Box::new(squeeze)])?);
    let half = [shape[0] / 2, shape[1], shape[2]];
    let prior = match prior {
        false => None,
        true => {
            let radial = Radial::new(n / 2, Some(n / 2), &scope.enter("prior"))?;
            let affine = Chain::new(vec![Box::new(radial), Box::new(Reshape::flatten(&half))])?;
            Some(SplitPrior::embedded(Box::new(Flatten), Box::new(affine)))
        }
    };
    Ok(Level { flow, prior })
}

#[test]
fn one_vector_is_the_whole_model() -> Result<()> {
    let mut rng = Rng::seed(1);
    let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
    let scope = parameters.scope();
    let model = MultiScale::new(vec![
        level(&[1, 4, 4], true, &scope.enter(0))?,
        Level { flow: Box::new(Squeeze::new(&[2, 2, 2], 2)?), prior: None },
    ])?;
    perturb(&parameters, 0.2, &mut rng)?;
    assert_eq!((model.data_shape(), model.latent_shape()), (&[1, 4, 4][..], &[16][..]));
    assert_eq!(model.parts(), [8, 8]);
    let z = rng.normal_tensor((3, 16), DType::F64, &Device::Cpu)?;
    let report = measure(&model, &parameters, &z, None, &mut rng)?;
    assert!(report.worst() < 1e-8, "{report:?}");
    Ok(())
}

#[test]
fn the_last_channels_leave_first() -> Result<()> {
    let levels = vec![
        Level { flow: Box::new(Squeeze::new(&[1, 4, 4], 2)?), prior: None },
        Level { flow: Box::new(Squeeze::new(&[2, 2, 2], 2)?), prior: None },
    ];
    let model = MultiScale::new(levels)?;
    let x = Tensor::arange(0.0, 16.0, &Device::Cpu)?.reshape((1, 1, 4, 4))?;
    let z = model.inverse(&x, None)?.0;
    let left = [4.0, 6.0, 12.0, 14.0, 5.0, 7.0, 13.0, 15.0];
    let stayed = [0.0, 2.0, 8.0, 10.0, 1.0, 3.0, 9.0, 11.0];
    assert_eq!(z.squeeze(0)?.to_vec1::<f64>()?, [left, stayed].concat());
    assert_eq!(difference(&x, &model.forward(&z, None)?.0)?, 0.0);
    Ok(())
}

#[test]
fn a_level_takes_some_of_the_channels_of_the_one_before() -> Result<()> {
    let level = |shape: &[usize]| {
        let flow = Box::new(Reshape::new(shape, shape)?);
        Ok::<_, Error>(Level { flow, prior: None })
    };
    // WaveGlow's channels.
    let model = MultiScale::new(vec![level(&[8, 3])?, level(&[6, 3])?, level(&[4, 3])?])?;
    assert_eq!(model.parts(), [6, 6, 12]);
    let x = Tensor::arange(0.0, 24.0, &Device::Cpu)?.reshape((1, 8, 3))?;
    let z = model.inverse(&x, None)?.0;
    let want: Vec<f64> = (18..24).chain(12..18).chain(0..12).map(f64::from).collect();
    assert_eq!(z.squeeze(0)?.to_vec1::<f64>()?, want);
    assert_eq!(difference(&x, &model.forward(&z, None)?.0)?, 0.0);
    for next in [&[8, 3][..], &[9, 3], &[0, 3], &[4, 2], &[4]] {
        let error = MultiScale::new(vec![level(&[8, 3])?, level(next)?]).unwrap_err().to_string();
        assert!(error.contains("the data of level 1 has shape") && error.contains("not all"), "{error}");
    }
    assert!(MultiScale::new(vec![]).is_err());
    // The data are those of the first level.
    let positive = Support::positive([8, 3]);
    let first = Level { flow: positive.bijector(DType::F64, &Device::Cpu)?, prior: None };
    assert_eq!(MultiScale::new(vec![first, level(&[6, 3])?])?.support(), Some(positive));
    assert_eq!(model.support(), None);
    Ok(())
}

#[test]
fn bounds_go_through_the_levels_and_priors() -> Result<()> {
    let onto =
        |bounds: [Bounds; 1], shape: &[usize]| Support::bounded(shape, bounds).bijector(DType::F64, &Device::Cpu);
    let identity = |shape: &[usize]| Box::new(Reshape::new(shape, shape).unwrap()) as Box<dyn Bijector>;
    let (above, unit) = (Bounds::above(2.0), Bounds::between(0.0, 1.0));
    // Of four channels one stays, through a map onto (2, inf); three leave from a map onto (0, 1).
    let model = MultiScale::new(vec![
        Level { flow: identity(&[4, 2]), prior: Some(SplitPrior::new(onto([unit], &[3, 2])?)) },
        Level { flow: onto([above], &[1, 2])?, prior: None },
    ])?;
    let data = [vec![above; 2], vec![unit; 6]].concat();
    let z = Rng::seed(0).normal_tensor((1000, 8), DType::F64, &Device::Cpu)?;
    let x = model.forward(&z, None)?.0.flatten_from(1)?.to_vec2::<f64>()?;
    assert!(x.iter().all(|x| x.iter().zip(&data).all(|(x, bounds)| bounds.contain(*x))));
    assert_eq!(model.support(), Some(Support::bounded([4, 2], data.clone())));
    // Without maps of their own levels only move the bounds.
    let model = MultiScale::new(vec![
        Level { flow: identity(&[4, 2]), prior: None },
        Level { flow: identity(&[1, 2]), prior: None },
    ])?;
    let (z, x) = (Support::bounded([8], [&data[2..], &data[..2]].concat()), Support::bounded([4, 2], data));
    assert_eq!((model.image(&z), model.preimage(&x)), (Some(x), Some(z)));
    assert_eq!((model.support(), model.preimage(&Support::real([4, 2]))), (None, None));
    Ok(())
}

/// The channels that stay, as a vector, and the context through a network.
#[derive(Debug)]
struct Both(Mlp);

impl Network for Both {
    fn forward(&self, x: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor> {
        self.0.forward(&x.flatten_from(1)?, context, mode)
    }

    fn structure(&self) -> Structure {
        self.0.structure()
    }
}

fn conditional(scope: &Scope) -> Result<Box<dyn Bijector>> {
    let network = Mlp::new(8, &[5], Output::new(3), Some(2), Activation::Tanh, &scope.enter("network"))?;
    let (affine, linear) = (Arc::new(Affine::default()), NetworkConfig::mlp([]));
    let affine = Elementwise::conditional(&[2, 2, 2], affine, 3, &linear, &scope.enter("affine"))?;
    let first = level(&[1, 4, 4], false, &scope.enter(0))?;
    let prior = Some(SplitPrior::embedded(Box::new(Both(network)), Box::new(affine)));
    let levels = vec![Level { prior, ..first }, level(&[2, 2, 2], false, &scope.enter(1))?];
    Ok(Box::new(MultiScale::new(levels)?))
}

#[test]
fn a_prior_sees_the_channels_that_stay_and_the_context() -> Result<()> {
    let case = Case::new("multi-scale, prior of channels and context", conditional).given([2]);
    case.round_trip()?;
    case.derivatives()?;
    case.every_weight_learns()?;
    case.rows_are_independent()?;
    case.wrong_shapes_are_errors()?;
    case.extremes_stay_in_their_row()?;
    case.trains()?;
    case.recomputes()?;
    case.structure_counts()?;
    // The context moves the channels that leave, which come first in z, and not the rest.
    let (model, _) = case.model(DType::F64)?;
    let mut rng = Rng::seed(1);
    let x = rng.normal_tensor((1, 1, 4, 4), DType::F64, &Device::Cpu)?;
    let mut z = || {
        let context = rng.normal_tensor((1, 2), DType::F64, &Device::Cpu)?;
        Ok::<_, Error>(model.inverse(&x, Some(&context))?.0)
    };
    let (a, b) = (z()?, z()?);
    assert!(difference(&a.narrow(1, 0, 8)?, &b.narrow(1, 0, 8)?)? > 1e-3);
    assert_eq!(difference(&a.narrow(1, 8, 8)?, &b.narrow(1, 8, 8)?)?, 0.0);
    Ok(())
}
