//! A context seen through a network.

use super::{Bijector, Pass, Sweep, add_gradients, leaf};
use crate::nn::Network;
use crate::ops::Direction;
use crate::{Error, Result, Rng, Structure};
use candle_core::Tensor;

/// A bijector whose context is the output of a network: `x = f(z; network(context))`.
///
/// A chain inside shares one evaluation of the network. The network may take contexts of any shape
/// (B, ...) to whatever the bijector wants, often (B, width).
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

    fn embed(&self, context: Option<&Tensor>) -> Result<Tensor> {
        self.network.forward(given(context)?, None)
    }

    fn embed_training(&self, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.network.forward_training(given(context)?, None, rng)
    }
}

fn given(context: Option<&Tensor>) -> Result<&Tensor> {
    context.ok_or_else(|| Error::Config("this flow is conditional: give a context, one row for each event".into()))
}

impl Bijector for Embed {
    fn latent_shape(&self) -> &[usize] {
        self.bijector.latent_shape()
    }

    fn data_shape(&self) -> &[usize] {
        self.bijector.data_shape()
    }

    fn forward(&self, z: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.bijector.forward(z, Some(&self.embed(context)?))
    }

    fn inverse(&self, x: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.bijector.inverse(x, Some(&self.embed(context)?))
    }

    fn inverse_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let context = self.embed_training(context, rng)?;
        self.bijector.inverse_training(x, Some(&context), rng)
    }

    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.bijector.initialize(x, Some(&self.embed(context)?))
    }

    /// The network is evaluated again on the way back, once for all steps inside.
    fn pass<'a>(
        &'a self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        rng: Option<&mut Rng>,
    ) -> Result<Pass<'a>> {
        let mut rng = rng.filter(|_| direction == Direction::Inverse);
        let mut drawn = rng.as_deref().cloned();
        let embed = |context: Option<&Tensor>, rng: Option<&mut Rng>| match rng {
            Some(rng) => self.embed_training(context, rng),
            None => self.embed(context),
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

    fn structure(&self) -> Structure {
        Structure::new("Embed", "").part(self.network.structure()).part(self.bijector.structure())
    }
}
