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

    fn fold<'a>(
        start: &Tensor,
        steps: impl Iterator<Item = &'a Box<dyn Bijector>>,
        mut apply: impl FnMut(&dyn Bijector, &Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<(Tensor, Tensor)> {
        let mut value = start.clone();
        let mut total = None;
        for step in steps {
            let (next, log_det) = apply(step.as_ref(), &value)?;
            value = next;
            add(&mut total, log_det)?;
        }
        Ok((value, some(total)?))
    }
}

fn add(total: &mut Option<Tensor>, log_det: Tensor) -> Result<()> {
    *total = Some(match total.take() {
        None => log_det,
        Some(sum) => (sum + log_det)?,
    });
    Ok(())
}

/// `new` refuses an empty chain, so there was at least one step.
fn some(total: Option<Tensor>) -> Result<Tensor> {
    total.ok_or_else(|| Error::Config("a chain needs at least one bijector".into()))
}

/// The passes through consecutive steps: the last value, the ways back, and whether all can be repeated.
fn through<'a>(
    steps: &[&'a dyn Bijector],
    direction: Direction,
    input: &Tensor,
    context: Option<&Tensor>,
    mut rng: Option<&mut Rng>,
    mut log_det: impl FnMut(Tensor) -> Result<()>,
) -> Result<(Tensor, Vec<Back<'a>>, bool)> {
    let (mut value, mut ways, mut repeatable) = (input.clone(), Vec::with_capacity(steps.len()), true);
    for step in steps {
        let pass = step.pass(direction, &value, context, rng.as_deref_mut())?;
        value = pass.value;
        ways.push(pass.back);
        repeatable &= pass.repeatable;
        log_det(pass.log_det)?;
    }
    Ok((value, ways, repeatable))
}

fn back(ways: Vec<Back<'_>>, gradient: Tensor, sweep: &mut Sweep<'_>) -> Result<Tensor> {
    ways.into_iter().rev().try_fold(gradient, |gradient, back| back(gradient, sweep))
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
        let (mut v, mut total, mut ways, mut repeatable) = (input.detach(), None, Vec::<Back<'a>>::new(), true);
        for (i, steps) in segments.enumerate() {
            let mut drawn = rng.as_deref().cloned();
            let log_det = |log_det| add(&mut total, log_det);
            let (value, segment, same) = through(steps, direction, &v, context, rng.as_deref_mut(), log_det)?;
            let input = std::mem::replace(&mut v, value);
            repeatable &= same;
            // The turn of the last comes at once.
            if i == last || !same {
                ways.extend(segment);
                continue;
            }
            let steps = steps.to_vec();
            ways.push(Box::new(move |gradient, sweep| {
                let (_, ways, _) = through(&steps, direction, &input, sweep.context, drawn.as_mut(), |_| Ok(()))?;
                back(ways, gradient, sweep)
            }));
        }
        let back = Box::new(move |gradient, sweep: &mut Sweep<'_>| back(ways, gradient, sweep));
        Ok(Pass { value: v, log_det: some(total)?, back, repeatable })
    }

    fn structure(&self) -> Structure {
        Structure::new("Chain", format!("of {}", self.steps.len())).parts(self.steps.iter().map(|s| s.structure()))
    }
}
