//! Coupling layers: one part of the event transforms the other.

use super::univariate::{Univariate, apply, identities};
use super::{Bijector, Direction, Elementwise, Mode};
use crate::nn::{Network, NetworkConfig, Scope, check_widths, raw_parameters};
use crate::shape::check_event;
use crate::{Error, Result, Structure, ops};
use candle_core::Tensor;
use std::sync::Arc;

/// Which elements of an event a coupling transforms; the others condition them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mask {
    /// The second half along the event's first axis (features or channels); the first if `swap`.
    Halves {
        /// Whether to transform the first half instead.
        swap: bool,
    },
    /// Every second element along the event's first axis, from the first or, if `odd`, the second.
    Alternating {
        /// Whether to transform elements 1, 3, ... instead of 0, 2, ...
        odd: bool,
    },
    /// The squares of one colour of each (..., H, W) picture, those with an even sum of row and column
    /// unless `odd`.
    Checkerboard {
        /// Whether to transform the other colour.
        odd: bool,
    },
    /// These elements (row-major): true is transformed.
    Custom(Vec<bool>),
}

impl Mask {
    /// Which elements of an event of `shape` are transformed, in row-major order.
    ///
    /// # Errors
    /// When the shape has no such mask.
    pub fn transformed(&self, shape: &[usize]) -> Result<Vec<bool>> {
        let n: usize = shape.iter().product();
        let first = shape.first().copied().unwrap_or(1);
        let inner = n / first.max(1);
        match self {
            Self::Halves { swap } => Ok((0..n).map(|i| (i / inner >= first.div_ceil(2)) != *swap).collect()),
            Self::Alternating { odd } => Ok((0..n).map(|i| (i / inner % 2 == 1) == *odd).collect()),
            Self::Checkerboard { odd } => {
                let [.., height, width] = shape else {
                    let message =
                        format!("a checkerboard mask needs rows and columns, but the event's shape is {shape:?}");
                    return Err(Error::Config(message));
                };
                Ok((0..n).map(|i| ((i / width % height + i % width) % 2 == 1) == *odd).collect())
            }
            Self::Custom(mask) if mask.len() == n => Ok(mask.clone()),
            Self::Custom(mask) => Err(Error::Config(format!(
                "the mask has {} elements, but an event of shape {shape:?} has {n}",
                mask.len()
            ))),
        }
    }
}

/// How an event falls into a kept and a moved part.
#[derive(Debug)]
struct Split {
    kept: usize,
    moved: usize,
    order: Order,
}

#[derive(Debug)]
enum Order {
    KeptFirst,
    MovedFirst,
    /// Indices that bring the kept part in front, and those that undo it.
    Scattered(Tensor, Tensor),
}

impl Split {
    fn new(transformed: &[bool], scope: &Scope) -> Result<Self> {
        let (moved, kept): (Vec<u32>, Vec<u32>) = (0..transformed.len() as u32).partition(|&i| transformed[i as usize]);
        let order = if transformed.is_sorted() {
            Order::KeptFirst
        } else if transformed.iter().rev().is_sorted() {
            Order::MovedFirst
        } else {
            let front = [kept.clone(), moved.clone()].concat();
            let mut back = vec![0u32; front.len()];
            front.iter().enumerate().for_each(|(at, &i)| back[i as usize] = at as u32);
            Order::Scattered(Tensor::new(front, scope.device())?, Tensor::new(back, scope.device())?)
        };
        Ok(Self { kept: kept.len(), moved: moved.len(), order })
    }

    /// (B, N) to (B, kept) and (B, moved).
    fn split(&self, v: &Tensor) -> Result<(Tensor, Tensor)> {
        let (kept, moved) = (self.kept, self.moved);
        let parts = match &self.order {
            Order::KeptFirst => (v.narrow(1, 0, kept)?, v.narrow(1, kept, moved)?),
            Order::MovedFirst => (v.narrow(1, moved, kept)?, v.narrow(1, 0, moved)?),
            Order::Scattered(front, _) => {
                let v = v.contiguous()?.index_select(front, 1)?;
                (v.narrow(1, 0, kept)?, v.narrow(1, kept, moved)?)
            }
        };
        Ok((parts.0.contiguous()?, parts.1.contiguous()?))
    }

    fn join(&self, kept: &Tensor, moved: &Tensor) -> Result<Tensor> {
        Ok(match &self.order {
            Order::KeptFirst => Tensor::cat(&[kept, moved], 1)?,
            Order::MovedFirst => Tensor::cat(&[moved, kept], 1)?,
            Order::Scattered(_, back) => Tensor::cat(&[kept, moved], 1)?.index_select(back, 1)?,
        })
    }
}

/// A coupling layer: `x_kept = z_kept`, `x_moved = f(z_moved; network(z_kept, context))` with a
/// univariate family f, element by element; `log|det|` is the sum of its log-derivatives.
///
/// Both directions cost one evaluation of the network. With the additive family this is NICE
/// (Dinh et al., 2014), with the affine one RealNVP (Dinh et al., 2016), with the spline NSF
/// (Durkan et al., 2019). The kept part may have a map of its own, as in NSF. An event of one
/// element, which leaves nothing to condition on, gets an [`Elementwise`] map.
#[derive(Debug)]
pub struct Coupling {
    shape: Vec<usize>,
    details: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Coupled { split: Split, univariate: Arc<dyn Univariate>, network: Box<dyn Network>, kept_map: Option<Elementwise> },
    Single(Elementwise),
}

impl Coupling {
    /// A coupling over events of `shape`, conditioned by `network` on the kept part and on a
    /// context of width `context`, if any. It starts near the identity.
    ///
    /// # Errors
    /// When the mask does not fit the shape, transforms nothing or everything, or a width is 0.
    pub fn new(
        shape: &[usize],
        mask: &Mask,
        univariate: Arc<dyn Univariate>,
        context: Option<usize>,
        network: &NetworkConfig,
        scope: &Scope,
    ) -> Result<Self> {
        let n: usize = shape.iter().product();
        let details = format!("{shape:?}: {}", univariate.name());
        if n == 1 {
            let map = match context {
                Some(context) => Elementwise::conditional(shape, univariate, context, network, scope)?,
                None => Elementwise::new(shape, univariate, scope)?,
            };
            return Ok(Self { shape: shape.to_vec(), details, kind: Kind::Single(map) });
        }
        let split = Split::new(&mask.transformed(shape)?, scope)?;
        let output = identities(univariate.as_ref(), split.moved)?;
        let network = network.build(split.kept, context, output, &scope.enter("conditioner"))?;
        Self::from_split(shape, split, univariate, network)
    }

    /// A coupling with a network of your own, from the (B, kept) elements that the mask leaves, in
    /// row-major order, to the (B, moved P) raw parameters of the others.
    ///
    /// # Errors
    /// When the mask does not fit the shape, transforms nothing or everything, or the network is known to have other
    /// [widths](Network::widths); if its widths are not known, using the coupling is one.
    pub fn with_network(
        shape: &[usize],
        mask: &Mask,
        univariate: Arc<dyn Univariate>,
        network: Box<dyn Network>,
        scope: &Scope,
    ) -> Result<Self> {
        let split = Split::new(&mask.transformed(shape)?, scope)?;
        Self::from_split(shape, split, univariate, network)
    }

    fn from_split(
        shape: &[usize],
        split: Split,
        univariate: Arc<dyn Univariate>,
        network: Box<dyn Network>,
    ) -> Result<Self> {
        if split.kept == 0 || split.moved == 0 {
            let message = format!("the mask leaves one side of the coupling over {shape:?} empty: choose another");
            return Err(Error::Config(message));
        }
        let part = format_args!("a coupling over {shape:?}");
        check_widths(part, network.as_ref(), split.kept, [split.moved, univariate.parameters()])?;
        let details = format!("{shape:?}, {} -> {}: {}", split.kept, split.moved, univariate.name());
        let kind = Kind::Coupled { split, univariate, network, kept_map: None };
        Ok(Self { shape: shape.to_vec(), details, kind })
    }

    /// Transforms the kept part too, by a map that conditions on nothing; before the network sees
    /// it in inverse direction, as in NSF.
    ///
    /// # Errors
    /// When the weight's name is taken.
    pub fn with_kept_map(mut self, univariate: Arc<dyn Univariate>, scope: &Scope) -> Result<Self> {
        if let Kind::Coupled { split, kept_map, .. } = &mut self.kind {
            *kept_map = Some(Elementwise::new(&[split.kept], univariate, &scope.enter("kept"))?);
        }
        Ok(self)
    }
}

impl Bijector for Coupling {
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
        check_event("the input of a coupling", input, &self.shape)?;
        let (split, univariate, network, kept_map) = match &self.kind {
            Kind::Coupled { split, univariate, network, kept_map } => (split, univariate, network, kept_map),
            Kind::Single(map) => return map.map(direction, input, context, mode),
        };
        let (kept, moved) = split.split(&input.flatten_from(1)?)?;
        let (kept_out, kept_log) = match kept_map {
            None => (kept.clone(), None),
            Some(map) => map.map(direction, &kept, None, mode).map(|(v, log)| (v, Some(log)))?,
        };
        // The network sees the kept part on its data side, in both directions.
        let seen = if direction == Direction::Forward { &kept_out } else { &kept };
        let part = format_args!("a coupling over {:?}", self.shape);
        let sizes = [split.moved, univariate.parameters()];
        let raw = raw_parameters(part, network.as_ref(), seen, context, sizes, mode)?;
        let (moved, log) = apply(univariate.as_ref(), direction, &moved, &raw)?;
        let log_det = ops::sum_event(&log)?;
        let log_det = match kept_log {
            Some(kept) => (log_det + kept)?,
            None => log_det,
        };
        Ok((split.join(&kept_out, &moved)?.reshape(input.shape())?, log_det))
    }

    fn structure(&self) -> Structure {
        let node = Structure::new("Coupling", self.details.clone());
        match &self.kind {
            Kind::Coupled { network, kept_map, univariate, .. } => {
                let node = node.part(network.structure()).parts(univariate.structure());
                node.parts(kept_map.iter().map(Bijector::structure))
            }
            Kind::Single(map) => node.part(map.structure()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bijectors::{Embed, univariate::Affine};
    use crate::nn::{Activation, Mlp, Output, Parameters};
    use crate::{Rng, Structure};
    use candle_core::{DType, Device};

    /// A network of one's own, which says nothing of its widths.
    #[derive(Debug)]
    struct Own(Mlp);

    impl Network for Own {
        fn forward(&self, x: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor> {
            self.0.forward(x, context, mode)
        }

        fn structure(&self) -> Structure {
            self.0.structure()
        }
    }

    #[test]
    fn networks_of_another_width_are_named() -> Result<()> {
        let scope = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0)).scope();
        let mut i = 0;
        let mut mlp = |inputs: usize, outputs: usize, context: Option<usize>| {
            i += 1;
            Mlp::new(inputs, &[5], Output::new(outputs), context, Activation::Tanh, &scope.enter(i))
        };
        let coupling = |network: Box<dyn Network>| {
            let (mask, affine) = (Mask::Alternating { odd: false }, Arc::new(Affine::default()));
            Coupling::with_network(&[7], &mask, affine, network, &scope)
        };
        // Three are kept; four are moved, by two numbers each.
        assert!(coupling(Box::new(mlp(3, 8, None)?)).is_ok() && coupling(Box::new(mlp(3, 8, Some(2))?)).is_ok());
        for (inputs, outputs) in [(3, 7), (4, 8), (8, 3)] {
            let error = coupling(Box::new(mlp(inputs, outputs, Some(2))?)).unwrap_err().to_string();
            let words = ["a coupling over [7]", &format!("from {inputs} to {outputs}"), "from 3 to 8"];
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        let x = Tensor::zeros((4, 7), DType::F32, &Device::Cpu)?;
        for outputs in [7, 16] {
            let coupling = coupling(Box::new(Own(mlp(3, outputs, None)?)))?;
            for pass in [coupling.inverse(&x, None), coupling.forward(&x, None)] {
                let error = pass.unwrap_err().to_string();
                let came = format!("the network of a coupling over [7] has shape [4, {outputs}]");
                assert!(error.contains(&came) && error.contains("(4, 8)"), "{error}");
            }
        }
        let context = Tensor::zeros((4, 6), DType::F32, &Device::Cpu)?;
        let inner = Box::new(coupling(Box::new(mlp(3, 8, Some(2))?))?);
        let embed = Embed::new(Box::new(mlp(6, 3, None)?), inner);
        for error in [embed.inverse(&x, Some(&context)).err(), embed.initialize(&x, Some(&context)).err()] {
            let error = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(
                error.contains("a network makes of another has shape [4, 3]") && error.contains("(4, 2)"),
                "{error}"
            );
        }
        Ok(())
    }
}
