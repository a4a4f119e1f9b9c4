//! WaveGlow models as others have published them.
//!
//! | there | here |
//! |---|---|
//! | `upsample` | `upsample` |
//! | `convinv.k.conv.weight` (C, C, 1) | `flows.k.mixing.weight` (C, C) |
//! | `WN.k.start`, `.end` | `flows.k.coupling.start`, `.end` |
//! | `WN.k.cond_layer` | `flows.k.coupling.condition` |
//! | `WN.k.in_layers.i`, `.res_skip_layers.i` | `flows.k.coupling.dilated.i`, `.outputs.i` |
//! | `weight_g` (O, 1, 1) | `weight_g` (O) |

mod layout;
mod settings;

use crate::config::{Architecture, AudioFlowConfig, WaveGlowConfig};
use crate::flow::leaving_order;
use crate::wavenet::WaveNetConfig;
use crate::{AudioFlow, audio::AudioConfig};
use candle_core::{DType, Device, Tensor};
use flows_core::data::read_table;
use flows_core::files::Checkpoint;
use flows_core::{Error, Result, ops};
use layout::StateDict;
pub use settings::from_json;
use std::collections::HashMap;
use std::path::Path;

/// The model of a WaveGlow's state dict in any of the published layouts, in f32. Its sizes are those of the tensors; the
/// rate and the frames, which no tensor tells, are those of `audio`.
///
/// `alternate` says that the first half of the channels moves in every second flow, as in checkpoints of the class
/// `glow_old.WaveGlow`.
///
/// # Errors
/// When a tensor is missing, unexpected, not finite or of another shape, or a 1x1 convolution is singular.
pub fn from_state_dict(
    tensors: HashMap<String, Tensor>,
    audio: &AudioConfig,
    alternate: bool,
    device: &Device,
) -> Result<AudioFlow> {
    for (name, other) in OTHERS {
        if tensors.keys().any(|key| key.ends_with(name)) {
            return Err(Error::Data(format!("the checkpoint is that of a {other}, but only WaveGlow is known")));
        }
    }
    let mut state = StateDict::of_waveglow(tensors)?;
    let config = config(&state, audio, alternate)?;
    let Architecture::WaveGlow(settings) = &config.architecture else {
        return Err(Error::Internal("a state dict of a WaveGlow gave another architecture".into()));
    };
    let mut ours: HashMap<String, Tensor> = HashMap::new();
    for (there, here) in layers(settings) {
        for part in parts(&there, config.weight_norm) {
            let tensor = state.take(&format!("{there}.{part}"))?;
            let tensor = if *part == "weight_g" { tensor.flatten_all()? } else { tensor };
            ours.insert(format!("{here}.{part}"), tensor);
        }
    }
    for k in 0..settings.flows {
        let name = format!("convinv.{k}.conv.weight");
        let [rows, columns, _] = state.dims::<3>(&name)?;
        let matrix = state.take(&name)?.reshape((rows, columns))?;
        let singular = rows != columns || {
            let log_det = ops::log_abs_det(&matrix.to_dtype(DType::F64)?)?.to_scalar::<f64>()?;
            !log_det.is_finite()
        };
        if singular {
            return Err(Error::Data(format!("`{name}` is singular, so that the flow has no inverse")));
        }
        ours.insert(format!("flows.{k}.mixing.weight"), matrix);
    }
    for (level, channels) in leaving_levels(settings) {
        let order = leaving_order(channels, settings.early_size);
        ours.insert(format!("leave.{level}.permutation"), Tensor::from_vec(order, channels, &Device::Cpu)?);
    }
    state.check_empty()?;
    let names = layers(settings);
    AudioFlow::with_tensors(config.clone(), DType::F32, device, ours).map_err(|e| match e {
        // In the names of the checkpoint.
        Error::Data(_) | Error::Config(_) | Error::Shape { .. } => {
            let message = names.iter().fold(e.to_string(), |message, (there, here)| {
                message.replace(&format!("`{here}."), &format!("`{there}."))
            });
            Error::Data(message)
        }
        other => other,
    })
}

/// The state dict of a WaveGlow in the layout of NVIDIA's code since September 2019.
///
/// # Errors
/// When the model is of another architecture.
pub fn state_dict(model: &AudioFlow) -> Result<HashMap<String, Tensor>> {
    let Architecture::WaveGlow(settings) = &model.config().architecture else {
        return Err(Error::Config("only a WaveGlow has a published layout".into()));
    };
    if settings.alternate {
        let message = "a WaveGlow whose flows alternate between the halves of channels, as the first one published, has no \
                       such layout: the code of today cannot run it";
        return Err(Error::Config(message.into()));
    }
    let tensors: HashMap<String, Tensor> = model.parameters().snapshot()?.into_iter().collect();
    let take = |name: &str| {
        tensors.get(name).cloned().ok_or_else(|| Error::Internal(format!("a WaveGlow without a tensor `{name}`")))
    };
    let mut theirs = HashMap::new();
    for (there, here) in layers(settings) {
        for part in parts(&there, model.config().weight_norm) {
            let tensor = take(&format!("{here}.{part}"))?;
            let tensor = if *part == "weight_g" { tensor.reshape(((), 1, 1))? } else { tensor };
            theirs.insert(format!("{there}.{part}"), tensor);
        }
    }
    for k in 0..settings.flows {
        let matrix = take(&format!("flows.{k}.mixing.weight"))?.unsqueeze(2)?;
        theirs.insert(format!("convinv.{k}.conv.weight"), matrix);
    }
    Ok(theirs)
}

/// The model with its weights as they are, without normalization: the same signals to the bit, in less time.
///
/// # Errors
/// When the device fails.
pub fn without_weight_norm(model: &AudioFlow) -> Result<AudioFlow> {
    let mut tensors: HashMap<String, Tensor> = model.parameters().snapshot()?.into_iter().collect();
    let layers: Vec<String> =
        tensors.keys().filter_map(|name| Some(name.strip_suffix(".weight_g")?.to_owned())).collect();
    for layer in layers {
        let part = |tensors: &mut HashMap<String, Tensor>, part: &str| {
            let name = format!("{layer}.{part}");
            tensors.remove(&name).ok_or_else(|| Error::Internal(format!("a normalized weight without `{name}`")))
        };
        let (v, g) = (part(&mut tensors, "weight_v")?, part(&mut tensors, "weight_g")?);
        tensors.insert(format!("{layer}.weight"), ops::weight_norm(&v, &g)?);
    }
    let config = AudioFlowConfig { weight_norm: false, ..model.config().clone() };
    AudioFlow::with_tensors(config, model.parameters().dtype(), model.parameters().device(), tensors)
}

/// The layers but the 1x1 convolutions between the channels, there and here.
fn layers(settings: &WaveGlowConfig) -> Vec<(String, String)> {
    let mut layers = vec![("upsample".to_owned(), "upsample".to_owned())];
    for k in 0..settings.flows {
        let (there, here) = (format!("WN.{k}"), format!("flows.{k}.coupling"));
        let mut layer = |a: String, b: String| layers.push((format!("{there}.{a}"), format!("{here}.{b}")));
        layer("start".into(), "start".into());
        layer("cond_layer".into(), "condition".into());
        for i in 0..settings.network.layers {
            layer(format!("in_layers.{i}"), format!("dilated.{i}"));
            layer(format!("res_skip_layers.{i}"), format!("outputs.{i}"));
        }
        layer("end".into(), "end".into());
    }
    layers
}

/// The tensors of a layer by its name there: the first and the last have no normalized weights.
fn parts(there: &str, normalized: bool) -> &'static [&'static str] {
    match normalized && there != "upsample" && !there.ends_with(".end") {
        true => &["weight_v", "weight_g", "bias"],
        false => &["weight", "bias"],
    }
}

/// The levels from which channels leave, and their channels.
fn leaving_levels(settings: &WaveGlowConfig) -> Vec<(usize, usize)> {
    let channels = settings.channels();
    let levels = channels.chunks(settings.early_every).map(|level| level[0]).collect::<Vec<_>>();
    levels.iter().copied().enumerate().take(levels.len().saturating_sub(1)).collect()
}

/// Tensors that only other models have.
const OTHERS: [(&str, &str); 5] = [
    ("WN.0.in_layers.0.0.weight", "SqueezeWave"),
    ("WN.0.in_layers.0.1.weight", "SqueezeWave"),
    ("flows.0.coupling.net.front_conv.0.conv.weight_v", "WaveFlow"),
    ("upsample_conv.0.weight_v", "WaveFlow"),
    ("encoder.0.weight_v", "WaveFlow"),
];

/// The config of a state dict, by the shapes of its tensors.
fn config(state: &StateDict, audio: &AudioConfig, alternate: bool) -> Result<AudioFlowConfig> {
    let flows = state.count("convinv.");
    let [bands, _, fft] = state.dims::<3>("upsample.weight")?;
    let channels: Vec<usize> =
        (0..flows).map(|k| Ok(state.dims::<3>(&format!("convinv.{k}.conv.weight"))?[0])).collect::<Result<_>>()?;
    let [group, ..] = channels[..] else {
        return Err(Error::Data("the checkpoint has no `convinv.0.conv.weight`: it is no WaveGlow".into()));
    };
    let early = channels.iter().position(|c| *c != group);
    let weight_norm = state.has("WN.0.start.weight_v");
    let weight = |name: &str| format!("{name}.{}", if weight_norm { "weight_v" } else { "weight" });
    let [width, _, kernel] = state.dims::<3>(&weight("WN.0.in_layers.0"))?;
    let settings = WaveGlowConfig {
        flows,
        group,
        early_every: early.unwrap_or(flows),
        early_size: early.map_or(1, |k| group.saturating_sub(channels[k])),
        alternate,
        network: WaveNetConfig { layers: state.count("WN.0.in_layers."), channels: width / 2, kernel },
    };
    if settings.early_size == 0 || settings.channels() != channels {
        return Err(Error::Data(format!("flows over {channels:?} channels are not those of a WaveGlow")));
    }
    let audio = AudioConfig { bands, fft, window: audio.window.min(fft), ..audio.clone() };
    let samples = audio.hop.max(1) * group;
    let config = AudioFlowConfig { audio, samples, architecture: Architecture::WaveGlow(settings), weight_norm };
    config.check()?;
    Ok(config)
}

/// A model of ours, or a WaveGlow that others have published: NVIDIA's checkpoints of all generations, those of torch hub
/// and of NeMo, and state dicts, in PyTorch's formats or safetensors. Of the settings `audio` those are taken that no
/// tensor tells.
///
/// # Errors
/// When the file is missing, damaged or of another model.
pub fn load(path: &Path, audio: &AudioConfig, device: &Device) -> Result<AudioFlow> {
    if !path.exists() {
        return Err(Error::file(path, "does not exist; give the folder of a run, a model.safetensors or a checkpoint"));
    }
    let checkpoint = Checkpoint::open(path)?;
    if checkpoint.metadata().contains_key("kind") {
        return AudioFlow::load(path, device);
    }
    let state = checkpoint.state_dict()?;
    let class = state.class().unwrap_or("glow.WaveGlow");
    let alternate = match class {
        "glow.WaveGlow" => false,
        "glow_old.WaveGlow" => true,
        other => {
            return Err(Error::file(path, format!("holds a module of the class `{other}`, not a `glow.WaveGlow`")));
        }
    };
    let model = from_state_dict(state.read_tensors()?, audio, alternate, device);
    model.map_err(|e| match e {
        Error::Data(message) | Error::Config(message) => Error::file(path, message),
        other => Error::file(path, other),
    })
}

/// The one tensor in a file of NumPy, PyTorch or safetensors.
///
/// # Errors
/// When the file cannot be read or has several tensors.
pub fn read_spectrogram(path: &Path) -> Result<Tensor> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    let tensors: HashMap<String, Tensor> = match ending.as_str() {
        "npy" => {
            let alone = |e: Error| match e.to_string() {
                text if text.contains("dimensions") => {
                    Error::file(path, "has not two dimensions; save the spectrogram alone: np.save(path, mel[0])")
                }
                _ => e,
            };
            return Ok(read_table(path).map_err(alone)?.data);
        }
        // A tensor that was saved alone is the root.
        _ => {
            let checkpoint = Checkpoint::open(path)?;
            if let Some(mel) = checkpoint.root().tensor() {
                return mel.read();
            }
            checkpoint.root().read_tensors()?
        }
    };
    let count = tensors.len();
    let named = tensors.get("mel").cloned();
    match (named, tensors.into_values().next()) {
        (Some(mel), _) => Ok(mel),
        (None, Some(mel)) if count == 1 => Ok(mel),
        _ => Err(Error::file(path, format!("has {count} tensors, none of them `mel`: save the spectrogram alone"))),
    }
}
