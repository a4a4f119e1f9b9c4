//! A bijector on some elements of the event.

use super::concatenate::image_of;
use super::vjp::Apply;
use super::{Bijector, Direction, Mode, Recompute, Support, Vjp};
use crate::shape::{batch_shape, check_event, zero_log_det};
use crate::{Error, Result, Structure};
use candle_core::{Device, Tensor};

/// A bijector on the elements at some indices of the flattened event; the others are unchanged.
///
/// The bijector's own event may have any shape of as many elements as there are indices, in the
/// order in which they are given. `log|det|` is the bijector's.
#[derive(Debug)]
pub struct Indexed {
    part: Box<dyn Bijector>,
    shape: Vec<usize>,
    indices: Vec<usize>,
    /// The order that brings the chosen elements to the front.
    front: Tensor,
    /// Undoes it.
    back: Tensor,
}

impl Indexed {
    /// `part` on the elements `indices` (a range or a list, row-major) of events of `shape`.
    ///
    /// # Errors
    /// When an index is out of range or repeated, or there are not as many as `part` has elements.
    pub fn new(part: Box<dyn Bijector>, shape: &[usize], indices: impl IntoIterator<Item = usize>) -> Result<Self> {
        let n: usize = shape.iter().product();
        let indices: Vec<usize> = indices.into_iter().collect();
        let mut chosen = vec![false; n];
        for &i in &indices {
            match chosen.get_mut(i) {
                Some(seen) if !*seen => *seen = true,
                Some(_) => return Err(Error::Config(format!("element {i} is given twice"))),
                None => return Err(Error::Config(format!("there is no element {i} in events of {shape:?}"))),
            }
        }
        let count = indices.len();
        let elements = |shape: &[usize]| shape.iter().product::<usize>();
        if (elements(part.latent_shape()), elements(part.data_shape())) != (count, count) {
            let want = format!("{count} elements, one for each index");
            return Err(Error::shape("the event of an indexed bijector", part.data_shape(), want));
        }
        let rest = (0..n).filter(|&i| !chosen[i]);
        let front: Vec<u32> = indices.iter().copied().chain(rest).map(|i| i as u32).collect();
        let mut back = vec![0u32; n];
        front.iter().enumerate().for_each(|(at, &i)| back[i as usize] = at as u32);
        let (front, back) = (Tensor::new(front, &Device::Cpu)?, Tensor::new(back, &Device::Cpu)?);
        Ok(Self { part, shape: shape.to_vec(), indices, front, back })
    }

    fn run<'a>(&'a self, direction: Direction, v: &Tensor, apply: Apply<'_, 'a>) -> Result<(Tensor, Tensor)> {
        let event = if direction == Direction::Forward { self.part.latent_shape() } else { self.part.data_shape() };
        let batch = check_event("the input of an indexed bijector", v, &self.shape)?;
        let sorted = v.flatten_from(1)?.contiguous()?.index_select(&self.front.to_device(v.device())?, 1)?;
        let count = self.indices.len();
        let part = sorted.narrow(1, 0, count)?.reshape(batch_shape(batch, event))?;
        let rest = sorted.narrow(1, count, sorted.dim(1)? - count)?;
        let (part, log_det) = apply(self.part.as_ref(), &part)?;
        let joined = Tensor::cat(&[&part.reshape((batch, count))?, &rest], 1)?;
        let joined = joined.index_select(&self.back.to_device(v.device())?, 1)?;
        Ok((joined.reshape(v.shape())?, log_det))
    }

    /// The box that holds what a direction makes of a support: the others keep their bounds.
    fn box_of(&self, direction: Direction, support: &Support) -> Option<Support> {
        let mut bounds = support.bounds();
        let own = self.indices.iter().map(|&i| bounds.get(i).copied()).collect::<Option<Vec<_>>>()?;
        let image = image_of(self.part.as_ref(), direction, own).bounds();
        self.indices.iter().zip(image).for_each(|(&i, image)| bounds[i] = image);
        Support::in_box(&self.shape, bounds)
    }
}

impl Bijector for Indexed {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
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
        self.image(&Support::real(&self.shape[..]))
    }

    fn image(&self, latent: &Support) -> Option<Support> {
        self.box_of(Direction::Forward, latent)
    }

    fn preimage(&self, data: &Support) -> Option<Support> {
        self.box_of(Direction::Inverse, data)
    }

    fn recompute(&self) -> Option<&dyn Recompute> {
        Some(self)
    }

    fn structure(&self) -> Structure {
        let n: usize = self.shape.iter().product();
        Structure::new("Indexed", format!("{} of {n} elements", self.indices.len())).part(self.part.structure())
    }
}

impl Recompute for Indexed {
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
    use crate::bijectors::Radial;
    use crate::nn::Parameters;
    use crate::testing::{measure, perturb};
    use candle_core::DType;

    #[test]
    fn only_the_chosen_elements_move() -> Result<()> {
        let mut rng = Rng::seed(1);
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let radial = Box::new(Radial::new(2, None, &parameters.scope())?);
        let indexed = Indexed::new(radial, &[2, 3], [4, 1])?;
        perturb(&parameters, 0.5, &mut rng)?;
        let z = rng.normal_tensor((5, 2, 3), DType::F64, &Device::Cpu)?;
        assert!(measure(&indexed, &parameters, &z, None, &mut rng)?.worst() < 1e-8);
        let moved = (indexed.forward(&z, None)?.0 - &z)?.get(0)?.flatten_all()?.to_vec1::<f64>()?;
        assert_eq!(moved.iter().map(|&d| d != 0.0).collect::<Vec<_>>(), [false, true, false, false, true, false]);
        let other = || Radial::new(2, None, &parameters.scope().enter("other")).map(Box::new);
        assert!(Indexed::new(other()?, &[2], [0, 0]).is_err());
        Ok(())
    }
}
