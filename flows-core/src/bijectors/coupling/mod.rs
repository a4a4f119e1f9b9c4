//! Coupling layers: one part of the event transforms the other.

use super::elementwise::image;
use super::univariate::{Univariate, apply, identities};
use super::{Bijector, Direction, Elementwise, Mode, Support};
use crate::nn::{ConvNetConfig, Network, NetworkConfig, Output, Scope, check_widths};
use crate::shape::check_event;
use crate::{Error, Result, Structure, ops};
use candle_core::Tensor;
use split::Split;
use std::sync::Arc;

mod split;

pub use split::Mask;

/// A coupling layer: `x_kept = z_kept`, `x_moved = f(z_moved; network(z_kept, context))` with a
/// univariate family f, element by element; `log|det|` is the sum of its log-derivatives.
///
/// Both directions cost one evaluation of the network. With the additive family this is NICE
/// (Dinh et al., 2014), with the affine one RealNVP (Dinh et al., 2016), with the spline NSF
/// (Durkan et al., 2019), and over channels, with convolutions, Glow (Kingma and Dhariwal, 2018)
/// or WaveGlow (Prenger et al., 2018). The kept part may be mapped too, as in NSF. An event of one
/// element, which leaves nothing to condition on, gets an [`Elementwise`] map.
#[derive(Debug)]
pub struct Coupling {
    shape: Vec<usize>,
    details: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Coupled(Coupled),
    Single(Elementwise),
}

#[derive(Debug)]
struct Coupled {
    split: Split,
    layout: Layout,
    univariate: Arc<dyn Univariate>,
    network: Box<dyn Network>,
    kept_map: Option<Elementwise>,
}

/// The layout of the network's output, the raw parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// All parameters of an element side by side: (B, moved P).
    Elements,
    /// Each parameter of all channels side by side: (B, P moved, positions...).
    Kinds,
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
        let split = Split::new(&mask.transformed(shape)?, &[], scope)?;
        let output = identities(univariate.as_ref(), split.moved)?;
        let network = network.build(split.kept, context, output, &scope.enter("conditioner"))?;
        Self::from_split(shape, split, Layout::Elements, univariate, network)
    }

    /// A coupling with a network of your own, from the (B, kept) elements that the mask leaves, in
    /// row-major order, to the (B, moved P) raw parameters of the others.
    ///
    /// # Errors
    /// When the mask does not fit the shape, transforms nothing or everything, or the network is known to have other
    /// [widths](Network::widths); where the widths are not known, a wrong one is an error of each pass.
    pub fn with_network(
        shape: &[usize],
        mask: &Mask,
        univariate: Arc<dyn Univariate>,
        network: Box<dyn Network>,
        scope: &Scope,
    ) -> Result<Self> {
        let split = Split::new(&mask.transformed(shape)?, &[], scope)?;
        Self::from_split(shape, split, Layout::Elements, univariate, network)
    }

    /// A coupling over the channels of signals (C, T) or images (C, H, W), conditioned by convolutions
    /// of the channels that the mask keeps and of a context of K channels, if `context` is K: (B, K, T) or
    /// (B, K, H, W), or (B, K) for the same context at all positions. It starts near the identity.
    ///
    /// No weight depends on the number of positions: the same weights serve signals of any length.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use flows_core::bijectors::{Bijector, Coupling, Mask, univariate::Affine};
    /// use flows_core::nn::{ConvNetConfig, Parameters};
    /// use flows_core::Rng;
    /// use std::sync::Arc;
    /// let mut rng = Rng::seed(0);
    /// let parameters = Parameters::new(DType::F32, &Device::Cpu, rng.fork());
    /// let (mask, affine) = (Mask::Halves { swap: false }, Arc::new(Affine::default()));
    /// let network = ConvNetConfig { hidden: vec![16, 16], dilations: vec![1, 2, 4], ..Default::default() };
    /// let coupling = Coupling::convolutional(&[8, 100], &mask, affine, Some(3), &network, &parameters.scope())?;
    /// let x = rng.normal_tensor((2, 8, 100), DType::F32, &Device::Cpu)?;
    /// let mel = rng.normal_tensor((2, 3, 100), DType::F32, &Device::Cpu)?;
    /// let (z, log_det) = coupling.inverse(&x, Some(&mel))?;
    /// assert_eq!((z.dims(), log_det.dims()), (&[2, 8, 100][..], &[2][..]));
    /// # Ok::<(), flows_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the shape is neither, the mask is not one of channels or keeps or moves all of them, or a size of the
    /// network is not valid.
    pub fn convolutional(
        shape: &[usize],
        mask: &Mask,
        univariate: Arc<dyn Univariate>,
        context: Option<usize>,
        network: &ConvNetConfig,
        scope: &Scope,
    ) -> Result<Self> {
        let (split, axes) = Self::channels(shape, mask, scope)?;
        let start = univariate.identity().into_iter().flat_map(|value| std::iter::repeat_n(value, split.moved));
        let output = Output::near(start.collect());
        let network = network.build(axes, split.kept, context, output, &scope.enter("conditioner"))?;
        Self::from_split(shape, split, Layout::Kinds, univariate, Box::new(network))
    }

    /// A coupling over channels with a network of your own, from the channels that the mask keeps, (B, kept, T) or
    /// (B, kept, H, W), and the context, to the raw parameters of the others, (B, P moved, T) or (B, P moved, H, W): first
    /// the first of all channels, then the second of all, and so on.
    ///
    /// # Errors
    /// When the mask is not one of channels, or keeps or moves all of them.
    pub fn over_channels(
        shape: &[usize],
        mask: &Mask,
        univariate: Arc<dyn Univariate>,
        network: Box<dyn Network>,
        scope: &Scope,
    ) -> Result<Self> {
        let (split, _) = Self::channels(shape, mask, scope)?;
        Self::from_split(shape, split, Layout::Kinds, univariate, network)
    }

    /// The split of channels, and the number of spatial axes.
    fn channels(shape: &[usize], mask: &Mask, scope: &Scope) -> Result<(Split, usize)> {
        let [channels, positions @ ..] = shape else {
            return Err(Error::shape("the event of a coupling over channels", shape, "(C, T) or (C, H, W)"));
        };
        if matches!(mask, Mask::Checkerboard { .. }) {
            let message =
                "a checkerboard mask splits positions: split channels by halves, alternately or by a mask of them";
            return Err(Error::Config(message.into()));
        }
        Ok((Split::new(&mask.transformed(&[*channels])?, positions, scope)?, positions.len()))
    }

    /// The box that holds what a direction makes of a support, as far as it is known whatever the network's output.
    fn box_of(&self, direction: Direction, support: &Support) -> Option<Support> {
        let bounds = support.bounds().into_iter();
        let bounds = match &self.kind {
            Kind::Single(map) => bounds.map(|bounds| map.image_of(direction, bounds)).collect(),
            Kind::Coupled(Coupled { split, univariate, kept_map, .. }) => {
                let of_element = |(bounds, moved)| match (moved, kept_map) {
                    (true, _) => image(univariate.as_ref(), direction, bounds),
                    (false, Some(map)) => map.image_of(direction, bounds),
                    (false, None) => bounds,
                };
                bounds.zip(split.moved_elements().ok()?).map(of_element).collect()
            }
        };
        Support::in_box(&self.shape, bounds)
    }

    fn from_split(
        shape: &[usize],
        split: Split,
        layout: Layout,
        univariate: Arc<dyn Univariate>,
        network: Box<dyn Network>,
    ) -> Result<Self> {
        if split.kept == 0 || split.moved == 0 {
            let message = format!("the mask leaves one side of the coupling over {shape:?} empty: choose another");
            return Err(Error::Config(message));
        }
        let part = format_args!("a coupling over {shape:?}");
        check_widths(part, network.as_ref(), split.kept, [split.moved, univariate.parameter_count()])?;
        let details = format!("{shape:?}, {} -> {}: {}", split.kept, split.moved, univariate.name());
        let kind = Kind::Coupled(Coupled { split, layout, univariate, network, kept_map: None });
        Ok(Self { shape: shape.to_vec(), details, kind })
    }

    /// Transforms the kept part too, by an unconditional map, as in NSF; in both directions the network sees
    /// its data side. Every element has its own map, so the weights fit signals of one length only.
    ///
    /// # Errors
    /// When the weight's name is taken.
    pub fn with_kept_map(mut self, univariate: Arc<dyn Univariate>, scope: &Scope) -> Result<Self> {
        if let Kind::Coupled(Coupled { split, kept_map, .. }) = &mut self.kind {
            *kept_map = Some(Elementwise::new(&[split.kept_range().len()], univariate, &scope.enter("kept"))?);
        }
        Ok(self)
    }
}

impl Coupled {
    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let Self { split, layout, univariate, network, kept_map } = self;
        let (batch, range) = (input.dim(0)?, split.moved_range());
        let flat = split.gather(input)?;
        // Contiguous once: the network would copy it, and so would joining the parts.
        let kept = flat.narrow(1, split.kept_range().start, split.kept_range().len())?.contiguous()?;
        let (kept_out, kept_log) = match kept_map {
            None => (kept.clone(), None),
            Some(map) => map.map(direction, &kept, None, mode).map(|(v, log)| (v, Some(log)))?,
        };
        // The network sees the kept part on its data side, in both directions.
        let seen = if direction == Direction::Forward { &kept_out } else { &kept };
        let seen = ops::limited(seen)?.reshape(split.shape(batch, split.kept))?;
        let raw = network.forward(&seen, context, mode)?;
        let want = split.shape(batch, split.moved * univariate.parameter_count());
        if raw.dims() != want {
            let what = format!("the output of the network of a coupling over {:?}", &input.dims()[1..]);
            let want = want.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            return Err(Error::shape(what, raw.dims(), format!("({want})")));
        }
        let moved = || flat.narrow(1, range.start, range.len())?.contiguous();
        let (out, log_det) = match layout {
            Layout::Elements => {
                let raw = raw.reshape((batch, split.moved, univariate.parameter_count()))?;
                let (moved, log) = apply(univariate.as_ref(), direction, &moved()?, &raw)?;
                (split.join(&kept_out, &moved)?, ops::sum_event(&log)?)
            }
            Layout::Kinds => {
                let whole = if kept_map.is_some() { split.join(&kept_out, &moved()?)? } else { flat.clone() };
                univariate.couple(direction, &whole, range, &raw.flatten_from(1)?)?
            }
        };
        let log_det = match kept_log {
            Some(kept) => (log_det + kept)?,
            None => log_det,
        };
        Ok((split.scatter(out)?.reshape(input.shape())?, log_det))
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
        match &self.kind {
            Kind::Coupled(coupled) => coupled.map(direction, input, context, mode),
            Kind::Single(map) => map.map(direction, input, context, mode),
        }
    }

    /// By the ranges of the families, of either part.
    fn image(&self, latent: &Support) -> Option<Support> {
        self.box_of(Direction::Forward, latent)
    }

    fn preimage(&self, data: &Support) -> Option<Support> {
        self.box_of(Direction::Inverse, data)
    }

    fn structure(&self) -> Structure {
        let node = Structure::new("Coupling", self.details.clone());
        match &self.kind {
            Kind::Coupled(Coupled { network, kept_map, univariate, .. }) => {
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

    /// A network that does not say its widths.
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
