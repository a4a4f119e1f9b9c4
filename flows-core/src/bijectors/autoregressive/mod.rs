//! Autoregressive layers: every dimension is transformed conditionally on those before it.

use super::elementwise::image;
use super::univariate::{Univariate, apply, identities};
use super::{Bijector, Direction, Mode, Support};
use crate::nn::{Made, Network, NetworkConfig, Scope};
use crate::shape::check_event;
use crate::{Error, Result, Rng, Structure, ops};
use candle_core::{DType, Tensor};
use std::ops::Deref;
use std::sync::Arc;

mod gradient;
mod order;
mod sequential;

/// An autoregressive layer: `z_d = f^-1(x_d; made(x_<d, context))` with a univariate family f.
///
/// `inverse` (the density) is one evaluation of the network. `forward` (sampling) goes from
/// dimension to dimension; on the CPU it computes every unit of the network once, at about the cost of
/// one evaluation, and on other devices it evaluates the network once for each dimension. With the affine family
/// this is MAF (Papamakarios et al., 2017), with the spline NSF(AR); within `Inverse` it is IAF
/// (Kingma et al., 2016).
#[derive(Debug)]
pub struct Autoregressive {
    shape: [usize; 1],
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Masked(Arc<Map>),
    /// A network of which only the order is known.
    Own(Passes<Box<dyn Network>>),
}

/// The network and the family whose parameters it computes.
#[derive(Debug)]
struct Map {
    univariate: Arc<dyn Univariate>,
    made: Made,
}

impl Autoregressive {
    /// A layer over `features` dimensions, conditioned on a context of width `context`, if any;
    /// `order[i]` is the position of dimension i, i itself if `None`. It starts near the identity. The first dimension
    /// depends on the context in a scope [with context units](Scope::with_context_units).
    ///
    /// # Errors
    /// When a width is 0 or the order does not name each position once.
    pub fn new(
        features: usize,
        univariate: Arc<dyn Univariate>,
        context: Option<usize>,
        order: Option<Vec<usize>>,
        network: &NetworkConfig,
        scope: &Scope,
    ) -> Result<Self> {
        let output = identities(univariate.as_ref(), features)?;
        let made = network.build_masked(features, context, order, output, &scope.enter("conditioner"))?;
        Ok(Self { shape: [features], kind: Kind::Masked(Arc::new(Map { univariate, made })) })
    }

    /// A layer with a network of your own, from x (B, D) and a context of width `context`, if any, to the (B, D P) raw
    /// parameters; those of dimension i may depend only on the dimensions with a smaller position in `order`, which is
    /// tested here. `forward` is one evaluation of the network for each dimension.
    ///
    /// # Errors
    /// When the order does not name each position once, or the network's output has another width or depends on what
    /// it must not see.
    pub fn with_network(
        univariate: Arc<dyn Univariate>,
        context: Option<usize>,
        order: Vec<usize>,
        network: Box<dyn Network>,
        scope: &Scope,
    ) -> Result<Self> {
        let features = order.len();
        let mut sequence: Vec<usize> = (0..features).collect();
        sequence.sort_by_key(|&i| order[i]);
        if features == 0 || !sequence.iter().map(|&i| order[i]).eq(0..features) {
            return Err(Error::Config(format!(
                "the order {order:?} does not name each position of 0..{features} once"
            )));
        }
        order::check(network.as_ref(), &sequence, univariate.parameter_count(), context, scope)?;
        Ok(Self { shape: [features], kind: Kind::Own(Passes { network, univariate, sequence, drops_units: true }) })
    }
}

impl Autoregressive {
    /// The box that holds what a direction makes of a support, as far as it is known whatever the network's output.
    fn box_of(&self, direction: Direction, support: &Support) -> Option<Support> {
        let univariate = match &self.kind {
            Kind::Masked(map) => &map.univariate,
            Kind::Own(passes) => &passes.univariate,
        };
        let bounds = support.bounds().into_iter().map(|bounds| image(univariate.as_ref(), direction, bounds));
        Support::in_box(&self.shape, bounds.collect())
    }
}

impl Map {
    /// `(z, log|dz_d/dx_d|)`, both (B, D), at x with the network's output for it.
    fn inverse_given(&self, x: &Tensor, raw: &Tensor) -> Result<(Tensor, Tensor)> {
        let (batch, d) = x.dims2()?;
        let raw = raw.reshape((batch, d, self.univariate.parameter_count()))?;
        apply(self.univariate.as_ref(), Direction::Inverse, x, &raw)
    }

    fn passes(&self) -> Passes<&Made> {
        let Self { univariate, made } = self;
        let drops_units = made.drops_units();
        Passes { network: made, univariate: univariate.clone(), sequence: made.sequence(), drops_units }
    }

    fn to_data(
        self: &Arc<Self>,
        z: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let (made, dtype) = (&self.made, z.dtype());
        let is_fused = z.device().is_cpu() && matches!(dtype, DType::F32 | DType::F64) && made.dtype() == dtype;
        if !is_fused || (mode.is_training() && made.drops_units()) {
            return self.passes().to_data(z, context, mode);
        }
        let given = made.context_term(context, z.dim(0)?)?;
        let solution = match dtype {
            DType::F32 => self.solve::<f32>(z, given.as_ref())?,
            _ => self.solve::<f64>(z, given.as_ref())?,
        };
        gradient::attach(self, z, given.as_ref(), solution)
    }
}

/// A layer that knows only the order in which its network's outputs depend on the inputs.
#[derive(Debug)]
struct Passes<N> {
    network: N,
    univariate: Arc<dyn Univariate>,
    /// The dimensions in the order in which they can be computed one after another.
    sequence: Vec<usize>,
    drops_units: bool,
}

impl<N: Deref<Target: Network>> Passes<N> {
    /// One evaluation of the network for each dimension, all with the same units dropped.
    fn to_data(&self, z: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        let ((batch, d), p) = (z.dims2()?, self.univariate.parameter_count());
        let rng = mode.rng().filter(|_| self.drops_units).map(Rng::fork);
        // The columns of x that are not known yet are zero; no output that is read depends on them.
        let mut columns = vec![Tensor::zeros((batch, 1), z.dtype(), z.device())?; d];
        let mut logs = Vec::with_capacity(d);
        for &d in &self.sequence {
            let mut rng = rng.clone();
            let mode = &mut Mode::recomputing(rng.as_mut());
            let raw = self.network.forward(&ops::limited(&Tensor::cat(&columns, 1)?)?, context, mode)?;
            let raw = raw.narrow(1, d * p, p)?.reshape((batch, 1, p))?;
            let z = z.narrow(1, d, 1)?.contiguous()?;
            let (x, log) = apply(self.univariate.as_ref(), Direction::Forward, &z, &raw)?;
            columns[d] = x;
            logs.push(log);
        }
        Ok((Tensor::cat(&columns, 1)?, ops::sum_event(&Tensor::cat(&logs, 1)?)?))
    }

    fn to_latent(&self, x: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        let ((batch, d), p) = (x.dims2()?, self.univariate.parameter_count());
        let raw = self.network.forward(&ops::limited(x)?, context, mode)?.reshape((batch, d, p))?;
        let (z, log) = apply(self.univariate.as_ref(), Direction::Inverse, x, &raw)?;
        Ok((z, ops::sum_event(&log)?))
    }
}

impl Bijector for Autoregressive {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        check_event("the input of an autoregressive layer", input, &self.shape)?;
        match (&self.kind, direction) {
            (Kind::Masked(map), Direction::Forward) => map.to_data(input, context, mode),
            (Kind::Masked(map), Direction::Inverse) => map.passes().to_latent(input, context, mode),
            (Kind::Own(passes), Direction::Forward) => passes.to_data(input, context, mode),
            (Kind::Own(passes), Direction::Inverse) => passes.to_latent(input, context, mode),
        }
    }

    /// By the range of the family.
    fn image(&self, latent: &Support) -> Option<Support> {
        self.box_of(Direction::Forward, latent)
    }

    fn preimage(&self, data: &Support) -> Option<Support> {
        self.box_of(Direction::Inverse, data)
    }

    fn structure(&self) -> Structure {
        let (univariate, network) = match &self.kind {
            Kind::Masked(map) => (&map.univariate, map.made.structure()),
            Kind::Own(passes) => (&passes.univariate, passes.network.structure()),
        };
        let details = format!("[{}]: {}", self.shape[0], univariate.name());
        Structure::new("Autoregressive", details).part(network).parts(univariate.structure())
    }
}

#[cfg(test)]
mod tests;
