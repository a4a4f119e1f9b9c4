//! Models that let half of the channels leave at each level.

use super::embed::{embedded_vjp, of_embedded};
use super::{Bijector, Direction, Mode, Recompute, Upstream, Vjp, leaf, vjp};
use crate::nn::Network;
use crate::shape::{batch_shape, check_event, zero_log_det};
use crate::{Error, Result, Structure};
use candle_core::Tensor;

/// One level of a [`MultiScale`] model.
#[derive(Debug)]
pub struct Level {
    /// The flow of the level, usually a chain whose data side ends in a [`Squeeze`](super::Squeeze).
    pub flow: Box<dyn Bijector>,
    /// What maps the half that leaves to noise; without it the half leaves as it is.
    pub prior: Option<SplitPrior>,
}

/// A bijector between noise and the half of the channels that leaves a level, given the half that stays.
#[derive(Debug)]
pub struct SplitPrior {
    network: Option<Box<dyn Network>>,
    bijector: Box<dyn Bijector>,
}

impl SplitPrior {
    /// `bijector`, whose context is the half that stays, (B, C/2, ...).
    pub fn new(bijector: Box<dyn Bijector>) -> Self {
        Self { network: None, bijector }
    }

    /// `bijector`, whose context is what `network` makes of the half that stays, its input, and of the model's context.
    pub fn embedded(network: Box<dyn Network>, bijector: Box<dyn Bijector>) -> Self {
        Self { network: Some(network), bijector }
    }

    /// The bijector's context.
    fn embed(&self, half: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor> {
        self.network.as_ref().map_or_else(|| Ok(half.clone()), |network| network.forward(half, context, mode))
    }

    fn structure(&self) -> Structure {
        let part = match &self.network {
            None => self.bijector.structure(),
            Some(network) => Structure::new("Embed", "").part(network.structure()).part(self.bijector.structure()),
        };
        Structure::new("Split prior", "").part(part)
    }
}

/// The multi-scale architecture of RealNVP (Dinh et al., 2016, section 3.6) and Glow, as one
/// bijection between x and one vector z.
///
/// Level i maps its x to (C_i, ...); then, except for the last level, the first half of the channels
/// goes on to level i + 1 and the second half leaves, through the split prior if there is one. The
/// vector z is: what leaves at level 0, what leaves at level 1, ..., what the last level gives;
/// each in row-major order of its (C, ...). Data come in at level 0; [`MultiScale::parts`] has the
/// lengths. All flows see the model's context.
#[derive(Debug)]
pub struct MultiScale {
    levels: Vec<Level>,
    parts: Vec<usize>,
    latent: [usize; 1],
}

impl MultiScale {
    /// `levels` from the data on.
    ///
    /// # Errors
    /// When there is no level, shapes of neighbours do not agree, a number of channels to be split
    /// is odd, or the last level has a split prior.
    pub fn new(levels: Vec<Level>) -> Result<Self> {
        let Some((last, others)) = levels.split_last() else {
            return Err(Error::Config("a multi-scale model needs at least one level".into()));
        };
        if last.prior.is_some() {
            let message = "the last level has nothing to split: make its prior the first step of its flow";
            return Err(Error::Config(message.into()));
        }
        let mut parts = Vec::with_capacity(levels.len());
        for (i, (level, next)) in others.iter().zip(&levels[1..]).enumerate() {
            let half = half(level.flow.latent_shape())?;
            if next.flow.data_shape() != half {
                let want = format!("the {half:?} that level {i} leaves");
                return Err(Error::shape(format!("the data of level {}", i + 1), next.flow.data_shape(), want));
            }
            if let Some(prior) = &level.prior
                && prior.bijector.data_shape() != half
            {
                let (got, want) = (prior.bijector.data_shape(), format!("the {half:?} that leave"));
                return Err(Error::shape(format!("the split prior of level {i}"), got, want));
            }
            parts.push(half.iter().product());
        }
        parts.push(last.flow.latent_shape().iter().product());
        let latent = [parts.iter().sum()];
        Ok(Self { levels, parts, latent })
    }

    /// The lengths of the parts of z, from level 0 on.
    pub fn parts(&self) -> &[usize] {
        &self.parts
    }

    /// The levels, from the data on.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The inverse, each part of it by `apply`.
    fn to_latent<'a>(
        &'a self,
        x: &Tensor,
        mut apply: impl FnMut(Part<'a, '_>, &Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<(Tensor, Tensor)> {
        check_event("the data of a multi-scale model", x, self.data_shape())?;
        let mut total = zero_log_det(x)?;
        let mut parts = Vec::with_capacity(self.levels.len());
        let mut v = x.clone();
        for (i, level) in self.levels.iter().enumerate() {
            let (h, log_det) = apply(Part::Flow(level.flow.as_ref()), &v)?;
            total = (total + log_det)?;
            if i + 1 == self.levels.len() {
                parts.push(h.flatten_from(1)?);
                break;
            }
            let channels = h.dim(1)? / 2;
            let leaving = h.narrow(1, channels, channels)?.contiguous()?;
            v = h.narrow(1, 0, channels)?.contiguous()?;
            let leaving = match &level.prior {
                None => leaving,
                Some(prior) => {
                    let (noise, log_det) = apply(Part::Prior(prior, &v), &leaving)?;
                    total = (total + log_det)?;
                    noise
                }
            };
            parts.push(leaving.flatten_from(1)?);
        }
        Ok((Tensor::cat(&parts, 1)?, total))
    }

    fn to_data(&self, z: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        let batch = check_event("the latent of a multi-scale model", z, &self.latent)?;
        let mut total = zero_log_det(z)?;
        let mut end = self.latent[0];
        let mut stays: Option<Tensor> = None;
        for (level, &size) in self.levels.iter().zip(&self.parts).rev() {
            end -= size;
            let part = z.narrow(1, end, size)?.contiguous()?;
            let v = match stays {
                None => part.reshape(batch_shape(batch, level.flow.latent_shape()))?,
                Some(stays) => {
                    let leaving = match &level.prior {
                        None => part.reshape(stays.shape())?,
                        Some(prior) => {
                            let noise = part.reshape(batch_shape(batch, prior.bijector.latent_shape()))?;
                            let part = Part::Prior(prior, &stays);
                            let (leaving, log_det) = part.map(Direction::Forward, &noise, context, mode)?;
                            total = (total + log_det)?;
                            leaving
                        }
                    };
                    Tensor::cat(&[&stays, &leaving], 1)?
                }
            };
            let (x, log_det) = level.flow.map(Direction::Forward, &v, context, mode)?;
            total = (total + log_det)?;
            stays = Some(x);
        }
        // `new` refuses a model without levels.
        let x = stays.ok_or_else(|| Error::Config("a multi-scale model needs at least one level".into()))?;
        Ok((x, total))
    }
}

/// What a level applies.
#[derive(Clone, Copy)]
enum Part<'a, 'b> {
    Flow(&'a dyn Bijector),
    /// The split prior, and the half that stays.
    Prior(&'a SplitPrior, &'b Tensor),
}

impl<'a> Part<'a, '_> {
    /// The bijector and its context, given that of the model.
    fn given(self, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<(&'a dyn Bijector, Option<Tensor>)> {
        Ok(match self {
            Self::Flow(flow) => (flow, context.cloned()),
            Self::Prior(prior, half) => (prior.bijector.as_ref(), Some(prior.embed(half, context, mode)?)),
        })
    }

    fn map(
        self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let (bijector, given) = self.given(context, mode)?;
        bijector.map(direction, input, given.as_ref(), mode).map_err(|error| self.named(error))
    }

    /// An error of the bijector, whose context may be the output of a network.
    fn named(self, error: Error) -> Error {
        match self {
            Self::Prior(SplitPrior { network: Some(_), .. }, _) => of_embedded(error),
            _ => error,
        }
    }
}

/// The shape of half of the channels.
fn half(shape: &[usize]) -> Result<Vec<usize>> {
    match shape {
        [channels, rest @ ..] if *channels > 0 && channels % 2 == 0 => Ok([&[channels / 2], rest].concat()),
        _ => Err(Error::Config(format!(
            "events of {shape:?} have no even number of channels to split: squeeze first, or use fewer levels"
        ))),
    }
}

impl Bijector for MultiScale {
    fn latent_shape(&self) -> &[usize] {
        &self.latent
    }

    fn data_shape(&self) -> &[usize] {
        self.levels[0].flow.data_shape()
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        match direction {
            Direction::Forward => self.to_data(input, context, mode),
            Direction::Inverse => self.to_latent(input, |part, v| part.map(direction, v, context, mode)),
        }
    }

    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        let apply = |part: Part<'_, '_>, v: &Tensor| {
            let (bijector, given) = part.given(context, &mut Mode::evaluation())?;
            let z = bijector.initialize(v, given.as_ref()).map_err(|error| part.named(error))?;
            Ok((z, zero_log_det(v)?))
        };
        Ok(self.to_latent(x, apply)?.0)
    }

    fn recompute(&self) -> Option<&dyn Recompute> {
        Some(self)
    }

    fn structure(&self) -> Structure {
        let levels = self.levels.iter().zip(&self.parts).enumerate().map(|(i, (level, size))| {
            let node = Structure::new(format!("Level {i}"), format!("{:?}, {size} to z", level.flow.data_shape()));
            let prior = level.prior.iter().map(SplitPrior::structure);
            node.part(level.flow.structure()).parts(prior)
        });
        Structure::new("Multi-scale", format!("{:?}", self.data_shape())).parts(levels)
    }
}

impl Recompute for MultiScale {
    /// The inverse is recomputed level by level, `forward` as a whole.
    fn vjp<'a>(
        &'a self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<Vjp<'a>> {
        if direction == Direction::Forward {
            let mut rng = mode.rng().cloned();
            let result = self.to_data(&input.detach(), context, mode)?;
            return Ok(Vjp::checkpoint(input, result, move |z, context| {
                self.to_data(z, context, &mut Mode::recomputing(rng.as_mut()))
            }));
        }
        let mut backwards = Vec::new();
        let (value, log_det) = self.to_latent(&input.detach(), |part, v| {
            let (pass, half) = match part {
                Part::Flow(flow) => (vjp(flow, direction, v, context, mode)?, None),
                Part::Prior(prior, half) => {
                    let half = leaf(half)?;
                    let given = half.clone();
                    let embed = move |context: Option<&Tensor>, mode: &mut Mode<'_>| prior.embed(&given, context, mode);
                    let bijector = prior.bijector.as_ref();
                    let pass = match &prior.network {
                        Some(_) => embedded_vjp(bijector, direction, v, context, mode, embed)?,
                        None => vjp(bijector, direction, v, Some(&half), mode)?.with_context(&half),
                    };
                    (pass, Some(half))
                }
            };
            let (value, log_det, backward) = pass.into_parts();
            backwards.push((backward, half));
            Ok((value, log_det))
        })?;
        let backward = move |gradient: Tensor, upstream: &mut Upstream<'_>| {
            let lost = || Error::Internal("a level of a multi-scale model has no backward pass".into());
            let batch = gradient.dim(0)?;
            let mut end = self.latent[0];
            // The gradient of the half that stays.
            let mut stays: Option<Tensor> = None;
            for (level, &size) in self.levels.iter().zip(&self.parts).rev() {
                end -= size;
                let part = gradient.narrow(1, end, size)?.contiguous()?;
                let h = match stays {
                    None => part.reshape(batch_shape(batch, level.flow.latent_shape()))?,
                    Some(mut stays) => {
                        let leaving = match &level.prior {
                            None => part.reshape(stays.shape())?,
                            Some(prior) => {
                                let Some((backward, Some(half))) = backwards.pop() else { return Err(lost()) };
                                let noise = part.reshape(batch_shape(batch, prior.bijector.latent_shape()))?;
                                let leaving = backward(noise, upstream)?;
                                stays = (stays + upstream.take(&half)?)?;
                                leaving
                            }
                        };
                        Tensor::cat(&[&stays, &leaving], 1)?
                    }
                };
                let (backward, _) = backwards.pop().ok_or_else(lost)?;
                stays = Some(backward(h, upstream)?);
            }
            stays.ok_or_else(lost)
        };
        Ok(Vjp::new(&value, &log_det, Box::new(backward)))
    }
}

#[cfg(test)]
mod tests;
