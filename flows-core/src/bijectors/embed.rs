//! A context seen through a network.

use super::{Bijector, Direction, Mode, Recompute, Support, Upstream, Vjp, add_gradients, leaf, vjp};
use crate::nn::Network;
use crate::{Error, Result, Structure};
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

    fn embedded(&self, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor> {
        let missing = || Error::Config("this flow is conditional: give a context, one row for each event".into());
        self.network.forward(context.ok_or_else(missing)?, None, mode)
    }
}

/// The error of a bijector, which calls the context by that name where it is the output of a network.
pub(super) fn of_embedded(error: Error) -> Error {
    match error {
        Error::Shape { what, got, want } if what == "the context" => {
            Error::Shape { what: "the context that a network makes of another".into(), got, want }
        }
        other => other,
    }
}

/// [`vjp`] of `bijector` given what `embed` makes of the context, which the backward pass evaluates once more.
pub(super) fn embedded_vjp<'a>(
    bijector: &'a dyn Bijector,
    direction: Direction,
    input: &Tensor,
    context: Option<&Tensor>,
    mode: &mut Mode<'_>,
    embed: impl Fn(Option<&Tensor>, &mut Mode<'_>) -> Result<Tensor> + 'a,
) -> Result<Vjp<'a>> {
    let mut rng = mode.rng().cloned();
    let embedded = embed(context, mode)?.detach();
    let pass = vjp(bijector, direction, input, Some(&embedded), mode).map_err(of_embedded)?;
    let (value, log_det, backward) = pass.into_parts();
    let backward = move |gradient, upstream: &mut Upstream<'_>| {
        let embedded = embed(upstream.context, &mut Mode::recomputing(rng.as_mut()))?;
        let context = leaf(&embedded)?;
        let gradient = backward(gradient, &mut upstream.with_context(&context))?;
        let of_context = upstream.take(&context)?;
        add_gradients(&(embedded * of_context)?.sum_all()?, upstream.gradients)?;
        Ok(gradient)
    };
    Ok(Vjp::new(&value, &log_det, Box::new(backward)))
}

impl Bijector for Embed {
    fn latent_shape(&self) -> &[usize] {
        self.bijector.latent_shape()
    }

    fn data_shape(&self) -> &[usize] {
        self.bijector.data_shape()
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let context = self.embedded(context, mode)?;
        self.bijector.map(direction, input, Some(&context), mode).map_err(of_embedded)
    }

    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        let context = self.embedded(context, &mut Mode::evaluation())?;
        self.bijector.initialize(x, Some(&context)).map_err(of_embedded)
    }

    fn embed<'a>(&'a self, context: &Tensor) -> Result<Option<(&'a dyn Bijector, Tensor)>> {
        let embedded = self.embedded(Some(context), &mut Mode::evaluation())?;
        Ok(Some(self.bijector.embed(&embedded)?.unwrap_or((&*self.bijector, embedded))))
    }

    fn support(&self) -> Option<Support> {
        self.bijector.support()
    }

    fn image(&self, latent: &Support) -> Option<Support> {
        self.bijector.image(latent)
    }

    fn preimage(&self, data: &Support) -> Option<Support> {
        self.bijector.preimage(data)
    }

    fn recompute(&self) -> Option<&dyn Recompute> {
        Some(self)
    }

    fn structure(&self) -> Structure {
        Structure::new("Embed", "").part(self.network.structure()).part(self.bijector.structure())
    }
}

impl Recompute for Embed {
    fn vjp<'a>(
        &'a self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<Vjp<'a>> {
        embedded_vjp(self.bijector.as_ref(), direction, input, context, mode, |context, mode| {
            self.embedded(context, mode)
        })
    }
}
