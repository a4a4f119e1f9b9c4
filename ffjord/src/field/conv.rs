//! A convolutional network as a vector field over images.

use super::conv_activation::{Given, activate};
use super::{Activation, Dual, TimeLayer, VectorField};
use candle_core::Tensor;
use flows_core::nn::{Init, Scope};
use flows_core::ops::Fused;
use flows_core::{Error, Result, Structure, ops};
use serde::{Deserialize, Serialize};

/// Which convolutional network a field is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConvConfig {
    /// Channels, height and width of the images, which a model of images fills in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<[usize; 3]>,
    /// Channels of the hidden layers.
    pub hidden: Vec<usize>,
    /// The stride of each layer, one more than there are hidden ones: 1 keeps the size (kernel 3), 2 halves it
    /// (kernel 4), -2 doubles it (transposed, kernel 4). All 1 if empty.
    pub strides: Vec<i32>,
    /// How the layers see time: [`TimeLayer::Concat`] as a constant channel.
    pub layer: TimeLayer,
    /// The activation after all layers but the last.
    pub activation: Activation,
    /// Whether what goes into a layer of stride 2, the images themselves aside, is added to what the layer
    /// of stride -2 gives that undoes it (Ronneberger et al. 2015).
    pub skips: bool,
    /// Whether `(p + q t) z` is added to what the layers give, p and q learnt. They start at -1 and 2: so at both
    /// ends the velocity of standardized data that go straight to noise in a time of 1 is right on average.
    pub linear: bool,
}

impl Default for ConvConfig {
    fn default() -> Self {
        Self {
            shape: None,
            hidden: vec![64, 64, 64],
            strides: Vec::new(),
            layer: TimeLayer::Concat,
            activation: Activation::Softplus,
            skips: false,
            linear: false,
        }
    }
}

/// `f(t, z)` for images z (C, H, W) as vectors of D = C H W numbers: convolutions that see time as
/// [`TimeLayer`] says, and a smooth activation between them (Grathwohl et al. 2019, appendix B).
#[derive(Clone, Debug)]
pub struct ConvField {
    shape: [usize; 3],
    config: ConvConfig,
    layers: Vec<Layer>,
    /// p and q.
    linear: Option<Tensor>,
}

#[derive(Clone, Debug)]
struct Layer {
    stride: Stride,
    /// (C, H, W) of its inputs.
    inputs: [usize; 3],
    skip: Skip,
    weight: Tensor,
    bias: Tensor,
    /// Weights of the constant channel of a concat layer, h of a concat-squash layer.
    shift: Option<Tensor>,
    /// g and c of a concat-squash layer.
    gate: Option<[Tensor; 2]>,
    /// Of the activation behind it, (1).
    beta: Option<Tensor>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stride {
    Keeps,
    Halves,
    Doubles,
}

/// What a layer does for skips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skip {
    Nothing,
    /// Its inputs are kept.
    Keeps,
    /// What was kept last is added to its outputs.
    Adds,
}

impl Stride {
    fn of(stride: i32) -> Result<Self> {
        match stride {
            1 => Ok(Self::Keeps),
            2 => Ok(Self::Halves),
            -2 => Ok(Self::Doubles),
            _ => Err(Error::Config(format!("a layer has no stride {stride}: give 1, 2 or -2"))),
        }
    }

    fn kernel(self) -> usize {
        if self == Self::Keeps { 3 } else { 4 }
    }

    /// The shape of weights between so many channels.
    fn weights(self, inputs: usize, outputs: usize) -> [usize; 4] {
        let k = self.kernel();
        if self == Self::Doubles { [inputs, outputs, k, k] } else { [outputs, inputs, k, k] }
    }

    /// Numbers that an output depends on, for each input channel.
    fn taps(self) -> usize {
        if self == Self::Doubles { 4 } else { self.kernel().pow(2) }
    }

    fn convolve(self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match self {
            Self::Keeps => ops::conv2d(x, weight, bias, 1, 1, Fused::Identity),
            Self::Halves => ops::conv2d(x, weight, bias, 2, 1, Fused::Identity),
            Self::Doubles => ops::conv_transpose2d(x, weight, bias, 2, 1),
        }
    }
}

impl ConvField {
    /// A field over images of `shape` (C, H, W), all weights uniform within one over the root of the numbers
    /// that an output depends on.
    ///
    /// # Errors
    /// When a size is 0, the strides do not fit the layers or the images, or names are taken in `scope`.
    pub fn new(shape: [usize; 3], config: &ConvConfig, scope: &Scope) -> Result<Self> {
        let bad = |message: String| Err(Error::Config(message));
        let channels = [&shape[..1], &config.hidden[..], &shape[..1]].concat();
        if shape.contains(&0) || channels.contains(&0) {
            return bad(
                "a field over images needs a size of at least 1 on every side, and no layer of 0 channels".into()
            );
        }
        let count = channels.len() - 1;
        let ones = vec![1; count];
        let strides = if config.strides.is_empty() { &ones } else { &config.strides };
        if strides.len() != count {
            return bad(format!("{} strides for {count} layers: give one for each, or none", strides.len()));
        }
        let [_, mut height, mut width] = shape;
        // The inputs of the layers of stride 2 that are not undone yet: their channels and size, and the layer.
        let mut open: Vec<([usize; 3], usize)> = Vec::new();
        let mut layers: Vec<Layer> = Vec::with_capacity(count);
        for (i, (stride, c)) in strides.iter().zip(channels.windows(2)).enumerate() {
            let (stride, inputs, outputs) = (Stride::of(*stride)?, [c[0], height, width], c[1]);
            let mut skip = Skip::Nothing;
            match stride {
                Stride::Keeps => {}
                Stride::Halves if height % 2 == 0 && width % 2 == 0 => {
                    open.push((inputs, i));
                    (height, width) = (height / 2, width / 2);
                }
                Stride::Halves => {
                    return bad(format!("{height} x {width} places cannot be halved: use fewer strides of 2"));
                }
                Stride::Doubles => {
                    (height, width) = (2 * height, 2 * width);
                    if let Some((before, from)) = open.pop()
                        && config.skips
                        && from > 0
                    {
                        if before != [outputs, height, width] {
                            let got = [outputs, height, width];
                            return bad(format!("a skip of {before:?} meets {got:?}: mirror the channels in `hidden`"));
                        }
                        (layers[from].skip, skip) = (Skip::Keeps, Skip::Adds);
                    }
                }
            }
            let beta = config.activation.is_learnt() && i + 1 < count;
            layers.push(Layer::new(stride, inputs, outputs, (config.layer, beta), skip, &scope.enter(i))?);
        }
        if [height, width] != shape[1..] {
            return bad(format!("the layers turn {shape:?} to {height} x {width}: undo each stride of 2 by one of -2"));
        }
        let linear = config.linear.then(|| scope.weight("linear", 2, Init::Values(vec![-1.0, 2.0]))).transpose()?;
        Ok(Self { shape, config: config.clone(), layers, linear })
    }

    /// The field over `dim` numbers, which must be those of the images that the config names.
    ///
    /// # Errors
    /// As [`Self::new`], or when the numbers are others or there is to be a context.
    pub(super) fn of_numbers(dim: usize, context: Option<usize>, config: &ConvConfig, scope: &Scope) -> Result<Self> {
        let Some(shape) = config.shape.filter(|shape| shape.iter().product::<usize>() == dim) else {
            let message =
                format!("a field over images of {dim} colours needs their `shape`: give channels, height and width");
            return Err(Error::Config(message));
        };
        if context.is_some() {
            return Err(Error::Config("a field over images takes no context: leave it out".into()));
        }
        Self::new(shape, config, scope)
    }
}

impl VectorField for ConvField {
    fn dim(&self) -> usize {
        self.shape.iter().product()
    }

    fn reach(&self) -> f64 {
        if self.config.activation.is_bounded() && self.linear.is_none() { f64::INFINITY } else { 1e12 }
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.layers.iter().flat_map(Layer::tensors).chain(&self.linear).cloned().collect()
    }

    /// Values and tangents lie one below the other, so that there is one convolution a layer.
    fn evaluate(&self, weights: &[Tensor], t: &Tensor, z: &Dual, _: Option<&Tensor>) -> Result<Dual> {
        let (z, tangents) = (z.value(), z.tangents());
        let (rows, dim) = z.dims2()?;
        let count = tangents.map_or(Ok(0), |tangents| tangents.dim(0))?;
        let [channels, height, width] = self.shape;
        let stacked = match tangents {
            Some(tangents) => Tensor::cat(&[z, &tangents.reshape((count * rows, dim))?], 0)?,
            None => z.clone(),
        };
        let mut h = stacked.reshape(((1 + count) * rows, channels, height, width))?;
        let (mut kept, mut weights) = (Vec::new(), weights);
        let whole = h.clone();
        for (l, layer) in self.layers.iter().enumerate() {
            let (own, rest) = weights.split_at(layer.tensors().count());
            weights = rest;
            let (weight, given) = layer.at(own, t)?;
            let u = layer.stride.convolve(&h, weight, None)?;
            if layer.skip == Skip::Keeps {
                kept.push(h);
            }
            let mut skip = if layer.skip == Skip::Adds { kept.pop() } else { None };
            let activation = (l + 1 < self.layers.len()).then_some(self.config.activation);
            if let ([linear], None) = (weights, activation) {
                let scale = (linear.narrow(0, 1, 1)?.broadcast_mul(t)? + linear.narrow(0, 0, 1)?)?;
                let linear = whole.broadcast_mul(&scale)?;
                skip = Some(if let Some(skip) = skip { (skip + linear)? } else { linear });
            }
            h = activate(&u, rows, activation, Given { skip, ..given })?;
        }
        let h = h.reshape(((1 + count) * rows, dim))?;
        if count == 0 {
            return Dual::new(h, None);
        }
        let products = h.narrow(0, rows, count * rows)?.reshape((count, rows, dim))?;
        Dual::new(h.narrow(0, 0, rows)?, Some(products))
    }

    fn structure(&self) -> Structure {
        let ConvConfig { hidden, strides, layer, activation, skips, linear, .. } = &self.config;
        let strides = if strides.is_empty() { String::new() } else { format!(", strides {strides:?}") };
        let skips = if *skips { ", skips" } else { "" };
        let linear = if *linear { ", linear part" } else { "" };
        let details = format!("{:?} -> {hidden:?}{strides}, {layer:?}, {activation}{skips}{linear}", self.shape);
        Structure::new("ConvField", details).weights(self.layers.iter().flat_map(Layer::tensors).chain(&self.linear))
    }
}

impl Layer {
    fn new(
        stride: Stride,
        inputs: [usize; 3],
        outputs: usize,
        (layer, beta): (TimeLayer, bool),
        skip: Skip,
        scope: &Scope,
    ) -> Result<Self> {
        let init = Init::fan_in(inputs[0] * stride.taps(), 1.0);
        let weight = scope.weight("weight", &stride.weights(inputs[0], outputs), init.clone())?;
        let bias = scope.weight("bias", outputs, init.clone())?;
        let of_time = |name| scope.weight(name, outputs, Init::fan_in(1, 1.0));
        let (shift, gate) = match layer {
            TimeLayer::Ignore => (None, None),
            TimeLayer::Concat => (Some(scope.weight("shift", &stride.weights(1, outputs), init)?), None),
            TimeLayer::ConcatSquash => (Some(of_time("shift")?), Some([of_time("gate")?, of_time("gate_bias")?])),
        };
        let beta = beta.then(|| scope.weight("beta", 1, Init::Constant(1.0))).transpose()?;
        Ok(Self { stride, inputs, skip, weight, bias, shift, gate, beta })
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let gate = self.gate.iter().flatten();
        [&self.weight, &self.bias].into_iter().chain(&self.shift).chain(gate).chain(&self.beta)
    }

    /// The weight, and what the activation is given at time t, a skip aside.
    fn at<'a>(&self, own: &'a [Tensor], t: &Tensor) -> Result<(&'a Tensor, Given)> {
        let (beta, own) = match own.split_last() {
            Some((beta, own)) if self.beta.is_some() => (Some(beta.clone()), own),
            _ => (None, own),
        };
        let given = |shift, gate| Given { shift, gate, beta: beta.clone(), skip: None };
        Ok(match own {
            [weight, bias] => (weight, given(bias.clone(), None)),
            // The constant channel is seen through the same padding as the others.
            [weight, bias, shift] => {
                let [_, height, width] = self.inputs;
                let channel = t.reshape((1, 1, 1, 1))?.broadcast_as((1, 1, height, width))?;
                (weight, given(self.stride.convolve(&channel, shift, Some(bias))?.squeeze(0)?, None))
            }
            [weight, bias, shift, gate, gate_bias] => {
                let gate = ops::sigmoid(&(gate.broadcast_mul(t)? + gate_bias)?)?;
                let shift = ((bias * &gate)? + shift.broadcast_mul(t)?)?;
                (weight, given(shift, Some(gate)))
            }
            _ => return Err(Error::Config("a layer was given other weights than its own".into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};
    use flows_core::Rng;
    use flows_core::nn::Parameters;
    use flows_core::testing::{difference, gradient_difference, perturb};

    /// Fields of all kinds of layers, with what they are called.
    fn fields() -> Vec<(String, [usize; 3], ConvConfig)> {
        let plain = |layer, activation| ConvConfig { hidden: vec![5, 4], layer, activation, ..ConvConfig::default() };
        let mut fields = Vec::new();
        for layer in [TimeLayer::Ignore, TimeLayer::Concat, TimeLayer::ConcatSquash] {
            for activation in [Activation::Softplus, Activation::Swish] {
                fields.push((format!("{layer:?} {activation}"), [2, 3, 4], plain(layer, activation)));
            }
            let (hidden, strides) = (vec![3, 4, 4, 5, 4, 3], vec![2, 1, 2, 1, -2, 1, -2]);
            let config = ConvConfig { hidden, strides, skips: true, linear: true, ..plain(layer, Activation::Silu) };
            fields.push((format!("{layer:?} with strides"), [1, 4, 8], config));
        }
        fields
    }

    #[test]
    fn fields_are_differentiated_exactly() -> Result<()> {
        let mut rng = Rng::seed(0);
        for (name, shape, config) in fields() {
            let parameters = Parameters::new(DType::F64, &Device::Cpu, rng.fork());
            let field = ConvField::new(shape, &config, &parameters.scope())?;
            perturb(&parameters, 0.2, &mut rng)?;
            assert_eq!(field.structure().total(), parameters.count(), "{name}");
            let (rows, dim) = (3, field.dim());
            let tensor = |shape: &[usize], rng: &mut Rng| rng.normal_tensor(shape, DType::F64, &Device::Cpu);
            let z = Var::from_tensor(&tensor(&[rows, dim], &mut rng)?)?;
            let (t, tangents) = (Var::new(0.7, &Device::Cpu)?, tensor(&[2, rows, dim], &mut rng)?);
            let (of_value, of_products) = (tensor(&[rows, dim], &mut rng)?, tensor(&[2, rows, dim], &mut rng)?);
            let run = |z: &Tensor, tangents: Option<&Tensor>| {
                field.evaluate(&field.tensors(), &t, &Dual::new(z.clone(), tangents.cloned())?, None)
            };
            let found = run(&z, Some(&tangents))?;
            let products = found.tangents().expect("products");
            assert!(difference(found.value(), run(&z, None)?.value())? < 1e-13, "{name}");
            for k in 0..2 {
                let at = |h: f64| {
                    let z = (z.as_tensor() + (tangents.get(k)? * h)?)?;
                    Ok::<_, Error>(run(&z, None)?.value().clone())
                };
                let central = ((at(1e-5)? - at(-1e-5)?)? / 2e-5)?;
                assert!(difference(&central, &products.get(k)?)? < 1e-8, "{name}");
            }
            let loss = || {
                let found = run(&z, Some(&tangents))?;
                let products = found.tangents().expect("products");
                Ok(((found.value() * &of_value)?.sum_all()? + (products * &of_products)?.sum_all()?)?)
            };
            let ignored = config.layer == TimeLayer::Ignore && !config.linear;
            let inputs = [("z", &z), ("t", &t)];
            let d = gradient_difference(loss, &parameters, &inputs[..2 - usize::from(ignored)], &mut Rng::seed(1))?;
            assert!(d < 1e-8, "{name}: {d}");
        }
        Ok(())
    }

    /// A layer with a constant channel is a convolution with one channel more.
    #[test]
    fn time_is_a_channel() -> Result<()> {
        let mut rng = Rng::seed(0);
        for stride in [1, 2, -2] {
            let parameters = Parameters::new(DType::F64, &Device::Cpu, rng.fork());
            let stride = Stride::of(stride)?;
            let layer =
                Layer::new(stride, [2, 4, 6], 3, (TimeLayer::Concat, false), Skip::Nothing, &parameters.scope())?;
            let x = rng.normal_tensor((2, 2, 4, 6), DType::F64, &Device::Cpu)?;
            let t = Tensor::new(0.3, &Device::Cpu)?;
            let own: Vec<Tensor> = layer.tensors().cloned().collect();
            let (weight, Given { shift, .. }) = layer.at(&own, &t)?;
            let got = stride.convolve(&x, weight, None)?.broadcast_add(&shift.unsqueeze(0)?)?;
            let with_time = Tensor::cat(&[t.broadcast_as((2, 1, 4, 6))?, x], 1)?;
            let axis = if stride == Stride::Doubles { 0 } else { 1 };
            let whole = Tensor::cat(&[&own[2], weight], axis)?;
            assert!(difference(&stride.convolve(&with_time, &whole, Some(&own[1]))?, &got)? < 1e-13);
        }
        Ok(())
    }

    #[test]
    fn layers_that_do_not_fit_are_errors() -> Result<()> {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        let mut count = 0;
        let mut build = |shape, hidden: &[usize], strides: &[i32], skips| {
            count += 1;
            let (hidden, strides) = (hidden.to_vec(), strides.to_vec());
            let config = ConvConfig { hidden, strides, skips, ..ConvConfig::default() };
            ConvField::new(shape, &config, &parameters.scope().enter(count))
        };
        assert!(build([1, 4, 4], &[3, 3], &[2, 1, -2], true).is_ok());
        for (shape, hidden, strides, skips) in [
            ([0, 4, 4], &[3, 3][..], &[][..], false),
            ([1, 4, 4], &[3, 0], &[], false),
            ([1, 4, 4], &[3, 3], &[1, 1], false),
            ([1, 4, 4], &[3, 3], &[1, 3, 1], false),
            ([1, 4, 4], &[3, 3], &[2, 1, 1], false),
            ([1, 4, 5], &[3, 3], &[2, 1, -2], false),
            ([1, 4, 4], &[3, 4, 5, 6], &[1, 2, 1, -2, 1], true),
        ] {
            assert!(build(shape, hidden, strides, skips).is_err(), "{shape:?} {hidden:?} {strides:?}");
        }
        Ok(())
    }
}
