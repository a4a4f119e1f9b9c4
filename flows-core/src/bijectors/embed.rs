//! A context seen through a network.

use super::{Bijector, Pass, Sweep, add_gradients, leaf};
use crate::nn::Network;
use crate::ops::Direction;
use crate::{Error, Result, Rng, Structure};
use candle_core::{Tensor, Var};

/// A bijector whose context is the output of a network: `x = f(z; network(context))`.
///
/// A chain inside shares one evaluation of the network. The network may take contexts of any shape
/// (B, ...) to whatever the bijector wants, often (B, width).
///
/// As the prior of a [`Level`](super::Level) it is conditioned on two tensors: the network's input is
/// then the half that stays, and the network's context that of the model.
#[derive(Debug)]
pub struct Embed {
    network: Box<dyn Network>,
    bijector: Box<dyn Bijector>,
}

impl Embed {
    /// `bijector`, conditioned on what `network` makes of the context.
    pub fn new(network: Box<dyn Network>, bijector: Box<dyn Bijector>) -> Self {
        Self { network, bijector }
    }

    /// The bijector without its network.
    pub(super) fn bijector(&self) -> &dyn Bijector {
        self.bijector.as_ref()
    }

    /// What the network makes of the context, or of the half of a split that stays and of the context.
    pub(super) fn embed(
        &self,
        half: Option<&Tensor>,
        context: Option<&Tensor>,
        rng: Option<&mut Rng>,
    ) -> Result<Tensor> {
        let missing = || Error::Config("this flow is conditional: give a context, one row for each event".into());
        let (seen, beside) = match half {
            Some(half) => (half, context),
            None => (context.ok_or_else(missing)?, None),
        };
        match rng {
            Some(rng) => self.network.forward_training(seen, beside, rng),
            None => self.network.forward(seen, beside),
        }
    }

    /// [`Bijector::pass`], maybe as the prior of a split given the half that stays: a leaf, whose gradient
    /// is among the others.
    ///
    /// The network is evaluated again on the way back, once for all steps inside.
    pub(super) fn pass_beside<'a>(
        &'a self,
        direction: Direction,
        input: &Tensor,
        half: Option<Var>,
        context: Option<&Tensor>,
        rng: Option<&mut Rng>,
    ) -> Result<Pass<'a>> {
        let mut rng = rng.filter(|_| direction == Direction::Inverse);
        let mut drawn = rng.as_deref().cloned();
        let embed = move |context: Option<&Tensor>, rng: Option<&mut Rng>| {
            self.embed(half.as_ref().map(Var::as_tensor), context, rng)
        };
        let embedded = embed(context, rng.as_deref_mut())?.detach();
        let Pass { value, log_det, back, repeatable } = self.bijector.pass(direction, input, Some(&embedded), rng)?;
        let back = move |gradient: Tensor, sweep: &mut Sweep<'_>| {
            let embedded = embed(sweep.context, drawn.as_mut())?;
            let context = leaf(&embedded)?;
            let gradient = back(gradient, &mut sweep.given(&context))?;
            let of_context = sweep.take(&context)?;
            add_gradients(&(embedded * of_context)?.sum_all()?, sweep.gradients)?;
            Ok(gradient)
        };
        Ok(Pass { value, log_det, back: Box::new(back), repeatable })
    }
}

impl Bijector for Embed {
    fn latent_shape(&self) -> &[usize] {
        self.bijector.latent_shape()
    }

    fn data_shape(&self) -> &[usize] {
        self.bijector.data_shape()
    }

    fn forward(&self, z: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.bijector.forward(z, Some(&self.embed(None, context, None)?))
    }

    fn inverse(&self, x: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.bijector.inverse(x, Some(&self.embed(None, context, None)?))
    }

    fn inverse_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let context = self.embed(None, context, Some(&mut *rng))?;
        self.bijector.inverse_training(x, Some(&context), rng)
    }

    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.bijector.initialize(x, Some(&self.embed(None, context, None)?))
    }

    fn pass<'a>(
        &'a self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        rng: Option<&mut Rng>,
    ) -> Result<Pass<'a>> {
        self.pass_beside(direction, input, None, context, rng)
    }

    fn as_embed(&self) -> Option<&Embed> {
        Some(self)
    }

    fn structure(&self) -> Structure {
        Structure::new("Embed", "").part(self.network.structure()).part(self.bijector.structure())
    }
}
