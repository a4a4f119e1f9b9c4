//! Models in which some of the channels leave at each level.

use super::concatenate::image_of;
use super::embed::{embedded_vjp, of_embedded};
use super::{Bijector, Direction, Mode, Recompute, Support, Upstream, Vjp, check_input_of, leaf, vjp};
use crate::nn::Network;
use crate::shape::{batch_shape, zero_log_det};
use crate::{Error, Result, Structure};
use candle_core::Tensor;

/// One level of a [`MultiScale`] model.
#[derive(Debug)]
pub struct Level {
    /// The flow of the level, usually a chain whose data side ends in a [`Squeeze`](super::Squeeze).
    pub flow: Box<dyn Bijector>,
    /// The map of the channels that leave to noise; without it they leave as they are.
    pub prior: Option<SplitPrior>,
}

/// A bijector between noise and the channels that leave a level, given those that stay.
#[derive(Debug)]
pub struct SplitPrior {
    network: Option<Box<dyn Network>>,
    bijector: Box<dyn Bijector>,
}

impl SplitPrior {
    /// `bijector`, whose context is the channels that stay, (B, K, ...).
    pub fn new(bijector: Box<dyn Bijector>) -> Self {
        Self { network: None, bijector }
    }

    /// `bijector`, whose context is the output of `network` for the channels that stay, its input, and the model's
    /// context.
    pub fn embedded(network: Box<dyn Network>, bijector: Box<dyn Bijector>) -> Self {
        Self { network: Some(network), bijector }
    }

    /// The bijector's context.
    fn embed(&self, kept: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor> {
        self.network.as_ref().map_or_else(|| Ok(kept.clone()), |network| network.forward(kept, context, mode))
    }

    fn structure(&self) -> Structure {
        let part = match &self.network {
            None => self.bijector.structure(),
            Some(network) => Structure::new("Embed", "").part(network.structure()).part(self.bijector.structure()),
        };
        Structure::new("Split prior", "").part(part)
    }
}

/// The multi-scale architecture of RealNVP (Dinh et al., 2016, section 3.6), Glow and WaveGlow, as one
/// bijection between x and one vector z.
///
/// Level i maps its x to (C, ...); then, except at the last level, the first K channels go on to level
/// i + 1 and the others leave, through the split prior if there is one. K is the number of channels that
/// level i + 1 takes: half of them in RealNVP and Glow, all but two in WaveGlow (Prenger et al., 2018).
/// The vector z is: what leaves at level 0, what leaves at level 1, ..., the output of the last level;
/// each in row-major order of its (C, ...), with the lengths [`MultiScale::parts`]. The data enter at
/// level 0. All flows see the model's context.
///
/// ```
/// use flows_core::bijectors::{Level, MultiScale, Reshape, Squeeze};
/// let level = |flow| Level { flow, prior: None };
/// // Eight channels, of which two leave.
/// let levels = vec![level(Box::new(Squeeze::new(&[1, 80], 8)?)), level(Box::new(Reshape::new(&[6, 10], &[6, 10])?))];
/// assert_eq!(MultiScale::new(levels)?.parts(), [20, 60]);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Debug)]
pub struct MultiScale {
    levels: Vec<Level>,
    /// The shape and the length of the part of z of each level.
    shapes: Vec<Vec<usize>>,
    parts: Vec<usize>,
    latent: [usize; 1],
}

impl MultiScale {
    /// `levels` in order, from the data.
    ///
    /// # Errors
    /// When there is no level, a level does not take some of the channels of the one before and leave
    /// others, or the last level has a split prior.
    pub fn new(levels: Vec<Level>) -> Result<Self> {
        let Some((last, others)) = levels.split_last() else {
            return Err(Error::Config("a multi-scale model needs at least one level".into()));
        };
        if last.prior.is_some() {
            let message = "the last level has nothing to split: make its prior the first step of its flow";
            return Err(Error::Config(message.into()));
        }
        let mut shapes = Vec::with_capacity(levels.len());
        for (i, (level, next)) in others.iter().zip(&levels[1..]).enumerate() {
            let (whole, kept) = (level.flow.latent_shape(), next.flow.data_shape());
            let Some(leaving) = leaving(whole, kept) else {
                let want = format!("at least one, but not all, of the channels of the {whole:?} of level {i}");
                return Err(Error::shape(format!("the data of level {}", i + 1), kept, want));
            };
            shapes.push(match &level.prior {
                None => leaving,
                Some(prior) if prior.bijector.data_shape() == leaving => prior.bijector.latent_shape().to_vec(),
                Some(prior) => {
                    let (got, want) = (prior.bijector.data_shape(), format!("the {leaving:?} that leave"));
                    return Err(Error::shape(format!("the split prior of level {i}"), got, want));
                }
            });
        }
        shapes.push(last.flow.latent_shape().to_vec());
        let parts: Vec<usize> = shapes.iter().map(|shape| shape.iter().product()).collect();
        let latent = [parts.iter().sum()];
        Ok(Self { levels, shapes, parts, latent })
    }

    /// The lengths of the parts of z, from level 0.
    pub fn parts(&self) -> &[usize] {
        &self.parts
    }

    /// The levels, from the data.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The parts of z, or of a gradient of z, in their shapes.
    fn split(&self, z: &Tensor) -> Result<Vec<Tensor>> {
        let mut start = 0;
        let part = |(shape, &size): (&Vec<usize>, &usize)| {
            start += size;
            Ok(z.narrow(1, start - size, size)?.contiguous()?.reshape(batch_shape(z.dim(0)?, shape))?)
        };
        self.shapes.iter().zip(&self.parts).map(part).collect()
    }

    /// The inverse, which maps each part by `apply`.
    fn to_latent<'a>(
        &'a self,
        x: &Tensor,
        mut apply: impl FnMut(Part<'a, '_>, &Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<(Tensor, Tensor)> {
        check_input_of("a multi-scale model", self, Direction::Inverse, x)?;
        let mut total = zero_log_det(x)?;
        let mut parts = Vec::with_capacity(self.levels.len());
        let mut v = x.clone();
        for (i, level) in self.levels.iter().enumerate() {
            let (h, log_det) = apply(Part::Flow(level.flow.as_ref()), &v)?;
            total = (total + log_det)?;
            let Some(next) = self.levels.get(i + 1) else {
                parts.push(h.flatten_from(1)?);
                break;
            };
            let kept = next.flow.data_shape()[0];
            let leaving = h.narrow(1, kept, h.dim(1)? - kept)?.contiguous()?;
            v = h.narrow(1, 0, kept)?.contiguous()?;
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
        check_input_of("a multi-scale model", self, Direction::Forward, z)?;
        let mut total = zero_log_det(z)?;
        let mut stays: Option<Tensor> = None;
        for (level, part) in self.levels.iter().zip(self.split(z)?).rev() {
            let v = match stays {
                None => part,
                Some(stays) => {
                    let leaving = match &level.prior {
                        None => part,
                        Some(prior) => {
                            let prior = Part::Prior(prior, &stays);
                            let (leaving, log_det) = prior.map(Direction::Forward, &part, context, mode)?;
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
    /// The split prior, and the channels that stay.
    Prior(&'a SplitPrior, &'b Tensor),
}

impl<'a> Part<'a, '_> {
    /// The bijector and its context, given that of the model.
    fn given(self, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<(&'a dyn Bijector, Option<Tensor>)> {
        Ok(match self {
            Self::Flow(flow) => (flow, context.cloned()),
            Self::Prior(prior, kept) => (prior.bijector.as_ref(), Some(prior.embed(kept, context, mode)?)),
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

/// The shape of the channels of `whole` that leave if those of `kept` stay; `None` if all leave or none does.
fn leaving(whole: &[usize], kept: &[usize]) -> Option<Vec<usize>> {
    match (whole, kept) {
        ([all, positions @ ..], [kept, same @ ..]) if positions == same && *kept > 0 && kept < all => {
            Some([&[all - kept], positions].concat())
        }
        _ => None,
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

    fn support(&self) -> Option<Support> {
        self.image(&Support::real(&self.latent[..]))
    }

    fn image(&self, latent: &Support) -> Option<Support> {
        let bounds = latent.bounds();
        let (mut end, mut x) = (bounds.len(), None);
        for (level, size) in self.levels.iter().zip(&self.parts).rev() {
            let start = end.checked_sub(*size)?;
            let part = bounds[start..end].to_vec();
            end = start;
            let leaving = match &level.prior {
                None => part,
                Some(prior) => image_of(prior.bijector.as_ref(), Direction::Forward, part).bounds(),
            };
            let stays = x.as_ref().map_or(Vec::new(), Support::bounds);
            x = Some(image_of(level.flow.as_ref(), Direction::Forward, [stays, leaving].concat()));
        }
        x.filter(|x| !matches!(x, Support::Real { .. }))
    }

    fn preimage(&self, data: &Support) -> Option<Support> {
        let (mut x, mut z) = (data.bounds(), Vec::with_capacity(self.latent[0]));
        for (i, level) in self.levels.iter().enumerate() {
            let h = image_of(level.flow.as_ref(), Direction::Inverse, x).bounds();
            let kept = self.levels.get(i + 1).map_or(0, |next| next.flow.data_shape().iter().product());
            let (stays, leaving) = h.split_at_checked(kept)?;
            z.extend(match &level.prior {
                None => leaving.to_vec(),
                Some(prior) => image_of(prior.bijector.as_ref(), Direction::Inverse, leaving.to_vec()).bounds(),
            });
            x = stays.to_vec();
        }
        Support::in_box(&self.latent, z)
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
            let (pass, kept) = match part {
                Part::Flow(flow) => (vjp(flow, direction, v, context, mode)?, None),
                Part::Prior(prior, kept) => {
                    let kept = leaf(kept)?;
                    let given = kept.clone();
                    let embed = move |context: Option<&Tensor>, mode: &mut Mode<'_>| prior.embed(&given, context, mode);
                    let bijector = prior.bijector.as_ref();
                    let pass = match &prior.network {
                        Some(_) => embedded_vjp(bijector, direction, v, context, mode, embed)?,
                        None => vjp(bijector, direction, v, Some(&kept), mode)?.with_context(&kept),
                    };
                    (pass, Some(kept))
                }
            };
            let (value, log_det, backward) = pass.into_parts();
            backwards.push((backward, kept));
            Ok((value, log_det))
        })?;
        let backward = move |gradient: Tensor, upstream: &mut Upstream<'_>| {
            let lost = || Error::Internal("a level of a multi-scale model has no backward pass".into());
            // The gradient of the channels that stay.
            let mut stays: Option<Tensor> = None;
            for (level, part) in self.levels.iter().zip(self.split(&gradient)?).rev() {
                let h = match stays {
                    None => part,
                    Some(mut stays) => {
                        let leaving = match &level.prior {
                            None => part,
                            Some(_) => {
                                let Some((backward, Some(kept))) = backwards.pop() else { return Err(lost()) };
                                let leaving = backward(part, upstream)?;
                                stays = (stays + upstream.take(&kept)?)?;
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
