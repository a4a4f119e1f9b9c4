//! Compares models with those that other code has made: the golden files of published layouts.

mod golden_files;

use candle_core::{DType, Device, Tensor, Var};
use flows_core::distributions::Distribution;
use flows_core::{Error, Result};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use waveglow::audio::AudioConfig;
use waveglow::published::{from_state_dict, load, state_dict, without_weight_norm};
use waveglow::{AudioDensity, AudioFlow};

/// The folder of golden models, if there is one.
fn folder() -> Option<PathBuf> {
    Some(golden_files::root()?.join("waveglow"))
}

/// The inputs and outputs of a model.
struct Io {
    metadata: HashMap<String, String>,
    tensors: HashMap<String, Tensor>,
}

impl Io {
    fn read(path: &Path) -> Result<Self> {
        let (metadata, tensors) = golden_files::read(path, DType::F32)?;
        Ok(Self { metadata, tensors })
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Error::Data(format!("there is no tensor `{name}`")))
    }

    /// The latent vectors from the noise in the order in which it is drawn, last part first.
    fn latents(&self) -> Result<Tensor> {
        let noise: Vec<Tensor> = (0..)
            .map_while(|i| self.tensors.get(&format!("infer.noise.{i}")))
            .map(|part| part.flatten_from(1))
            .collect::<candle_core::Result<_>>()?;
        Ok(Tensor::cat(&noise.into_iter().rev().collect::<Vec<_>>(), 1)?)
    }
}

/// The largest difference, relative to the largest number.
fn relative(want: &Tensor, got: &Tensor) -> Result<f64> {
    let largest = |t: &Tensor| t.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?.to_scalar::<f64>();
    Ok(largest(&(want - got)?)? / largest(want)?)
}

fn check(name: &str, want: &Tensor, got: &Tensor, tolerance: f64) -> Result<()> {
    let off = relative(want, &got.reshape(want.shape())?)?;
    assert!(off < tolerance, "{name} is off by {off:.1e}");
    Ok(())
}

/// Compares loss, log-determinants, latents, gradients and synthesis with those of the file.
fn compare(model: &AudioFlow, io: &Io) -> Result<()> {
    const SIGMA: f64 = 0.666;
    let (audio, mel) = (io.tensor("audio")?, io.tensor("mel")?);
    let model_of = |samples: usize| model.with_config(model.config().with_samples(samples));
    let trained = model_of(audio.dim(1)?)?;
    let x = audio.unsqueeze(1)?;
    let (z, log_det) = trained.bijector().inverse(&x, Some(mel))?;
    // Here the channels that leave are in front, as there.
    check("z", io.tensor("z")?, &z, 1e-4)?;
    // All rows share the log-determinants of the 1x1 convolutions, which the loss tells.
    let centred = |t: &Tensor| t.broadcast_sub(&t.mean_keepdim(0)?);
    check("the log-determinant", &centred(io.tensor("log_s_total")?)?, &centred(&log_det)?, 1e-4)?;
    let loss = trained.published_loss(&x, mel, 1.0)?;
    check("the loss", io.tensor("loss")?, &loss, 1e-4)?;
    let nats = trained.log_prob(&x, Some(mel))?.mean_all()?.to_scalar::<f32>()? / audio.dim(1)? as f32;
    let loss = loss.to_scalar::<f32>()?;
    assert!((f64::from(-nats) - AudioDensity::nats(loss.into(), 1.0)).abs() < 1e-4, "{nats} nats, loss {loss}");
    let gradients = trained.published_loss(&x, mel, 1.0)?.backward()?;
    let variables: HashMap<String, Var> = trained.parameters().trainable().into_iter().collect();
    let mut compared = 0;
    for (name, want) in io.tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix("grad.")?, t))) {
        let ours = ours(name);
        // A layer that was saved without normalization has one weight in place of two.
        let is_other = !trained.config().weight_norm && (name.ends_with("_g") || name.ends_with("_v"));
        let Some(var) = variables.get(&ours) else {
            assert!(is_other, "there is no {ours}");
            continue;
        };
        let Some(got) = gradients.get(var) else { return Err(Error::Data(format!("`{name}` has no gradient"))) };
        check(&format!("the gradient of {name}"), want, got, 1e-4)?;
        compared += 1;
    }
    assert!(compared >= 3, "only {compared} gradients were compared");
    let noise = io.latents()?;
    let made = model_of(noise.dim(1)?)?;
    for (name, sigma) in [("infer.audio", SIGMA), ("infer_sigma0.audio", 0.0)] {
        let (x, _) = made.bijector().forward(&(&noise * sigma)?, Some(mel))?;
        check(name, io.tensor(name)?, &x, 1e-4)?;
    }
    Ok(())
}

/// Our name of a published tensor.
fn ours(name: &str) -> String {
    let name = match name.strip_prefix("convinv.") {
        Some(rest) => format!("flows.{}", rest.replace("conv.weight", "mixing.weight")),
        None => name.to_owned(),
    };
    let name = match name.strip_prefix("WN.") {
        Some(rest) => format!("flows.{}", rest.replacen('.', ".coupling.", 1)),
        None => name,
    };
    name.replace("cond_layer", "condition").replace("in_layers", "dilated").replace("res_skip_layers", "outputs")
}

#[test]
fn a_state_dict_is_the_published_model() -> Result<()> {
    let Some(folder) = folder() else { return Ok(()) };
    let io = Io::read(&folder.join("io.safetensors"))?;
    assert!(io.metadata.contains_key("config"));
    for name in ["published_layout.pt", "state_dict_no_weightnorm.pt", "state_dict.pt"] {
        compare(&load(&folder.join(name), &AudioConfig::default(), &Device::Cpu)?, &io)?;
    }
    let model = load(&folder.join("state_dict.pt"), &AudioConfig::default(), &Device::Cpu)?;
    let plain = without_weight_norm(&model)?;
    let mel = io.tensor("mel")?;
    let rng = || flows_core::Rng::seed(1);
    let heard = |model: &AudioFlow| -> Result<Vec<f32>> {
        let model = model.with_config(model.config().with_samples(256 * mel.dim(2)?))?;
        Ok(model.detached().synthesize(mel, 0.5, &mut rng())?.flatten_all()?.to_vec1()?)
    };
    assert_eq!(heard(&model)?, heard(&plain)?);
    let exported = state_dict(&model)?;
    let again = from_state_dict(exported, &AudioConfig::default(), false, &Device::Cpu)?;
    assert_eq!(heard(&model)?, heard(&again)?);
    Ok(())
}

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    file: String,
    #[serde(default)]
    io: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    expect: String,
}

fn cases(folder: &Path) -> Result<Vec<Case>> {
    let path = folder.join("cases.json");
    let text = std::fs::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
    let cases: Cases = serde_json::from_str(&text).map_err(|e| Error::file(&path, e))?;
    Ok(cases.cases)
}

#[test]
fn every_layout_is_the_same_model() -> Result<()> {
    let Some(folder) = folder().map(|folder| folder.join("layouts")) else { return Ok(()) };
    let mut compared = 0;
    for case in cases(&folder)? {
        let loaded = load(&folder.join(&case.file), &AudioConfig::default(), &Device::Cpu);
        if case.model != "waveglow" {
            let error = loaded.err().map(|e| e.to_string()).unwrap_or_default();
            assert!(["SqueezeWave", "WaveFlow"].iter().any(|name| error.contains(name)), "{}: {error}", case.file);
            continue;
        }
        let io = Io::read(&folder.join(&case.io))?;
        compare(&loaded?, &io).map_err(|e| Error::Data(format!("{}: {e}", case.file)))?;
        compared += 1;
    }
    assert!(compared > 0);
    Ok(())
}

#[test]
fn hostile_files_are_refused() -> Result<()> {
    let Some(folder) = folder().map(|folder| folder.join("hostile")) else { return Ok(()) };
    let cases = cases(&folder)?;
    assert!(!cases.is_empty());
    for case in cases {
        let start = std::time::Instant::now();
        let loaded = load(&folder.join(&case.file), &AudioConfig::default(), &Device::Cpu);
        assert!(loaded.is_err() || case.expect != "refuse", "{} was loaded", case.file);
        // A loaded machine is slow; what is malicious would take minutes.
        assert!(start.elapsed().as_secs_f64() < 30.0, "{} took {:?}", case.file, start.elapsed());
    }
    Ok(())
}
