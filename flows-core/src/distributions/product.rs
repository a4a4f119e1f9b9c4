//! Products of independent distributions.

use super::Distribution;
use super::checks::{check_batch, check_rows};
use crate::bijectors::Support;
use crate::{Error, Result, Rng, Structure};
use candle_core::{DType, Device, Tensor};

/// The product of independent distributions over vectors, concatenated along the event's only
/// axis: `log p(x) = sum_k log p_k(x_k)`, `x = (x_1, ..., x_K)`. All parts are given the same context.
#[derive(Debug)]
pub struct Product {
    parts: Vec<Box<dyn Distribution>>,
    event: [usize; 1],
}

impl Product {
    /// The product of `parts`, each over vectors.
    ///
    /// # Errors
    /// When there are no parts, or the events of one do not have exactly one axis.
    pub fn new(parts: Vec<Box<dyn Distribution>>) -> Result<Self> {
        let mut width = 0;
        for (i, part) in parts.iter().enumerate() {
            match part.event_shape() {
                [n] => width += n,
                got => return Err(Error::shape(format!("the event of part {i} of the product"), got, "(N)")),
            }
        }
        if parts.is_empty() {
            return Err(Error::Config("a product needs at least one distribution".into()));
        }
        Ok(Self { parts, event: [width] })
    }

    /// The parts, in order.
    pub fn parts(&self) -> &[Box<dyn Distribution>] {
        &self.parts
    }

    /// The sum of `log_prob` over the parts, each with its piece of x.
    fn sum(
        &self,
        x: &Tensor,
        context: Option<&Tensor>,
        mut log_prob: impl FnMut(&dyn Distribution, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let batch = check_batch(x, &self.event, context)?;
        let mut start = 0;
        let mut total = Tensor::zeros(batch, x.dtype(), x.device())?;
        for part in &self.parts {
            let width: usize = part.event_shape().iter().product();
            total = (total + log_prob(part.as_ref(), &x.narrow(1, start, width)?)?)?;
            start += width;
        }
        Ok(total)
    }

    /// The concatenated draws of all parts, and the sum of their log-densities.
    fn draw(
        &self,
        count: usize,
        context: Option<&Tensor>,
        draw: impl FnMut(&Box<dyn Distribution>) -> Result<(Tensor, Tensor)>,
    ) -> Result<(Tensor, Tensor)> {
        check_rows(context, count)?;
        let (draws, log_probs): (Vec<_>, Vec<_>) =
            self.parts.iter().map(draw).collect::<Result<Vec<_>>>()?.into_iter().unzip();
        Ok((Tensor::cat(&draws, 1)?, Tensor::stack(&log_probs, 0)?.sum(0)?))
    }
}

impl Distribution for Product {
    fn event_shape(&self) -> &[usize] {
        &self.event
    }

    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.sum(x, context, |part, x| part.log_prob(x, context))
    }

    fn log_prob_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.sum(x, context, |part, x| part.log_prob_training(x, context, rng))
    }

    /// The supports of the parts, named by index, unless all are the reals.
    fn support(&self) -> Support {
        let parts: Vec<Support> = self.parts.iter().map(|part| part.support()).collect();
        match parts.iter().all(|part| matches!(part, Support::Real { .. })) {
            true => Support::real(self.event),
            false => Support::named(parts.into_iter().enumerate().map(|(i, part)| (i.to_string(), part))),
        }
    }

    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        check_rows(context, count)?;
        let draws = self.parts.iter().map(|part| part.sample(count, context, rng)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&draws, 1)?)
    }

    fn sample_with_log_prob(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        self.draw(count, context, |part| part.sample_with_log_prob(count, context, rng))
    }

    fn sample_with_log_prob_training(
        &self,
        count: usize,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<(Tensor, Tensor)> {
        self.draw(count, context, |part| part.sample_with_log_prob_training(count, context, rng))
    }

    fn dtype(&self) -> Option<DType> {
        self.parts.iter().find_map(|part| part.dtype())
    }

    fn device(&self) -> Device {
        self.parts[0].device()
    }

    fn structure(&self) -> Structure {
        Structure::new("Product", format!("{:?}", self.event)).parts(self.parts.iter().map(|part| part.structure()))
    }
}
