//! A field over the positions of particles that turns, moves and is permuted with them.

mod align;
mod composed;
mod kernel;
mod machine;
mod places;
mod rows;
mod tape;

use super::{Dual, Kernels, VectorField};
use candle_core::Tensor;
use composed::Composed;
use flows_core::nn::{Init, Scope};
use flows_core::{Error, Result, Structure};
use machine::{Constant, Function, Machine};
use places::{Constants, Places};
pub(crate) use places::{MOST, centred_basis};
use serde::{Deserialize, Serialize};

/// Which graph network a field is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GraphConfig {
    /// Of the space that the particles are in.
    pub dimension: usize,
    /// Numbers that a particle or an edge has in the network.
    pub width: usize,
    /// Layers of the network.
    pub layers: usize,
    /// How far all layers together can push one particle away from another.
    pub range: f64,
    /// Numbers that the context has of each particle, its kind for instance: those of one particle behind those of
    /// another. The rest of the context is of the whole configuration.
    #[serde(skip_serializing_if = "none")]
    pub features: usize,
}

fn none(features: &usize) -> bool {
    *features == 0
}

impl Default for GraphConfig {
    fn default() -> Self {
        Self { dimension: 3, width: 32, layers: 3, range: 15.0, features: 0 }
    }
}

/// The E(n)-equivariant graph network of Satorras, Hoogeboom & Welling (2021) as the vector field of a
/// flow (Satorras et al., E(n) Equivariant Normalizing Flows, 2021), all pairs of particles being edges.
///
/// A layer makes a message of each edge, `m_ij = e(m) m`, `m = phi_e(h_i, h_j, |x_i - x_j|^2,
/// |x_i(0) - x_j(0)|^2)` with a gate e of (0, 1), moves the particles,
/// `x_i <- x_i + sum_j (x_i - x_j) / sqrt(|x_i - x_j|^2 + 1) phi_x(m_ij)`, and their features,
/// `h_i <- h_i + phi_h(h_i, sum_j m_ij)`, which start as a map of time. The field is how far all layers
/// have moved the particles. It is smooth where particles meet: hence the root, in place of a distance.
/// A context is added to the features that the particles start with, by a linear map: what it says of the whole
/// configuration to those of all, what it says of a particle to its own, and then the order of the particles counts as
/// far as that tells them apart.
///
/// A configuration of N particles in space of D dimensions is given by its (N - 1) D coordinates in an
/// orthonormal basis of the configurations whose centre is 0 ([`ZeroCentre`](crate::ZeroCentre) goes
/// between both): a divergence takes as many tangents, and densities are counted on that subspace.
#[derive(Clone, Debug)]
pub struct Graph {
    dim: usize,
    context: usize,
    config: GraphConfig,
    tensors: Vec<Tensor>,
    places: Places,
}

/// Weights of a layer, the last of which has no use for those of the features; see [`Graph::run`].
const OF_LAYER: usize = 16;

impl Graph {
    /// A field over the `dim` = (N - 1) D coordinates of configurations, given a context of this width if there is one.
    ///
    /// # Errors
    /// When `dim` is no such number, a setting is 0, the context is too narrow for the features, or names are taken in
    /// `scope`.
    pub fn new(dim: usize, context: Option<usize>, config: &GraphConfig, scope: &Scope) -> Result<Self> {
        let &GraphConfig { dimension, width, layers, range, features } = config;
        if dimension == 0 || width == 0 || !(1..=100).contains(&layers) || !(range.is_finite() && range > 0.0) {
            let message = "a graph field has a `dimension`, a `width` and a `range` above 0, and 1 to 100 `layers`";
            return Err(Error::Config(message.into()));
        }
        if dim == 0 || dim.saturating_add(dimension) > MOST || !dim.is_multiple_of(dimension) {
            return Err(Error::Config(format!(
                "{dim} coordinates are not those of two or more particles in {dimension} dimensions, their centre \
                 taken off and with no more than {MOST} numbers: set the `dimension` of the field"
            )));
        }
        let (particles, context) = (dim / dimension + 1, context.unwrap_or(0));
        let Some(shared) = features.checked_mul(particles).and_then(|of_particles| context.checked_sub(of_particles))
        else {
            return Err(Error::Config(format!(
                "{features} `features` of each of {particles} particles are more than the {context} numbers of the \
                 context: give such a context, or lower `features`"
            )));
        };
        let (fan, one) = (Init::fan_in(width, 1.0), Init::fan_in(1, 1.0));
        let mut tensors = Vec::new();
        let of_time = scope.enter("time");
        tensors.push(of_time.weight("weight", width, one.clone())?);
        tensors.push(of_time.weight("bias", width, one)?);
        for l in 0..layers {
            let scope = scope.enter(l);
            let mut add = |part: &str, name: &str, shape: &[usize], init: &Init| {
                tensors.push(scope.enter(part).weight(name, shape, init.clone())?);
                Ok::<_, Error>(())
            };
            // The inputs of the first map are both particles and two distances.
            let first = Init::fan_in(2 * width + 2, 1.0);
            let tiny = Init::Uniform(1e-3 * (6.0 / (width + 1) as f64).sqrt());
            add("edge", "from", &[width, width], &first)?;
            add("edge", "bias", &[width], &first)?;
            add("edge", "to", &[width, width], &first)?;
            add("edge", "distance", &[2, width], &first)?;
            for (part, outputs) in [("message", width), ("gate", 1), ("push", width)] {
                add(part, "weight", &[outputs, width], &fan)?;
                add(part, "bias", &[outputs], &fan)?;
            }
            add("push", "size", &[1, width], &tiny)?;
            if l + 1 < layers {
                let both = Init::fan_in(2 * width, 1.0);
                add("node", "own", &[width, width], &both)?;
                add("node", "bias", &[width], &both)?;
                add("node", "messages", &[width, width], &both)?;
                add("update", "weight", &[width, width], &fan)?;
                add("update", "bias", &[width], &fan)?;
            }
        }
        let known = features + shared;
        if known > 0 {
            let init = Init::fan_in(known, 1.0);
            tensors.push(scope.enter("context").weight("weight", (width, known), init)?);
        }
        let places = Places::new(particles, dimension, tensors.iter().map(Tensor::elem_count));
        Ok(Self { dim, context, config: config.clone(), tensors, places })
    }

    /// What the context (B, C) says of each particle, its own features first: (B N, ...).
    fn of_particles(&self, context: &Tensor) -> Result<Tensor> {
        let (rows, width) = context.dims2()?;
        let (n, features) = (self.places.particles, self.config.features);
        let own = context.narrow(1, 0, n * features)?.reshape((rows, n, features))?;
        let shared = context.narrow(1, n * features, width - n * features)?;
        let shared = shared.unsqueeze(1)?.broadcast_as((rows, n, width - n * features))?;
        let parts: Vec<Tensor> = [own, shared].into_iter().filter(|part| part.elem_count() > 0).collect();
        Ok(Tensor::cat(&parts, 2)?.flatten_to(1)?)
    }

    /// The field's program.
    fn run<M: Machine>(&self, m: &mut M, z: &M::Value) -> std::result::Result<M::Value, M::Failure> {
        let layers = self.config.layers;
        let mut x = m.constant(z, Constant::Embed, self.config.dimension)?;
        let h = m.of_time(0, 1)?;
        let mut h = m.given(h, self.tensors.len() - 1)?;
        let mut start = None;
        for l in 0..layers {
            let w = |i: usize| 2 + l * OF_LAYER + i;
            let apart = m.difference(&x)?;
            let square = m.square(&apart)?;
            let start = start.get_or_insert_with(|| square.clone());
            let (from, to) = (m.linear(&h, w(0), Some(w(1)))?, m.linear(&h, w(2), None)?);
            let edge = m.pairs(&from, &to, [&square, start], w(3))?;
            let edge = m.map(&edge, Function::Silu)?;
            let message = m.linear(&edge, w(4), Some(w(5)))?;
            let message = m.map(&message, Function::Silu)?;
            let gate = m.linear(&message, w(6), Some(w(7)))?;
            let gate = m.map(&gate, Function::Sigmoid)?;
            let message = m.times(&message, &gate)?;
            let push = m.linear(&message, w(8), Some(w(9)))?;
            let push = m.map(&push, Function::Silu)?;
            let push = m.linear(&push, w(10), None)?;
            let push = m.map(&push, Function::Tanh)?;
            let near = m.map(&square, Function::InverseRoot)?;
            let push = m.times(&push, &near)?;
            let push = m.times(&apart, &push)?;
            let push = m.collect(&push, self.config.range / layers as f64)?;
            x = m.sum(&x, &push, 1.0)?;
            if l + 1 < layers {
                let messages = m.collect(&message, 1.0)?;
                let (own, messages) = (m.linear(&h, w(11), Some(w(12)))?, m.linear(&messages, w(13), None)?);
                let update = m.sum(&own, &messages, 1.0)?;
                let update = m.map(&update, Function::Silu)?;
                let update = m.linear(&update, w(14), Some(w(15)))?;
                h = m.sum(&h, &update, 1.0)?;
            }
        }
        let end = m.constant(&x, Constant::Project, self.dim)?;
        m.sum(&end, z, -1.0)
    }
}

impl VectorField for Graph {
    fn dim(&self) -> usize {
        self.dim
    }

    fn context(&self) -> usize {
        self.context
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.tensors.clone()
    }

    fn evaluate(&self, weights: &[Tensor], t: &Tensor, z: &Dual, context: Option<&Tensor>) -> Result<Dual> {
        let context = context.map(|context| self.of_particles(context)).transpose()?;
        let mut machine = Composed::new(&self.places, weights, t, z.value().dim(0)?, context)?;
        self.run(&mut machine, z)
    }

    fn align(&self, x: &[f64], z: &mut [f64]) {
        align::align((self.places.particles, self.places.dimension), self.config.features == 0, x, z);
    }

    fn structure(&self) -> Structure {
        let GraphConfig { dimension, width, layers, .. } = self.config;
        let of = format!("{} particles in {dimension} dimensions, {layers} layers of {width}", self.places.particles);
        Structure::new("Graph", of).with_parameters(self.places.total())
    }

    fn kernels(&self) -> Option<Kernels<'_>> {
        (self.context == 0).then(|| Kernels::of(self))
    }
}

#[cfg(test)]
mod tests;
