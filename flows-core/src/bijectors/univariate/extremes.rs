//! Every family at extreme points and parameters.

use super::tests::families;
use super::*;
use crate::Rng;
use crate::nn::Parameters;
use crate::ops::Direction;
use crate::testing::extreme_number;
use candle_core::{Device, Var};

/// What is wrong with value, log-derivative or gradients at one of `rows` points.
fn fault(
    family: &dyn Univariate,
    direction: Direction,
    dtype: DType,
    spread: f64,
    rows: usize,
    rng: &mut Rng,
) -> Result<Option<String>> {
    let p = family.parameter_count();
    let x = Var::from_tensor(&rng.tensor((rows, 1), dtype, &Device::Cpu, extreme_number)?)?;
    let raw = match p {
        0 => Tensor::zeros((1, 1, 0), dtype, &Device::Cpu)?,
        _ => Var::from_tensor(&(rng.normal_tensor((rows, 1, p), dtype, &Device::Cpu)? * spread)?)?.into_inner(),
    };
    let (value, log) = match direction {
        Direction::Forward => family.forward(&x, &raw)?,
        Direction::Inverse => family.inverse(&x, &raw)?,
    };
    let gradients = (value.sum_all()? + log.sum_all()?)?.backward()?;
    let numbers = |t: &Tensor| -> Result<Vec<f64>> { Ok(t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?) };
    let gradient = |t: &Tensor| gradients.get(t).map_or_else(|| Ok(vec![0.0; t.elem_count()]), numbers);
    let (gx, gp) = (gradient(&x)?, if p == 0 { vec![] } else { gradient(&raw)? });
    let (x, raw, value, log) = (numbers(&x)?, numbers(&raw)?, numbers(&value)?, numbers(&log)?);
    for i in 0..rows {
        let gp = gp.get(i * p..(i + 1) * p).unwrap_or_default();
        let fine = |v: &f64| v.is_finite();
        let log_fine = log[i].is_finite() || log[i] == f64::NEG_INFINITY;
        if !(value[i].is_finite() && log_fine && gx[i].is_finite() && gp.iter().all(fine)) {
            let raw = raw.get(i * p..(i + 1) * p).unwrap_or_default();
            return Ok(Some(format!(
                "{direction:?} {dtype:?} {spread} at {:e}: {} {} {} {gp:?} with {raw:?}",
                x[i], value[i], log[i], gx[i]
            )));
        }
    }
    Ok(None)
}

#[test]
fn families_are_finite_or_refuse() -> Result<()> {
    let mut faults = Vec::new();
    for (name, make, _) in families() {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(1));
        let double = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(1));
        for (dtype, parameters) in [(DType::F32, parameters), (DType::F64, double)] {
            let family = make(&parameters.scope())?;
            let mut rng = Rng::seed(7);
            for direction in [Direction::Forward, Direction::Inverse] {
                for spread in [1.0, 10.0, 100.0] {
                    let found = fault(family.as_ref(), direction, dtype, spread, 128, &mut rng)?;
                    faults.extend(found.map(|fault| format!("{name}: {fault}")));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    Ok(())
}

#[test]
fn a_nan_stays_in_every_family() -> Result<()> {
    for (name, make, [shift, scale]) in families() {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(1));
        let family = make(&parameters.scope())?;
        let p = family.parameter_count();
        let rng = &mut Rng::seed(3);
        let x = rng.normal_tensor((4, 1), DType::F32, &Device::Cpu)?.affine(scale, shift)?;
        let raw = rng.normal_tensor((4, 1, p.max(1)), DType::F32, &Device::Cpu)?.narrow(2, 0, p.max(1))?;
        let raw = if p == 0 { Tensor::zeros((1, 1, 0), DType::F32, &Device::Cpu)? } else { raw };
        let nan = (x.zeros_like()? + f64::NAN)?;
        for direction in [Direction::Forward, Direction::Inverse] {
            let run = |x: &Tensor, raw: &Tensor| match direction {
                Direction::Forward => family.forward(x, raw),
                Direction::Inverse => family.inverse(x, raw),
            };
            let (value, log) = run(&nan, &raw)?;
            let stays =
                |t: &Tensor| Ok::<_, crate::Error>(t.flatten_all()?.to_vec1::<f32>()?.iter().all(|v| v.is_nan()));
            assert!(stays(&value)?, "{name} {direction:?}: NaN gives {value}");
            let log = log.flatten_all()?.to_vec1::<f32>()?;
            assert!(log.iter().all(|l| *l != f32::NEG_INFINITY), "{name} {direction:?}: NaN gives {log:?}");
            if p == 0 {
                continue;
            }
            // Within the interval of a spline, which is the identity beside it.
            let inside = x.clamp(-0.9, 0.9)?;
            let (value, log) = run(&inside, &(raw.zeros_like()? + f64::NAN)?)?;
            assert!(stays(&value)?, "{name} {direction:?}: parameters of NaN give {value}");
            let log = log.flatten_all()?.to_vec1::<f32>()?;
            assert!(log.iter().all(|l| *l != f32::NEG_INFINITY), "{name} {direction:?}: NaN gives {log:?}");
        }
    }
    Ok(())
}
