//! One bijector after another.

use super::{Bijector, Pass, Sweep};
use crate::ops::Direction;
use crate::{Error, Result, Rng, Structure};
use candle_core::Tensor;

/// The composition of bijectors: `forward` applies them first to last, `inverse` last to first.
///
/// `x = f_K(... f_1(z))`, `log|det dx/dz| = sum_k log|det df_k|`. Event shapes of neighbours must
/// agree; that is checked when the chain is made.
#[derive(Debug)]
pub struct Chain {
    steps: Vec<Box<dyn Bijector>>,
}

impl Chain {
    /// The chain of `steps`, from the base to the data.
    ///
    /// # Errors
    /// When there is no step, or the data shape of one is not the latent shape of the next.
    pub fn new(steps: Vec<Box<dyn Bijector>>) -> Result<Self> {
        if steps.is_empty() {
            return Err(Error::Config("a chain needs at least one bijector".into()));
        }
        for (i, pair) in steps.windows(2).enumerate() {
            if pair[0].data_shape() != pair[1].latent_shape() {
                let want = format!("the {:?} of step {}", pair[1].latent_shape(), i + 1);
                return Err(Error::shape(format!("the output of step {i} of the chain"), pair[0].data_shape(), want));
            }
        }
        Ok(Self { steps })
    }

    /// The steps, from the base to the data.
    pub fn steps(&self) -> &[Box<dyn Bijector>] {
        &self.steps
    }

    fn fold<'a>(
        start: &Tensor,
        steps: impl Iterator<Item = &'a Box<dyn Bijector>>,
        mut apply: impl FnMut(&'a dyn Bijector, &Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<(Tensor, Tensor)> {
        let mut value = start.clone();
        let mut total: Option<Tensor> = None;
        for step in steps {
            let (next, log_det) = apply(step.as_ref(), &value)?;
            value = next;
            total = Some(match total {
                None => log_det,
                Some(sum) => (sum + log_det)?,
            });
        }
        // `new` refuses an empty chain, so there was at least one step.
        let total = total.ok_or_else(|| Error::Config("a chain needs at least one bijector".into()))?;
        Ok((value, total))
    }
}

impl Bijector for Chain {
    fn latent_shape(&self) -> &[usize] {
        self.steps[0].latent_shape()
    }

    fn data_shape(&self) -> &[usize] {
        self.steps[self.steps.len() - 1].data_shape()
    }

    fn forward(&self, z: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        Self::fold(z, self.steps.iter(), |step, v| step.forward(v, context))
    }

    fn inverse(&self, x: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        Self::fold(x, self.steps.iter().rev(), |step, v| step.inverse(v, context))
    }

    fn inverse_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        Self::fold(x, self.steps.iter().rev(), |step, v| step.inverse_training(v, context, rng))
    }

    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.steps.iter().rev().try_fold(x.clone(), |v, step| step.initialize(&v, context))
    }

    fn pass<'a>(
        &'a self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mut rng: Option<&mut Rng>,
    ) -> Result<Pass<'a>> {
        let mut ways = Vec::with_capacity(self.steps.len());
        let apply = |step: &'a dyn Bijector, v: &Tensor| {
            let Pass { value, log_det, back } = step.pass(direction, v, context, rng.as_deref_mut())?;
            ways.push(back);
            Ok((value, log_det))
        };
        let (value, log_det) = match direction {
            Direction::Forward => Self::fold(input, self.steps.iter(), apply)?,
            Direction::Inverse => Self::fold(input, self.steps.iter().rev(), apply)?,
        };
        let back = Box::new(|at, sweep: &mut Sweep<'_>| ways.into_iter().rev().try_fold(at, |at, back| back(at, sweep)));
        Ok(Pass { value, log_det, back })
    }

    fn structure(&self) -> Structure {
        Structure::new("Chain", format!("of {}", self.steps.len())).parts(self.steps.iter().map(|s| s.structure()))
    }
}
