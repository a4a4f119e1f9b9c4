//! Soft updates of target networks.

use super::ema::lerp;
use super::slices::assign;
use crate::nn::Parameters;
use crate::{Error, Result};
use std::collections::HashMap;

/// Moves the weights of a target network towards those of a source:
/// `target = (1 - tau) target + tau source`. Buffers are copied, and for tau = 1 so are weights.
///
/// Polyak averaging as in Lillicrap et al. 2016 (arXiv:1509.02971, algorithm 1). The target is a
/// separate model, built from [`Parameters::to_device`] of the source's store.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use flows_core::{nn::{Init, Parameters}, train::soft_update, Rng};
/// let source = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
/// source.scope().weight("w", 1, Init::Constant(1.0))?;
/// let target = source.to_device(&Device::Cpu);
/// let w = target.scope().weight("w", 1, Init::Zeros)?;
/// source.trainable()[0].1.set(&Tensor::new(&[3.0], &Device::Cpu)?)?;
/// soft_update(&target, &source, 0.25)?;
/// assert_eq!(w.to_vec1::<f64>()?, [1.5]);
/// # Ok::<(), flows_core::Error>(())
/// ```
///
/// # Errors
/// When tau is not in [0, 1], or the two stores differ in names or shapes; then nothing is
/// changed.
pub fn soft_update(target: &Parameters, source: &Parameters, tau: f64) -> Result<()> {
    if !(0.0..=1.0).contains(&tau) {
        return Err(Error::Config(format!("a soft update needs tau in [0, 1], but it is {tau}")));
    }
    if target.shares_memory_with(source) {
        return Ok(());
    }
    let mut sources: HashMap<_, _> = source.tensors().into_iter().collect();
    let mut pairs = Vec::with_capacity(sources.len());
    for (name, to) in target.tensors() {
        let from = sources.remove(&name).ok_or_else(|| only_one_has(&name, "target"))?;
        if from.dims() != to.dims() {
            return Err(Error::shape(
                format!("`{name}` of the source of a soft update"),
                from.dims(),
                format!("{:?}", to.dims()),
            ));
        }
        pairs.push((name, to, from));
    }
    if let Some(name) = sources.into_keys().min() {
        return Err(only_one_has(&name, "source"));
    }
    let weights: HashMap<_, _> = target.trainable().into_iter().collect();
    for (name, to, from) in pairs {
        let from = from.to_dtype(to.dtype())?.to_device(to.device())?;
        match weights.get(&name) {
            Some(weight) if tau < 1.0 => lerp(weight, &from, tau)?,
            _ => assign(&to, &from)?,
        }
    }
    Ok(())
}

fn only_one_has(name: &str, which: &str) -> Error {
    Error::Config(format!(
        "only the {which} of a soft update has a tensor `{name}`: build both models with the same settings"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::nn::{Buffer, Init};
    use candle_core::{DType, Device, Tensor};

    fn model(parameters: &Parameters, width: usize) -> Result<(Tensor, Buffer)> {
        let scope = parameters.scope();
        let seen = scope.buffer("seen", &Tensor::new(&[0u8], &Device::Cpu)?)?;
        Ok((scope.weight("w", width, Init::Normal(1.0))?, seen))
    }

    fn values(t: &Tensor) -> Vec<f64> {
        t.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_target_moves_by_its_share() -> Result<()> {
        for (dtype, tolerance) in [(DType::F64, 1e-15), (DType::F32, 1e-6)] {
            let source = Parameters::new(dtype, &Device::Cpu, Rng::seed(0));
            let target = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(1));
            let (from, seen) = model(&source, 4)?;
            let (to, copied) = model(&target, 4)?;
            seen.set(&Tensor::new(&[7u8], &Device::Cpu)?)?;
            let before = values(&to);
            soft_update(&target, &source, 0.3)?;
            for ((now, before), from) in values(&to).iter().zip(before).zip(values(&from)) {
                assert!((now - (0.7 * before + 0.3 * from)).abs() < tolerance);
            }
            assert_eq!(copied.get().to_vec1::<u8>()?, [7]);
            soft_update(&target, &source, 1.0)?;
            assert_eq!(values(&to), values(&from));
            soft_update(&source, &source.detached(), 0.5)?;
            assert_eq!(values(&to), values(&from));
        }
        Ok(())
    }

    #[test]
    fn stores_that_do_not_match_are_refused() -> Result<()> {
        let new = || Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        let (target, other, more) = (new(), new(), new());
        let (w, _) = model(&target, 4)?;
        model(&other, 5)?;
        model(&more, 4)?;
        more.scope().weight("late", 1, Init::Zeros)?;
        let before = values(&w);
        let said = |from: &Parameters, tau: f64, part: &str| {
            let message = soft_update(&target, from, tau).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        said(&other, 0.5, "`w`");
        said(&more, 0.5, "only the source of a soft update has a tensor `late`");
        said(&new(), 0.5, "only the target");
        said(&more, 1.5, "1.5");
        assert_eq!(values(&w), before);
        Ok(())
    }
}
