//! Models that let half of the channels leave at each level.

use super::reshape::{batched, no_log_det};
use super::{Bijector, Pass, Sweep, check_event, leaf};
use crate::ops::Direction;
use crate::{Error, Result, Rng, Structure};
use candle_core::Tensor;

/// One level of a [`MultiScale`] model.
#[derive(Debug)]
pub struct Level {
    /// The flow of the level, usually a chain whose data side ends in a [`Squeeze`](super::Squeeze).
    pub flow: Box<dyn Bijector>,
    /// What maps the half that leaves to noise, given the half that stays as context (B, C/2, ...);
    /// without it the half leaves as it is.
    ///
    /// An [`Embed`](super::Embed) is given the model's context as well: its network gets the half that
    /// stays as input and the model's context as context.
    pub prior: Option<Box<dyn Bijector>>,
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
                && prior.data_shape() != half
            {
                let want = format!("the {half:?} that leave");
                return Err(Error::shape(format!("the split prior of level {i}"), prior.data_shape(), want));
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

    fn to_latent<'a>(
        &'a self,
        x: &Tensor,
        mut apply: impl FnMut(Part<'a, '_>, &Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<(Tensor, Tensor)> {
        check_event("the data of a multi-scale model", x, self.data_shape())?;
        let mut total = no_log_det(x)?;
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
                    let (noise, log_det) = apply(Part::Prior(prior.as_ref(), &v), &leaving)?;
                    total = (total + log_det)?;
                    noise
                }
            };
            parts.push(leaving.flatten_from(1)?);
        }
        Ok((Tensor::cat(&parts, 1)?, total))
    }
}

/// What a level applies.
#[derive(Clone, Copy)]
enum Part<'a, 'b> {
    Flow(&'a dyn Bijector),
    /// The split prior, and the half that stays.
    Prior(&'a dyn Bijector, &'b Tensor),
}

impl<'a> Part<'a, '_> {
    /// The bijector and its context, given that of the model; in training if there is a generator.
    fn given(self, context: Option<&Tensor>, rng: Option<&mut Rng>) -> Result<(&'a dyn Bijector, Option<Tensor>)> {
        Ok(match self {
            Self::Flow(flow) => (flow, context.cloned()),
            Self::Prior(prior, half) => match prior.as_embed() {
                Some(embed) => (embed.bijector(), Some(embed.embed(Some(half), context, rng)?)),
                None => (prior, Some(half.clone())),
            },
        })
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

    fn forward(&self, z: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let batch = check_event("the latent of a multi-scale model", z, &self.latent)?;
        let mut total = no_log_det(z)?;
        let mut end = self.latent[0];
        let mut stays: Option<Tensor> = None;
        for (level, &size) in self.levels.iter().zip(&self.parts).rev() {
            end -= size;
            let part = z.narrow(1, end, size)?.contiguous()?;
            let v = match stays {
                None => part.reshape(batched(batch, level.flow.latent_shape()))?,
                Some(stays) => {
                    let leaving = match &level.prior {
                        None => part.reshape(stays.shape())?,
                        Some(prior) => {
                            let noise = part.reshape(batched(batch, prior.latent_shape()))?;
                            let (prior, given) = Part::Prior(prior.as_ref(), &stays).given(context, None)?;
                            let (leaving, log_det) = prior.forward(&noise, given.as_ref())?;
                            total = (total + log_det)?;
                            leaving
                        }
                    };
                    Tensor::cat(&[&stays, &leaving], 1)?
                }
            };
            let (x, log_det) = level.flow.forward(&v, context)?;
            total = (total + log_det)?;
            stays = Some(x);
        }
        // `new` refuses a model without levels.
        let x = stays.ok_or_else(|| Error::Config("a multi-scale model needs at least one level".into()))?;
        Ok((x, total))
    }

    fn inverse(&self, x: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.to_latent(x, |part, v| {
            let (bijector, given) = part.given(context, None)?;
            bijector.inverse(v, given.as_ref())
        })
    }

    fn inverse_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        self.to_latent(x, |part, v| {
            let (bijector, given) = part.given(context, Some(&mut *rng))?;
            bijector.inverse_training(v, given.as_ref(), rng)
        })
    }

    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        let apply = |part: Part<'_, '_>, v: &Tensor| {
            let (bijector, given) = part.given(context, None)?;
            Ok((bijector.initialize(v, given.as_ref())?, no_log_det(v)?))
        };
        Ok(self.to_latent(x, apply)?.0)
    }

    /// The inverse goes back level by level; `forward` is run again as a whole.
    fn pass<'a>(
        &'a self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mut rng: Option<&mut Rng>,
    ) -> Result<Pass<'a>> {
        if direction == Direction::Forward {
            return Pass::step(self, direction, input, context, rng);
        }
        let (mut ways, mut repeatable) = (Vec::new(), true);
        let (value, log_det) = self.to_latent(&input.detach(), |part, v| {
            let rng = rng.as_deref_mut();
            let (pass, half) = match part {
                Part::Flow(flow) => (flow.pass(direction, v, context, rng)?, None),
                Part::Prior(prior, half) => {
                    let half = leaf(half)?;
                    let pass = match prior.as_embed() {
                        Some(embed) => embed.pass_beside(direction, v, Some(half.clone()), context, rng)?,
                        None => prior.pass(direction, v, Some(&half), rng)?.given(&half),
                    };
                    (pass, Some(half))
                }
            };
            repeatable &= pass.repeatable;
            ways.push((pass.back, half));
            Ok((pass.value, pass.log_det))
        })?;
        let back = move |gradient: Tensor, sweep: &mut Sweep<'_>| {
            let lost = || Error::Config("a level of a multi-scale model has no way back".into());
            let batch = gradient.dim(0)?;
            let mut end = self.latent[0];
            // The gradient for the half that stays.
            let mut stays: Option<Tensor> = None;
            for (level, &size) in self.levels.iter().zip(&self.parts).rev() {
                end -= size;
                let part = gradient.narrow(1, end, size)?.contiguous()?;
                let h = match stays {
                    None => part.reshape(batched(batch, level.flow.latent_shape()))?,
                    Some(mut stays) => {
                        let leaving = match &level.prior {
                            None => part.reshape(stays.shape())?,
                            Some(prior) => {
                                let Some((back, Some(half))) = ways.pop() else { return Err(lost()) };
                                let noise = part.reshape(batched(batch, prior.latent_shape()))?;
                                let leaving = back(noise, sweep)?;
                                stays = (stays + sweep.take(&half)?)?;
                                leaving
                            }
                        };
                        Tensor::cat(&[&stays, &leaving], 1)?
                    }
                };
                let (back, _) = ways.pop().ok_or_else(lost)?;
                stays = Some(back(h, sweep)?);
            }
            stays.ok_or_else(lost)
        };
        Ok(Pass { value, log_det, back: Box::new(back), repeatable })
    }

    fn structure(&self) -> Structure {
        let levels = self.levels.iter().zip(&self.parts).enumerate().map(|(i, (level, size))| {
            let node = Structure::new(format!("Level {i}"), format!("{:?}, {size} to z", level.flow.data_shape()));
            let prior = level.prior.iter().map(|prior| Structure::new("Split prior", "").part(prior.structure()));
            node.part(level.flow.structure()).parts(prior)
        });
        Structure::new("Multi-scale", format!("{:?}", self.data_shape())).parts(levels)
    }
}

#[cfg(test)]
mod tests;
