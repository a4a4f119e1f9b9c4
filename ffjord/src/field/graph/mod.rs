//! A field over the positions of particles, equivariant under rotations, reflections, translations and permutations.

mod align;
mod backend;
mod composed;
mod kernel;
mod layout;
mod rows;
mod tape;

use super::{Dual, Kernels, VectorField};
use backend::{Backend, Constant, Function};
use candle_core::Tensor;
use composed::Composed;
use flows_core::nn::{Init, Scope};
use flows_core::{Error, Result, Structure};
use layout::{Constants, Layout};
pub(crate) use layout::{MAX_COORDINATES, centred_basis};
use serde::{Deserialize, Serialize};

/// The settings of a [`Graph`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GraphConfig {
    /// The dimension of the space that the particles move in.
    pub dimension: usize,
    /// The number of features of each particle and each edge within the network.
    pub width: usize,
    /// The number of layers.
    pub layers: usize,
    /// The farthest that all layers together can push a particle away from another one.
    pub range: f64,
    /// The number of features of each particle, such as its kind, that the context starts with, particle by particle.
    /// The rest of the context describes the whole configuration.
    #[serde(skip_serializing_if = "is_zero")]
    pub features: usize,
}

fn is_zero(features: &usize) -> bool {
    *features == 0
}

impl Default for GraphConfig {
    fn default() -> Self {
        Self { dimension: 3, width: 32, layers: 3, range: 15.0, features: 0 }
    }
}

/// The E(n)-equivariant graph network of Satorras, Hoogeboom & Welling (2021) as the vector field of a
/// flow (Satorras et al., E(n) Equivariant Normalizing Flows, 2021); every pair of particles is an edge.
///
/// A layer computes a message for each edge, `m_ij = e(m) m` with `m = phi_e(h_i, h_j, |x_i - x_j|^2,
/// |x_i(0) - x_j(0)|^2)` and a gate e in (0, 1); it then updates the positions,
/// `x_i <- x_i + sum_j (x_i - x_j) / sqrt(|x_i - x_j|^2 + 1) phi_x(m_ij)`, and the features,
/// `h_i <- h_i + phi_h(h_i, sum_j m_ij)`, whose initial values are an affine function of time. The field is the
/// total displacement of the particles. The square root replaces the distance to keep the field smooth where
/// particles meet. A linear map adds the context to the initial features: the part about the whole configuration to
/// the features of every particle, the part about one particle to its own. With features of single particles the
/// field is equivariant only under permutations of the context along with the particles.
///
/// A configuration of N particles in D dimensions is represented by its (N - 1) D coordinates in an
/// orthonormal basis of the configurations with centre 0 ([`ZeroCentre`](crate::ZeroCentre) maps between the
/// two): the exact divergence takes that many tangents, and densities are densities on that subspace.
#[derive(Clone, Debug)]
pub struct Graph {
    dim: usize,
    context: usize,
    config: GraphConfig,
    tensors: Vec<Tensor>,
    layout: Layout,
}

/// The number of weight tensors per layer; the last layer lacks those that update the features. See [`Graph::run`].
const WEIGHTS_PER_LAYER: usize = 16;

impl Graph {
    /// A field over the `dim` = (N - 1) D coordinates of configurations, conditional on a context of the given width if
    /// any.
    ///
    /// # Errors
    /// When `dim` is not such a number, a setting is out of range, the context is narrower than the features, or a name
    /// is already taken in `scope`.
    pub fn new(dim: usize, context: Option<usize>, config: &GraphConfig, scope: &Scope) -> Result<Self> {
        let &GraphConfig { dimension, width, layers, range, features } = config;
        if dimension == 0 || width == 0 || !(1..=100).contains(&layers) || !(range.is_finite() && range > 0.0) {
            let message = "a graph field needs a `dimension`, a `width` and a `range` above 0, and 1 to 100 `layers`";
            return Err(Error::Config(message.into()));
        }
        if dim == 0 || dim.saturating_add(dimension) > MAX_COORDINATES || !dim.is_multiple_of(dimension) {
            return Err(Error::Config(format!(
                "{dim} coordinates are not those of two or more particles with centre 0 in {dimension} dimensions and \
                 at most {MAX_COORDINATES} numbers in all: set the `dimension` of the field"
            )));
        }
        let (particles, context) = (dim / dimension + 1, context.unwrap_or(0));
        let Some(shared) = features.checked_mul(particles).and_then(|own| context.checked_sub(own)) else {
            return Err(Error::Config(format!(
                "{features} `features` for each of {particles} particles exceed the {context} numbers of the context: \
                 give a wider context, or lower `features`"
            )));
        };
        let (fan, one) = (Init::fan_in(width, 1.0), Init::fan_in(1, 1.0));
        let mut tensors = Vec::new();
        let time = scope.enter("time");
        tensors.push(time.weight("weight", width, one.clone())?);
        tensors.push(time.weight("bias", width, one)?);
        for l in 0..layers {
            let scope = scope.enter(l);
            let mut add = |part: &str, name: &str, shape: &[usize], init: &Init| {
                tensors.push(scope.enter(part).weight(name, shape, init.clone())?);
                Ok::<_, Error>(())
            };
            // The first linear map of an edge takes the features of both particles and two distances.
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
        let given = features + shared;
        if given > 0 {
            let init = Init::fan_in(given, 1.0);
            tensors.push(scope.enter("context").weight("weight", (width, given), init)?);
        }
        let layout = Layout::new(particles, dimension, tensors.iter().map(Tensor::elem_count));
        Ok(Self { dim, context, config: config.clone(), tensors, layout })
    }

    /// The context (B, C) as one row per particle, its own features first: (B N, features + shared).
    fn particle_context(&self, context: &Tensor) -> Result<Tensor> {
        let (rows, width) = context.dims2()?;
        let (n, features) = (self.layout.particles, self.config.features);
        let own = context.narrow(1, 0, n * features)?.reshape((rows, n, features))?;
        let shared = context.narrow(1, n * features, width - n * features)?;
        let shared = shared.unsqueeze(1)?.broadcast_as((rows, n, width - n * features))?;
        let parts: Vec<Tensor> = [own, shared].into_iter().filter(|part| part.elem_count() > 0).collect();
        Ok(Tensor::cat(&parts, 2)?.flatten_to(1)?)
    }

    /// Evaluates the field at z ((N - 1) D coordinates per configuration) with the operations of a backend.
    fn run<M: Backend>(&self, m: &mut M, z: &M::Value) -> std::result::Result<M::Value, M::Failure> {
        let layers = self.config.layers;
        let mut x = m.constant(z, Constant::Embed, self.config.dimension)?;
        let h = m.time_features(0, 1)?;
        let mut h = m.add_context(h, self.tensors.len() - 1)?;
        let mut start = None;
        for l in 0..layers {
            let w = |i: usize| 2 + l * WEIGHTS_PER_LAYER + i;
            let apart = m.difference(&x)?;
            let square = m.squared_norm(&apart)?;
            let start = start.get_or_insert_with(|| square.clone());
            let (from, to) = (m.linear(&h, w(0), Some(w(1)))?, m.linear(&h, w(2), None)?);
            let edge = m.edge_inputs(&from, &to, [&square, start], w(3))?;
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
            let push = m.aggregate(&push, self.config.range / layers as f64)?;
            x = m.sum(&x, &push, 1.0)?;
            if l + 1 < layers {
                let messages = m.aggregate(&message, 1.0)?;
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
        let context = context.map(|context| self.particle_context(context)).transpose()?;
        let mut backend = Composed::new(&self.layout, weights, t, z.value().dim(0)?, context)?;
        self.run(&mut backend, z)
    }

    fn align(&self, x: &[f64], z: &mut [f64]) {
        align::align((self.layout.particles, self.layout.dimension), self.config.features == 0, x, z);
    }

    fn structure(&self) -> Structure {
        let GraphConfig { dimension, width, layers, .. } = self.config;
        let details =
            format!("{} particles in {dimension} dimensions, {layers} layers of {width}", self.layout.particles);
        Structure::new("Graph", details).with_parameters(self.layout.total())
    }

    fn kernels(&self) -> Option<Kernels<'_>> {
        (self.context == 0).then(|| Kernels::of(self))
    }
}

#[cfg(test)]
mod tests;
