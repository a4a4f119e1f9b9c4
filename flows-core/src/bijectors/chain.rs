//! One bijector after another.

use super::{Back, Bijector, Pass, Sweep};
use crate::ops::Direction;
use crate::{Error, Result, Rng, Structure};
use candle_core::Tensor;

/// Fewest steps of a segment, whose inputs are all at hand on the way back.
const SEGMENT: usize = 8;

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

    fn fold<S>(
        start: &Tensor,
        steps: impl Iterator<Item = S>,
        mut apply: impl FnMut(S, &Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<(Tensor, Tensor)> {
        let mut value = start.clone();
        let mut total: Option<Tensor> = None;
        for step in steps {
            let (next, log_det) = apply(step, &value)?;
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

/// The pass through consecutive steps that keeps what each of them keeps.
fn segment<'a>(
    steps: &[&'a dyn Bijector],
    direction: Direction,
    input: &Tensor,
    context: Option<&Tensor>,
    mut rng: Option<&mut Rng>,
) -> Result<Pass<'a>> {
    let (mut ways, mut repeatable) = (Vec::with_capacity(steps.len()), true);
    let (value, log_det) = Chain::fold(input, steps.iter(), |step, v| {
        let pass = step.pass(direction, v, context, rng.as_deref_mut())?;
        repeatable &= pass.repeatable;
        ways.push(pass.back);
        Ok((pass.value, pass.log_det))
    })?;
    Ok(Pass { value, log_det, back: all(ways), repeatable })
}

/// The way back through all, from the last.
fn all(ways: Vec<Back<'_>>) -> Back<'_> {
    Box::new(move |gradient, sweep| ways.into_iter().rev().try_fold(gradient, |gradient, back| back(gradient, sweep)))
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

    /// The steps fall into segments of 8 (of the root of their number, if that is more). Of a segment
    /// only the input is kept; its steps' are found again from that when its turn comes on the way back.
    fn pass<'a>(
        &'a self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mut rng: Option<&mut Rng>,
    ) -> Result<Pass<'a>> {
        let steps: Vec<&dyn Bijector> = match direction {
            Direction::Forward => self.steps.iter().map(Box::as_ref).collect(),
            Direction::Inverse => self.steps.iter().rev().map(Box::as_ref).collect(),
        };
        let segments = steps.chunks(SEGMENT.max(steps.len().isqrt()));
        let last = segments.len() - 1;
        let (mut ways, mut repeatable): (Vec<Back<'a>>, bool) = (Vec::with_capacity(segments.len()), true);
        let (value, log_det) = Self::fold(&input.detach(), segments.enumerate(), |(i, steps), v| {
            let mut drawn = rng.as_deref().cloned();
            let pass = segment(steps, direction, v, context, rng.as_deref_mut())?;
            repeatable &= pass.repeatable;
            // The turn of the last comes at once.
            ways.push(if i == last || !pass.repeatable {
                pass.back
            } else {
                let (steps, input) = (steps.to_vec(), v.clone());
                Box::new(move |gradient, sweep: &mut Sweep<'_>| {
                    let pass = segment(&steps, direction, &input, sweep.context, drawn.as_mut())?;
                    (pass.back)(gradient, sweep)
                })
            });
            Ok((pass.value, pass.log_det))
        })?;
        Ok(Pass { value, log_det, back: all(ways), repeatable })
    }

    fn structure(&self) -> Structure {
        Structure::new("Chain", format!("of {}", self.steps.len())).parts(self.steps.iter().map(|s| s.structure()))
    }
}
