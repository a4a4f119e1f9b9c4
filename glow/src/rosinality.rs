//! PyTorch models in the layout of rosinality/glow-pytorch.
//!
//! Names there, and the corresponding tensors here (block I is level I, flow K is step K from the data on):
//!
//! | there | here |
//! |---|---|
//! | `actnorm.loc`, `.scale` | `shift`, `ln abs(scale)`; a negative sign is moved to the column of the next convolution |
//! | `invconv.weight` | the same matrix |
//! | `invconv.w_p`, `.s_sign`; `.w_l`, `.w_u`, `.w_s` | `permutation`, `sign`; the off-diagonal entries, `log_scale` |
//! | `coupling.net.0`, `.2`, `.4.conv`, `.4.scale` | convolutions 0, 1, 2 and the `log_scale` of the last |
//! | `prior.conv`, `prior.scale` | the split prior, and the top prior of the last block |

use crate::{CouplingKind, Glow, GlowConfig, Mixing};
use candle_core::{DType, Device, Tensor};
use flows_core::files::read_torch;
use flows_core::{Error, Result};
use std::collections::HashMap;
use std::path::Path;

/// Reads a state dict: a PyTorch file `.pt` (or `.pth`, `.model`), or safetensors.
///
/// # Errors
/// When the file is missing or holds no named tensors.
pub fn read_state_dict(path: &Path) -> Result<HashMap<String, Tensor>> {
    if !path.is_file() {
        return Err(Error::file(path, "does not exist; give a .pt or .safetensors file"));
    }
    let safetensors = path.extension().is_some_and(|extension| extension == "safetensors");
    let tensors: HashMap<String, Tensor> = match safetensors {
        true => candle_core::safetensors::load(path, &Device::Cpu).map_err(|e| {
            let e = e.to_string();
            let why = e.lines().next().unwrap_or_default();
            Error::file(path, format!("is no file of safetensors that can be read ({why}); save the state dict again"))
        })?,
        false => read_torch(path)?,
    };
    if tensors.is_empty() {
        return Err(Error::file(path, "holds no tensors; save the state dict: torch.save(model.state_dict(), path)"));
    }
    Ok(tensors)
}

/// The tensors of a state dict, each of which is taken once.
struct State(HashMap<String, Tensor>);

impl State {
    fn new(tensors: HashMap<String, Tensor>) -> Self {
        let bare = |name: String| name.strip_prefix("module.").map(str::to_string).unwrap_or(name);
        Self(tensors.into_iter().map(|(name, tensor)| (bare(name), tensor)).collect())
    }

    fn dims(&self, name: &str) -> Result<&[usize]> {
        let tensor = self.0.get(name).ok_or_else(|| missing(name))?;
        Ok(tensor.dims())
    }

    fn take(&mut self, name: &str) -> Result<Tensor> {
        self.0.remove(name).ok_or_else(|| missing(name))
    }

    /// Values in f64, row by row.
    fn values(&mut self, name: &str) -> Result<Vec<f64>> {
        Ok(self.take(name)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
    }

    /// The number of consecutive indices under a prefix: `blocks.0.`, `blocks.1.`, ...
    fn count(&self, prefix: &str) -> usize {
        (0..).take_while(|i| self.0.keys().any(|name| name.starts_with(&format!("{prefix}{i}.")))).count()
    }

    fn config(&self, side: [usize; 2], bits: u32) -> Result<GlowConfig> {
        let levels = self.count("blocks.");
        let channels = self.dims("blocks.0.flows.0.actnorm.loc")?.iter().product::<usize>();
        let outputs = self.dims("blocks.0.flows.0.coupling.net.4.conv.bias")?.iter().product::<usize>();
        let mixing = |i: usize| match self.0.contains_key(&format!("blocks.{i}.flows.0.invconv.weight")) {
            true => Mixing::Plain,
            false => Mixing::Lu,
        };
        let top = mixing(levels.saturating_sub(1));
        let config = GlowConfig {
            bits,
            levels,
            steps: self.count("blocks.0.flows."),
            hidden: self.dims("blocks.0.flows.0.coupling.net.0.bias")?.iter().product(),
            coupling: if outputs == channels { CouplingKind::Affine } else { CouplingKind::Additive },
            mixing: mixing(0),
            top_mixing: Some(top).filter(|top| *top != mixing(0)),
            ..GlowConfig::new([channels / 4, side[0], side[1]])
        };
        config.check()?;
        Ok(config)
    }
}

fn missing(name: &str) -> Error {
    Error::Data(format!("the state dict has no `{name}`: it is not in the layout of rosinality/glow-pytorch"))
}

/// The model of a state dict in the layout of rosinality/glow-pytorch, in f32, for images of `side` (height,
/// width) with `bits` bits per value, neither of which a state dict contains.
///
/// # Errors
/// When a tensor is missing, unexpected or has another shape.
pub fn from_state_dict(tensors: HashMap<String, Tensor>, side: [usize; 2], bits: u32, device: &Device) -> Result<Glow> {
    let mut state = State::new(tensors);
    let config = state.config(side, bits)?;
    let mut ours = Vec::new();
    for i in 0..config.levels {
        let (there, here) = (format!("blocks.{i}"), format!("levels.{i}"));
        for k in 0..config.steps {
            let (there, here) = (format!("{there}.flows.{k}"), format!("{here}.{k}"));
            let scale = state.values(&format!("{there}.actnorm.scale"))?;
            if scale.contains(&0.0) {
                return Err(Error::Data(format!("`{there}.actnorm.scale` has a 0, so the flow cannot be inverted")));
            }
            let n = scale.len();
            let initialized = state.take(&format!("{there}.actnorm.initialized"))?.to_dtype(DType::U8)?;
            ours.push((format!("{here}.actnorm.initialized"), initialized.reshape(1)?));
            ours.push((format!("{here}.actnorm.shift"), state.take(&format!("{there}.actnorm.loc"))?.flatten_all()?));
            let logs: Vec<f64> = scale.iter().map(|s| s.abs().ln()).collect();
            ours.push((format!("{here}.actnorm.log_scale"), Tensor::new(logs, &Device::Cpu)?));
            let signs: Vec<f64> = scale.iter().map(|s| s.signum()).collect();
            convolution(&mut state, &there, &here, n, &signs, &mut ours)?;
            for (theirs, own) in [("net.0.", "0."), ("net.2.", "1."), ("net.4.conv.", "2.")] {
                for part in ["weight", "bias"] {
                    let tensor = state.take(&format!("{there}.coupling.{theirs}{part}"))?;
                    ours.push((format!("{here}.coupling.{own}{part}"), tensor));
                }
            }
            let scale = state.take(&format!("{there}.coupling.net.4.scale"))?.flatten_all()?;
            ours.push((format!("{here}.coupling.2.log_scale"), scale));
        }
        for part in ["weight", "bias"] {
            let tensor = state.take(&format!("{there}.prior.conv.{part}"))?;
            ours.push((format!("{here}.prior.{part}"), tensor));
        }
        let scale = state.take(&format!("{there}.prior.scale"))?.flatten_all()?;
        ours.push((format!("{here}.prior.log_scale"), scale));
    }
    if let Some(name) = state.0.keys().min() {
        return Err(Error::Data(format!(
            "`{name}` is not a tensor of a Glow: the file is not in the layout of rosinality/glow-pytorch"
        )));
    }
    Glow::with_tensors(config, DType::F32, device, ours.into_iter().collect())
}

/// Converts the 1x1 convolution of a step, with its columns multiplied by `signs`.
fn convolution(
    state: &mut State,
    there: &str,
    here: &str,
    n: usize,
    signs: &[f64],
    ours: &mut Vec<(String, Tensor)>,
) -> Result<()> {
    let square = |values: &[f64], name: &str| match values.len() == n * n {
        true => Ok(()),
        false => Err(Error::Data(format!("`{there}.invconv.{name}` has {} numbers, not {n} x {n}", values.len()))),
    };
    let mut add = |name: &str, tensor: Tensor| ours.push((format!("{here}.mix.{name}"), tensor));
    let cpu = &Device::Cpu;
    if state.0.contains_key(&format!("{there}.invconv.weight")) {
        let mut weight = state.values(&format!("{there}.invconv.weight"))?;
        square(&weight, "weight")?;
        weight.iter_mut().zip(signs.iter().cycle()).for_each(|(w, s)| *w *= s);
        add("weight", Tensor::from_vec(weight, (n, n), cpu)?);
        return Ok(());
    }
    let mut values = |name: &str| state.values(&format!("{there}.invconv.{name}"));
    let (permutation, lower, upper) = (values("w_p")?, values("w_l")?, values("w_u")?);
    let (logs, sign) = (values("w_s")?, values("s_sign")?);
    for name in ["u_mask", "l_mask", "l_eye"] {
        values(name)?;
    }
    for (name, values) in [("w_p", &permutation), ("w_l", &lower), ("w_u", &upper)] {
        square(values, name)?;
    }
    let below = (0..n).flat_map(|r| (0..r).map(move |c| (r, c)));
    let above = (0..n).flat_map(|r| (r + 1..n).map(move |c| (r, c)));
    let row = |r: usize| permutation[r * n..(r + 1) * n].iter().position(|p| *p == 1.0).unwrap_or(r) as u32;
    let lower: Vec<f64> = below.map(|(r, c)| lower[r * n + c]).collect();
    let upper: Vec<f64> = above.map(|(r, c)| upper[r * n + c] * signs[c]).collect();
    let sign: Vec<f32> = sign.iter().zip(signs).map(|(a, b)| (a * b) as f32).collect();
    add("lower", Tensor::new(lower, cpu)?);
    add("upper", Tensor::new(upper, cpu)?);
    add("log_scale", Tensor::new(logs, cpu)?);
    add("sign", Tensor::new(sign, cpu)?);
    add("permutation", Tensor::new((0..n).map(row).collect::<Vec<u32>>(), cpu)?);
    Ok(())
}

/// The state dict of a model, from which [`from_state_dict`] and rosinality/glow-pytorch restore the same model.
///
/// # Errors
/// When the model has something that the layout cannot represent: classes, conditioning images, equalised values,
/// logits, learnt noise, couplings that are bounded, splines or mixtures, or a different number of steps in the last
/// level.
pub fn state_dict(glow: &Glow) -> Result<Vec<(String, Tensor)>> {
    let config = glow.config();
    let without = [
        ("classes", config.classes.is_some()),
        ("images of lower resolution", config.condition.is_some()),
        ("equalised colours", config.equalize),
        ("logits", config.logit.is_some()),
        ("a dequantizer", config.dequantizer.is_some()),
        ("bounded couplings", config.coupling == CouplingKind::Bounded),
        ("splines", config.coupling == CouplingKind::Spline),
        ("mixtures", config.coupling == CouplingKind::Mixture),
        ("a different number of steps in the last level", config.steps_of(config.levels - 1) != config.steps),
    ];
    if let Some((what, _)) = without.into_iter().find(|(_, has)| *has) {
        let message = format!("the layout of rosinality/glow-pytorch cannot represent a Glow with {what}");
        return Err(Error::Config(message));
    }
    let tensors: HashMap<String, Tensor> = glow.parameters().snapshot()?.into_iter().collect();
    let get = |name: String| {
        let tensor = tensors.get(&name).ok_or_else(|| Error::Config(format!("the model has no `{name}`")))?;
        Result::Ok(tensor.to_device(&Device::Cpu)?)
    };
    let along = |t: Tensor| Ok::<_, Error>(t.reshape((1, (), 1, 1))?);
    let mut theirs = Vec::new();
    for i in 0..config.levels {
        let (there, here) = (format!("blocks.{i}"), format!("levels.{i}"));
        let n = config.level_shape(i)[0];
        for k in 0..config.steps {
            let (there, here) = (format!("{there}.flows.{k}"), format!("{here}.{k}"));
            theirs.push((format!("{there}.actnorm.loc"), along(get(format!("{here}.actnorm.shift"))?)?));
            theirs.push((format!("{there}.actnorm.scale"), along(get(format!("{here}.actnorm.log_scale"))?.exp()?)?));
            let initialized = get(format!("{here}.actnorm.initialized"))?.reshape(())?;
            theirs.push((format!("{there}.actnorm.initialized"), initialized));
            let mix = |name: &str| get(format!("{here}.mix.{name}"));
            for (name, tensor) in invconv(config.mixing_of(i), n, mix)? {
                theirs.push((format!("{there}.invconv.{name}"), tensor));
            }
            for (net, own) in [("net.0.", "0."), ("net.2.", "1."), ("net.4.conv.", "2.")] {
                for part in ["weight", "bias"] {
                    theirs
                        .push((format!("{there}.coupling.{net}{part}"), get(format!("{here}.coupling.{own}{part}"))?));
                }
            }
            theirs
                .push((format!("{there}.coupling.net.4.scale"), along(get(format!("{here}.coupling.2.log_scale"))?)?));
        }
        for part in ["weight", "bias"] {
            theirs.push((format!("{there}.prior.conv.{part}"), get(format!("{here}.prior.{part}"))?));
        }
        theirs.push((format!("{there}.prior.scale"), along(get(format!("{here}.prior.log_scale"))?)?));
    }
    Ok(theirs)
}

/// The tensors of a 1x1 convolution in that layout.
fn invconv(mixing: Mixing, n: usize, get: impl Fn(&str) -> Result<Tensor>) -> Result<Vec<(&'static str, Tensor)>> {
    let cpu = &Device::Cpu;
    let numbers = |name: &str| Ok::<_, Error>(get(name)?.to_dtype(DType::F64)?.to_vec1::<f64>()?);
    let square = |f: &dyn Fn(usize, usize) -> f64| {
        let values = (0..n * n).map(|i| f(i / n, i % n) as f32);
        Ok::<_, Error>(Tensor::from_vec(values.collect::<Vec<_>>(), (n, n), cpu)?)
    };
    let flag = |holds: bool| f64::from(u8::from(holds));
    match mixing {
        Mixing::Plain => Ok(vec![("weight", get("weight")?.reshape((n, n, 1, 1))?)]),
        Mixing::Shuffle | Mixing::Reverse => {
            let order = get("permutation")?.to_vec1::<u32>()?;
            let weight = square(&|r, c| flag(order[r] as usize == c))?;
            Ok(vec![("weight", weight.reshape((n, n, 1, 1))?)])
        }
        Mixing::Lu => {
            let order = get("permutation")?.to_vec1::<u32>()?;
            let (lower, upper) = (numbers("lower")?, numbers("upper")?);
            // The off-diagonal entries, row by row.
            let below = |r: usize, c: usize| lower[r * r.saturating_sub(1) / 2 + c];
            let above = |r: usize, c: usize| upper[r * n - r * (r + 1) / 2 + c - r - 1];
            Ok(vec![
                ("w_p", square(&|r, c| flag(order[r] as usize == c))?),
                ("w_l", square(&|r, c| if c < r { below(r, c) } else { 0.0 })?),
                ("w_u", square(&|r, c| if c > r { above(r, c) } else { 0.0 })?),
                ("w_s", get("log_scale")?),
                ("s_sign", get("sign")?),
                ("l_mask", square(&|r, c| flag(c < r))?),
                ("u_mask", square(&|r, c| flag(c > r))?),
                ("l_eye", square(&|r, c| flag(c == r))?),
            ])
        }
    }
}
