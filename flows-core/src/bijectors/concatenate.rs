//! Bijectors side by side.

use super::reshape::no_log_det;
use super::{Bijector, Pass, Sweep, check_event};
use crate::ops::Direction;
use crate::{Error, Result, Rng, Structure};
use candle_core::Tensor;

/// Bijectors on consecutive parts along the event's first axis; log-determinants add up.
///
/// Each part is as long as its bijector's own first axis; the other axes agree. All see the same
/// context.
#[derive(Debug)]
pub struct Concatenate {
    parts: Vec<Box<dyn Bijector>>,
    latent: Vec<usize>,
    data: Vec<usize>,
}

impl Concatenate {
    /// `parts` in the order of the event.
    ///
    /// # Errors
    /// When there is none, or their shapes do not agree behind the first axis.
    pub fn new(parts: Vec<Box<dyn Bijector>>) -> Result<Self> {
        let latent = joined(parts.iter().map(|part| part.latent_shape()))?;
        let data = joined(parts.iter().map(|part| part.data_shape()))?;
        Ok(Self { parts, latent, data })
    }

    fn run<'a>(
        &'a self,
        v: &Tensor,
        event: &[usize],
        size: impl Fn(&dyn Bijector) -> usize,
        mut apply: impl FnMut(&'a dyn Bijector, &Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<(Tensor, Tensor)> {
        check_event("the input of a concatenation", v, event)?;
        let mut values = Vec::with_capacity(self.parts.len());
        let mut total = no_log_det(v)?;
        let mut start = 0;
        for part in &self.parts {
            let size = size(part.as_ref());
            let (value, log_det) = apply(part.as_ref(), &v.narrow(1, start, size)?)?;
            values.push(value);
            total = (total + log_det)?;
            start += size;
        }
        Ok((Tensor::cat(&values, 1)?, total))
    }
}

/// The shape of events of these shapes behind each other along the first axis.
fn joined<'a>(mut shapes: impl Iterator<Item = &'a [usize]>) -> Result<Vec<usize>> {
    let Some([length, rest @ ..]) = shapes.next() else {
        return Err(Error::Config("a concatenation needs parts of at least one axis".into()));
    };
    let mut whole = vec![*length];
    whole.extend(rest);
    for shape in shapes {
        match shape {
            [length, others @ ..] if others == rest => whole[0] += length,
            got => return Err(Error::shape("a part of a concatenation", got, format!("any length and {rest:?}"))),
        }
    }
    Ok(whole)
}

fn latent_size(part: &dyn Bijector) -> usize {
    part.latent_shape()[0]
}

fn data_size(part: &dyn Bijector) -> usize {
    part.data_shape()[0]
}

impl Bijector for Concatenate {
    fn latent_shape(&self) -> &[usize] {
        &self.latent
    }

    fn data_shape(&self) -> &[usize] {
        &self.data
    }

    fn forward(&self, z: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.run(z, &self.latent, latent_size, |part, z| part.forward(z, context))
    }

    fn inverse(&self, x: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.run(x, &self.data, data_size, |part, x| part.inverse(x, context))
    }

    fn inverse_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        self.run(x, &self.data, data_size, |part, x| part.inverse_training(x, context, rng))
    }

    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        let apply = |part: &dyn Bijector, x: &Tensor| Ok((part.initialize(x, context)?, no_log_det(x)?));
        Ok(self.run(x, &self.data, data_size, apply)?.0)
    }

    fn pass<'a>(
        &'a self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mut rng: Option<&mut Rng>,
    ) -> Result<Pass<'a>> {
        let (mut ways, mut repeatable) = (Vec::with_capacity(self.parts.len()), true);
        let apply = |part: &'a dyn Bijector, v: &Tensor| {
            let pass = part.pass(direction, v, context, rng.as_deref_mut())?;
            repeatable &= pass.repeatable;
            ways.push(pass.back);
            Ok((pass.value, pass.log_det))
        };
        type Size = fn(&dyn Bijector) -> usize;
        let (latent, data): ((_, Size), (_, Size)) = ((&self.latent, latent_size), (&self.data, data_size));
        let (from, to) = if direction == Direction::Forward { (latent, data) } else { (data, latent) };
        let (value, log_det) = self.run(&input.detach(), from.0, from.1, apply)?;
        let back = move |gradient: Tensor, sweep: &mut Sweep<'_>| {
            let mut ways = ways.into_iter();
            let apply = |_: &dyn Bijector, gradient: &Tensor| match ways.next() {
                Some(back) => Ok((back(gradient.contiguous()?, sweep)?, no_log_det(gradient)?)),
                None => Err(Error::Config("a part has no way back".into())),
            };
            Ok(self.run(&gradient, to.0, to.1, apply)?.0)
        };
        Ok(Pass { value, log_det, back: Box::new(back), repeatable })
    }

    fn structure(&self) -> Structure {
        Structure::new("Concatenate", format!("{:?}", self.data)).parts(self.parts.iter().map(|p| p.structure()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bijectors::{Inverse, Planar, Radial, Reshape};
    use crate::nn::Parameters;
    use crate::testing::{measure, perturb};
    use candle_core::{DType, Device};

    #[test]
    fn parts_keep_their_place() -> Result<()> {
        let mut rng = Rng::seed(1);
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let scope = parameters.scope();
        let both = Concatenate::new(vec![
            Box::new(Radial::new(2, None, &scope.enter("a"))?),
            Box::new(Inverse(Box::new(Planar::new(3, None, &scope.enter("b"))?))),
        ])?;
        perturb(&parameters, 0.5, &mut rng)?;
        let z = rng.normal_tensor((4, 5), DType::F64, &Device::Cpu)?;
        assert!(measure(&both, &parameters, &z, None, &mut rng)?.worst() < 1e-8);
        assert_eq!(both.structure().total(), parameters.count());
        assert!(Concatenate::new(vec![]).is_err());
        let clash: Vec<Box<dyn Bijector>> = vec![Box::new(Reshape::flatten(&[2, 3])), Box::new(Reshape::flatten(&[2]))];
        assert!(Concatenate::new(clash).is_err());
        Ok(())
    }
}
