//! Bijectors on the slices of an axis.

use super::concatenate::images;
use super::vjp::Apply;
use super::{Bijector, Direction, Mode, Recompute, Support, Vjp};
use crate::shape::{check_event, zero_log_det};
use crate::{Error, Result, Structure};
use candle_core::Tensor;

/// n bijectors of one event shape, each on its slice of events (n, shape...); log-determinants add up.
#[derive(Debug)]
pub struct Stack {
    parts: Vec<Box<dyn Bijector>>,
    latent: Vec<usize>,
    data: Vec<usize>,
}

impl Stack {
    /// `parts` in the order of the event's leading axis.
    ///
    /// # Errors
    /// When there are none or their shapes differ.
    pub fn new(parts: Vec<Box<dyn Bijector>>) -> Result<Self> {
        let Some(first) = parts.first() else {
            return Err(Error::Config("a stack needs at least one bijector".into()));
        };
        for part in &parts {
            for (shape, want) in [(part.latent_shape(), first.latent_shape()), (part.data_shape(), first.data_shape())]
            {
                if shape != want {
                    return Err(Error::shape("a part of a stack", shape, format!("the {want:?} of the first")));
                }
            }
        }
        let stacked = |shape: &[usize]| [&[parts.len()], shape].concat();
        let (latent, data) = (stacked(first.latent_shape()), stacked(first.data_shape()));
        Ok(Self { parts, latent, data })
    }

    fn run<'a>(&'a self, direction: Direction, v: &Tensor, apply: Apply<'_, 'a>) -> Result<(Tensor, Tensor)> {
        let event = if direction == Direction::Forward { &self.latent } else { &self.data };
        check_event("the input of a stack", v, event)?;
        let mut values = Vec::with_capacity(self.parts.len());
        let mut total = zero_log_det(v)?;
        for (i, part) in self.parts.iter().enumerate() {
            let (value, log_det) = apply(part.as_ref(), &v.narrow(1, i, 1)?.squeeze(1)?)?;
            values.push(value);
            total = (total + log_det)?;
        }
        Ok((Tensor::stack(&values, 1)?, total))
    }
}

impl Bijector for Stack {
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
        Structure::new("Stack", format!("{:?}", self.data)).parts(self.parts.iter().map(|p| p.structure()))
    }
}

impl Recompute for Stack {
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
    use crate::bijectors::{Planar, Radial};
    use crate::nn::Parameters;
    use crate::testing::{measure, perturb};
    use candle_core::{DType, Device};

    #[test]
    fn slices_keep_their_place() -> Result<()> {
        let mut rng = Rng::seed(1);
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let scope = parameters.scope();
        let stack = Stack::new(vec![
            Box::new(Radial::new(2, Some(3), &scope.enter("a"))?),
            Box::new(Planar::new(2, None, &scope.enter("b"))?),
        ])?;
        perturb(&parameters, 0.3, &mut rng)?;
        let z = rng.normal_tensor((4, 2, 2), DType::F64, &Device::Cpu)?;
        let context = rng.normal_tensor((4, 3), DType::F64, &Device::Cpu)?;
        assert!(measure(&stack, &parameters, &z, Some(&context), &mut rng)?.worst() < 1e-8);
        let odd = Box::new(Planar::new(3, None, &scope.enter("c"))?);
        let even = Box::new(Planar::new(2, None, &scope.enter("d"))?);
        assert!(Stack::new(vec![odd, even]).is_err());
        Ok(())
    }
}
