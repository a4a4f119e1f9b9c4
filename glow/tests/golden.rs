//! Comparison with values and gradients of rosinality/glow-pytorch, read from golden cases.

use candle_core::{DType, Device, Tensor, backprop::GradStore};
use flows_core::bijectors::Bijector;
use flows_core::distributions::Distribution;
use flows_core::nn::Parameters;
use flows_core::testing::difference;
use flows_core::{Error, Result};
use glow::{Glow, TopPrior, from_state_dict, levels, read_state_dict};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const TOLERANCE: f64 = 1e-3;

fn bad(message: impl Into<String>) -> Error {
    Error::Data(message.into())
}

/// Fails unless all numbers agree within the tolerance relative to the largest.
fn close(what: &str, want: &Tensor, got: &Tensor) -> Result<()> {
    let (want, got) = (want.to_dtype(DType::F64)?.flatten_all()?, got.to_dtype(DType::F64)?.flatten_all()?);
    let scale = want.abs()?.max(0)?.to_scalar::<f64>()?.max(1e-12);
    let worst = difference(&(want / scale)?, &(got / scale)?)?;
    if worst <= TOLERANCE { Ok(()) } else { Err(bad(format!("`{what}` differs by {worst:e}"))) }
}

/// The output of each level before its prior, from the finest on, and the log-determinant of the flow without priors.
fn unnormalised(glow: &Glow, x: &Tensor) -> Result<(Vec<Tensor>, Tensor)> {
    let tensors: HashMap<_, _> = glow.parameters().snapshot()?.into_iter().collect();
    let scope = Parameters::saved(DType::F32, &Device::Cpu, tensors).scope();
    let config = glow.config();
    let (mut v, mut total, mut latents) = (x.clone(), None::<Tensor>, Vec::new());
    for (i, level) in levels(config, &scope)?.iter().enumerate() {
        let (h, mut log_det) = level.flow.inverse(&v, None)?;
        if i + 1 < config.levels {
            let half = h.dim(1)? / 2;
            latents.push(h.narrow(1, half, half)?);
            v = h.narrow(1, 0, half)?.contiguous()?;
        } else {
            // The last level ends in the top prior, which is inverted here.
            let tensors: HashMap<_, _> = glow.parameters().snapshot()?.into_iter().collect();
            let scope = Parameters::saved(DType::F32, &Device::Cpu, tensors).scope();
            let prior = TopPrior::new(config.level_shape(i), None, &scope.enter("levels").enter(i).enter("prior"))?;
            let (top, of_prior) = prior.forward(&h, None)?;
            latents.push(top);
            log_det = (log_det + of_prior)?;
        }
        total = Some(match total {
            Some(total) => (total + log_det)?,
            None => log_det,
        });
    }
    Ok((latents, total.ok_or_else(|| bad("a model without levels"))?))
}

/// The gradient of a tensor of the state dict, from those of this model's weights.
fn gradient(name: &str, state: &HashMap<String, Tensor>, glow: &Glow, gradients: &GradStore) -> Result<Tensor> {
    let parts: Vec<&str> = name.split('.').collect();
    let (step, rest) = match parts[..] {
        ["blocks", i, "flows", k, ref rest @ ..] => (format!("levels.{i}.{k}"), rest.join(".")),
        ["blocks", i, "prior", ref rest @ ..] => (format!("levels.{i}"), format!("prior.{}", rest.join("."))),
        _ => return Err(bad(format!("`{name}` is unknown"))),
    };
    let own = match rest.as_str() {
        "actnorm.loc" => "actnorm.shift".into(),
        "actnorm.scale" => "actnorm.log_scale".into(),
        "invconv.weight" => "mix.weight".into(),
        "invconv.w_s" => "mix.log_scale".into(),
        "invconv.w_l" => "mix.lower".into(),
        "invconv.w_u" => "mix.upper".into(),
        "prior.scale" => "prior.log_scale".into(),
        rest => match (rest.strip_prefix("coupling.net."), rest.strip_prefix("prior.conv.")) {
            (Some("4.scale"), _) => "coupling.2.log_scale".into(),
            (Some(layer), _) => {
                let (index, part) = [("0.", 0), ("2.", 1), ("4.conv.", 2)]
                    .into_iter()
                    .find_map(|(theirs, own)| Some((own, layer.strip_prefix(theirs)?)))
                    .ok_or_else(|| bad(format!("`{name}` is unknown")))?;
                format!("coupling.{index}.{part}")
            }
            (_, Some(part)) => format!("prior.{part}"),
            _ => return Err(bad(format!("`{name}` is unknown"))),
        },
    };
    let own = format!("{step}.{own}");
    let weights = glow.parameters().trainable();
    let var = weights.iter().find(|(weight, _)| *weight == own).ok_or_else(|| bad(format!("there is no `{own}`")))?;
    let ours = gradients.get(&var.1).ok_or_else(|| bad(format!("`{own}` has no gradient")))?;
    let ours = ours.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let there = state.get(name).ok_or_else(|| bad(format!("the state dict has no `{name}`")))?;
    let scale = || -> Result<Vec<f64>> {
        let name = format!("{}.actnorm.scale", parts[..4].join("."));
        Ok(state[&name].to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
    };
    let n = there.dims().first().copied().unwrap_or(1);
    let values = match rest.as_str() {
        "actnorm.scale" => ours.iter().zip(scale()?).map(|(g, s)| g / s).collect(),
        "invconv.weight" => ours.iter().zip(scale()?.iter().cycle()).map(|(g, s)| g * s.signum()).collect(),
        "invconv.w_l" | "invconv.w_u" => {
            let (scale, mut entries) = (scale()?, ours.iter());
            let mut values = vec![0.0; n * n];
            for (i, value) in values.iter_mut().enumerate() {
                let (row, column) = (i / n, i % n);
                if rest == "invconv.w_l" && column < row {
                    *value = *entries.next().unwrap_or(&f64::NAN);
                } else if rest == "invconv.w_u" && column > row {
                    *value = entries.next().unwrap_or(&f64::NAN) * scale[column].signum();
                }
            }
            values
        }
        _ => ours,
    };
    Ok(Tensor::from_vec(values, there.shape(), &Device::Cpu)?)
}

fn check(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| Error::file(path, e))?;
    let io = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    let tensor = |name: &str| io.get(name).ok_or_else(|| bad(format!("there is no tensor `{name}`")));
    let model =
        path.with_file_name(path.file_name().unwrap_or_default().to_string_lossy().replace("_io.safetensors", ".pt"));
    let state = read_state_dict(&model)?;
    let x = tensor("x")?;
    let (batch, _, height, width) = x.dims4()?;
    let glow = from_state_dict(state.clone(), [height, width], 8, &Device::Cpu)?;
    // The config in the file is the one inferred from the state dict.
    let metadata = header.metadata().clone().unwrap_or_default();
    let said: serde_json::Value = serde_json::from_str(metadata.get("config").ok_or_else(|| bad("no config"))?)
        .map_err(|e| bad(format!("the config: {e}")))?;
    let config = glow.config();
    let found = [config.shape[0], config.steps, config.levels].map(|n| Some(n as u64));
    if found != ["in_channel", "n_flow", "n_block"].map(|name| said[name].as_u64()) {
        return Err(bad(format!("{config:?} was found, {said} is said")));
    }

    let eps = glow.latent(x, None)?;
    let (latents, log_det) = unnormalised(&glow, x)?;
    for (i, z) in latents.iter().enumerate() {
        close(&format!("z.{i}"), tensor(&format!("z.{i}"))?, z)?;
    }
    close("logdet", &tensor("logdet")?.flatten_all()?.broadcast_as(batch)?, &log_det)?;
    let log_prob = glow.log_prob(x, None)?;
    close("log_p", tensor("log_p")?, &(&log_prob - &log_det)?)?;
    close("reconstruction", tensor("reconstruction")?, &glow.decode(&eps, None)?)?;
    let noise = (0..config.levels).map(|i| Ok(tensor(&format!("eps_in.{i}"))?.flatten_from(1)?));
    let noise = Tensor::cat(&noise.collect::<Result<Vec<_>>>()?, 1)?;
    close("sample", tensor("sample")?, &glow.decode(&noise, None)?)?;

    let gradients = log_prob.mean_all()?.neg()?.backward()?;
    let state: HashMap<String, Tensor> =
        state.into_iter().map(|(name, t)| (name.trim_start_matches("module.").to_string(), t)).collect();
    for (name, want) in io.iter().filter_map(|(name, t)| Some((name.strip_prefix("grad.")?, t))) {
        let name = name.trim_start_matches("module.");
        close(name, want, &gradient(name, &state, &glow, &gradients)?)?;
    }
    // Export and import give the same model.
    let exported = glow::state_dict(&glow)?.into_iter().collect();
    let again = from_state_dict(exported, [height, width], 8, &Device::Cpu)?;
    close("log_prob after an export", &log_prob, &again.log_prob(x, None)?)
}

#[test]
fn golden_models() {
    let named = std::env::var_os("FLOWS_GOLDEN").map(PathBuf::from);
    let root = named.clone().unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden").into());
    if named.is_none() && !root.exists() {
        return eprintln!("skipped: there are no golden cases at {}; set FLOWS_GOLDEN to their folder", root.display());
    }
    let folder = root.join("glow");
    let files = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}; FLOWS_GOLDEN must name the folder of golden cases", folder.display()));
    let mut failures = Vec::new();
    let mut count = 0;
    for file in files {
        let path = file.expect("a folder that can be listed").path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("_io.safetensors")) {
            continue;
        }
        count += 1;
        if let Err(error) = check(&path) {
            failures.push(format!("{}: {error}", path.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count > 0, "no _io.safetensors file is under {}", root.display());
}
