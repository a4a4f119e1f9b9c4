//! Bijectors side by side.

use super::vjp::Apply;
use super::{Bijector, Bounds, Direction, Mode, Recompute, Support, Vjp};
use crate::shape::{check_event, zero_log_det};
use crate::{Error, Result, Structure};
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

    fn run<'a>(&'a self, direction: Direction, v: &Tensor, apply: Apply<'_, 'a>) -> Result<(Tensor, Tensor)> {
        let event = if direction == Direction::Forward { &self.latent } else { &self.data };
        check_event("the input of a concatenation", v, event)?;
        let mut values = Vec::with_capacity(self.parts.len());
        let mut total = zero_log_det(v)?;
        let mut start = 0;
        for part in &self.parts {
            let shape = if direction == Direction::Forward { part.latent_shape() } else { part.data_shape() };
            let size = shape[0];
            let (value, log_det) = apply(part.as_ref(), &v.narrow(1, start, size)?)?;
            values.push(value);
            total = (total + log_det)?;
            start += size;
        }
        Ok((Tensor::cat(&values, 1)?, total))
    }
}

/// What each part makes in a direction of its own elements of the box that holds a support.
pub(super) fn images(parts: &[Box<dyn Bijector>], direction: Direction, support: &Support) -> Vec<Support> {
    let (bounds, mut start) = (support.bounds(), 0);
    let mut image = |part: &dyn Bijector| {
        let from = if direction == Direction::Forward { part.latent_shape() } else { part.data_shape() };
        let size = from.iter().product::<usize>();
        let own = bounds.get(start..start + size).map(<[_]>::to_vec);
        start += size;
        image_of(part, direction, own.unwrap_or_default())
    };
    parts.iter().map(|part| image(part.as_ref())).collect()
}

/// What a bijector makes in a direction of the box of these bounds.
pub(super) fn image_of(part: &dyn Bijector, direction: Direction, bounds: Vec<Bounds>) -> Support {
    let shapes = [part.latent_shape(), part.data_shape()];
    let (image, to) = match direction {
        Direction::Forward => (part.image(&box_of(shapes[0], bounds)), shapes[1]),
        Direction::Inverse => (part.preimage(&box_of(shapes[1], bounds)), shapes[0]),
    };
    image.unwrap_or_else(|| Support::real(to))
}

/// Events of this shape with these bounds, all of the reals if there are none.
fn box_of(shape: &[usize], bounds: Vec<Bounds>) -> Support {
    Support::in_box(shape, bounds).unwrap_or_else(|| Support::real(shape))
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

impl Bijector for Concatenate {
    fn latent_shape(&self) -> &[usize] {
        &self.latent
    }

    fn data_shape(&self) -> &[usize] {
        &self.data
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        self.run(direction, input, &mut |part, v| part.map(direction, v, context, mode))
    }

    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.run(Direction::Inverse, x, &mut |part, x| Ok((part.initialize(x, context)?, zero_log_det(x)?)))?.0)
    }

    fn support(&self) -> Option<Support> {
        self.image(&Support::real(&self.latent[..]))
    }

    fn image(&self, latent: &Support) -> Option<Support> {
        Support::product(&self.data, images(&self.parts, Direction::Forward, latent))
    }

    fn preimage(&self, data: &Support) -> Option<Support> {
        Support::product(&self.latent, images(&self.parts, Direction::Inverse, data))
    }

    fn recompute(&self) -> Option<&dyn Recompute> {
        Some(self)
    }

    fn structure(&self) -> Structure {
        Structure::new("Concatenate", format!("{:?}", self.data)).parts(self.parts.iter().map(|p| p.structure()))
    }
}

impl Recompute for Concatenate {
    fn vjp<'a>(
        &'a self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<Vjp<'a>> {
        Vjp::of_parts(direction, input, context, mode, |direction, v, apply| self.run(direction, v, apply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
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
