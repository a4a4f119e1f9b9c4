//! The density over images, and the program trained on them.

use candle_core::{DType, Device, Tensor};
use ffjord::field::{Activation, ConvConfig, FieldConfig, TimeLayer};
use ffjord::solver::{Method, Solver};
use ffjord::{CnfSettings, ImageConfig, ImageModel, Pairing};
use flows_core::bijectors::Bijector;
use flows_core::distributions::Distribution;
use flows_core::testing::{difference, gradient_difference, jacobian_log_det, perturb};
use flows_core::{Result, Rng};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const CPU: &Device = &Device::Cpu;

fn model(
    shape: [usize; 3],
    scales: usize,
    [equalize, whiten]: [bool; 2],
    solver: Solver,
    rng: &mut Rng,
) -> Result<ImageModel> {
    let field = ConvConfig {
        hidden: vec![6],
        layer: TimeLayer::ConcatSquash,
        activation: Activation::Tanh,
        ..ConvConfig::default()
    };
    let field = FieldConfig::Conv(field);
    let flow = CnfSettings { field, solver, end_time: 1.0, train_end_time: true, ..CnfSettings::default() };
    let config = ImageConfig { shape, alpha: 0.05, equalize, whiten, scales, flows: 1, flow };
    let model = ImageModel::on(config, DType::F64, CPU, rng)?;
    perturb(model.parameters(), 0.3, rng)?;
    Ok(model)
}

fn images(shape: &[usize], rng: &mut Rng) -> Result<Tensor> {
    rng.tensor(shape.to_vec(), DType::F64, CPU, |rng| 0.05 + 0.9 * rng.uniform())
}

#[test]
fn densities_agree_with_the_jacobian() -> Result<()> {
    for colours in [[false, false], [true, false], [false, true], [true, true]] {
        let rng = &mut Rng::seed(0);
        let model = model([1, 4, 4], 2, colours, Solver::new(Method::Dopri5, 1e-9), rng)?;
        let x = images(&[3, 1, 4, 4], rng)?;
        model.standardize(&x)?;
        assert_eq!(model.flows().len(), 3);
        let bijector = model.bijector();
        let (z, log_det) = bijector.inverse(&x, None)?;
        assert!(difference(&jacobian_log_det(|x| Ok(bijector.inverse(x, None)?.0), &x)?, &log_det)? < 1e-6);
        let (back, forward) = bijector.forward(&z, None)?;
        assert!(difference(&x, &back)? < 1e-7 && difference(&log_det.neg()?, &forward)? < 1e-6);
        assert!(difference(&x, &model.decode(&z)?)? < 1e-6);
        let want = (log_det + (z.sqr()?.sum(1)? * -0.5)?)?.affine(1.0, -8.0 * std::f64::consts::TAU.ln())?;
        assert!(difference(&want, &model.log_prob(&x, None)?)? < 1e-9);
        assert!(difference(&want, &model.detached().score(&x, rng)?)? < 1e-9);
        // A density of 1 corresponds to 8 bits per dimension.
        assert!((model.bits(0.0) - 8.0).abs() < 1e-12 && (model.bits(16.0 * 2f64.ln()) - 7.0).abs() < 1e-12);
    }
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    for colours in [[false, false], [true, false], [false, true], [true, true]] {
        let rng = &mut Rng::seed(1);
        let solver = Solver { method: Method::Rk4, step: 0.5, ..Solver::default() };
        let model = model([1, 4, 4], 2, colours, solver, rng)?;
        let x = images(&[2, 1, 4, 4], rng)?;
        model.standardize(&x)?;
        let loss = || Ok(model.log_prob_training(&x, None, &mut Rng::seed(2))?.mean_all()?);
        let d = gradient_difference(loss, model.parameters(), &[], rng)?;
        assert!(d < 1e-7, "{d}");
        assert!(model.matching_loss(&x, Pairing::Optimal, rng).is_err());
    }
    Ok(())
}

#[test]
fn the_estimate_is_unbiased() -> Result<()> {
    let rng = &mut Rng::seed(3);
    let model = model([1, 9, 9], 1, [false, false], Solver::new(Method::Dopri5, 1e-5), rng)?;
    let x = images(&[1, 1, 9, 9], rng)?;
    let steps = 200;
    let estimates: Vec<f64> =
        (0..steps).map(|_| Ok(model.detached().score(&x, rng)?.to_vec1::<f64>()?[0])).collect::<Result<_>>()?;
    let mean = estimates.iter().sum::<f64>() / f64::from(steps);
    let deviation = (estimates.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / f64::from(steps)).sqrt();
    assert!(deviation > 1e-3);
    // With the exact divergence and the log-determinant of the logit.
    let bijector = model.bijector();
    let (z, _) = bijector.inverse(&x, None)?;
    let v = model.colours().inverse(&x, None)?;
    let (_, exact) = model.flows()[0].inverse(&v.0.flatten_from(1)?, None)?;
    let base = model.base().log_prob(&z, None)?;
    let want = (base + exact)?.add(&v.1)?.to_vec1::<f64>()?[0];
    let error = deviation / f64::from(steps).sqrt();
    assert!((mean - want).abs() < 4.0 * error, "{mean} +- {error}, not {want}");
    Ok(())
}

#[test]
fn paths_go_from_noise_to_images() -> Result<()> {
    let rng = &mut Rng::seed(4);
    let model = model([1, 4, 4], 2, [true, false], Solver::new(Method::Dopri5, 1e-7), rng)?;
    let z = rng.normal_tensor((2, 16), DType::F64, CPU)?;
    let states = model.path(&z, &[0.0, 0.1, 1.0 / 3.0, 0.7, 1.0])?;
    let noise = model.colours().forward(&z.reshape((2, 1, 4, 4))?, None)?.0;
    assert_eq!(states.len(), 5);
    assert!(difference(&noise, &states[0])? < 1e-12);
    assert!(difference(&model.decode(&z)?, &states[4])? < 1e-6);
    assert!((1..5).all(|i| difference(&states[i - 1], &states[i]).is_ok_and(|d| d > 1e-4)));
    Ok(())
}

#[test]
fn a_loaded_model_is_the_same() -> Result<()> {
    let rng = &mut Rng::seed(5);
    let model = model([1, 4, 4], 1, [true, true], Solver::default(), rng)?;
    let x = images(&[2, 1, 4, 4], rng)?;
    model.standardize(&x)?;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    model.save(&path)?;
    let loaded = ImageModel::load(&path, CPU)?;
    assert_eq!(loaded.config(), model.config());
    assert_eq!(difference(&model.log_prob(&x, None)?, &loaded.log_prob(&x, None)?)?, 0.0);
    for (shape, scales, alpha) in
        [([1, 6, 6], 3, 0.05), ([1, 4, 4], 0, 0.05), ([1, 4, 4], 1, 0.6), ([0, 4, 4], 1, 0.05)]
    {
        let config = ImageConfig { shape, scales, alpha, ..model.config().clone() };
        assert!(ImageModel::new(config, rng).is_err(), "{shape:?} {scales} {alpha}");
    }
    Ok(())
}

/// The settings of a model and a run small enough to train in a moment.
const TINY: &str = r#"
batch = 8
matching = 0.5
evaluated = [4, 6]
model = { alpha = 1e-6, whiten = true, scales = 1, flows = 1 }
train = { steps = 12, evaluate_every = 6, checkpoint_every = 6 }
[flow]
solver = { method = "rk4", step = 0.5 }
divergence = "rademacher"
field = { kind = "conv", hidden = [4, 4], strides = [2, 1, -2], layer = "concat-squash", activation = "silu" }
"#;

/// Writes images of bars as a NumPy array of unsigned bytes, (N, 4, 4).
fn write_bars(path: &Path, count: usize) {
    let mut header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, 4, 4), }}");
    header += &" ".repeat(63 - (10 + header.len()) % 64);
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(((header.len() + 1) as u16).to_le_bytes());
    bytes.extend(header.bytes().chain([b'\n']));
    bytes.extend((0..count * 16).map(|i| if i % 4 == i / 16 % 4 { 255u8 } else { 0 }));
    fs::write(path, bytes).unwrap();
}

fn run(folder: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ffjord"));
    command.current_dir(folder).args(args.split_whitespace()).stdin(Stdio::null()).output().unwrap()
}

fn succeeds(folder: &Path, args: &str) -> String {
    let output = run(folder, args);
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fails(folder: &Path, args: &str, words: &[&str]) {
    let output = run(folder, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args}: {said}");
    assert!(words.iter().all(|word| said.contains(word)), "{args}: {words:?} in {said}");
}

#[test]
fn from_training_to_an_animation() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write_bars(&here.join("bars.npy"), 40);
    fs::write(here.join("tiny.toml"), TINY).unwrap();
    let results: Value =
        serde_json::from_str(&succeeds(here, "train --data bars.npy --config tiny.toml --out run --json -q")).unwrap();
    assert_eq!((&results["shape"], &results["test"]["images"]), (&[1, 4, 4].into(), &4.into()));
    assert!(results["solver"]["evaluations_backward"].as_f64().unwrap() > 0.0);
    for name in ["config.toml", "metrics.jsonl", "model.safetensors", "results.json", "loss.png", "samples.png"] {
        assert!(fs::metadata(here.join("run").join(name)).unwrap().len() > 0, "{name}");
    }
    let bits = |args: &str| {
        let found: Value = serde_json::from_str(&succeeds(here, args)).unwrap();
        found["result"]["bits_per_dimension"].as_f64().unwrap()
    };
    assert_eq!(bits("eval run --json --seed 3"), bits("eval run --json --seed 3"));
    assert!(bits("eval run --data bars.npy --count 10 --json").is_finite());
    succeeds(here, "sample run --count 4 --temperature 0.5 --out drawn.png");
    fails(here, "sample run --temperature -1", &["temperature"]);
    succeeds(here, "animate run --frames 3 --particles 4 --out way.gif");
    assert!(fs::read(here.join("way.gif")).unwrap().starts_with(b"GIF89a"));
    // Half of the steps are flow matching; a run of these alone, resumed with likelihood, is the same to the bit.
    fs::write(here.join("first.toml"), TINY.replace("matching = 0.5", "matching = 1")).unwrap();
    succeeds(here, "train --data bars.npy --config first.toml --out part --steps 6 -q");
    fs::write(here.join("more.toml"), "matching = 0.5").unwrap();
    succeeds(here, "train --out part --resume --config more.toml --steps 12 -q");
    let model = |name: &str| fs::read(here.join(name).join("model.safetensors")).unwrap();
    assert!(model("run") == model("part"));
    fs::create_dir(here.join("empty")).unwrap();
    fails(here, "train --data empty --preset digits --out new", &["empty", "no images"]);
    fails(here, "train --preset mnist --out new", &["--data"]);
    fails(here, "eval run --data tiny.toml", &["tiny.toml", ".npy", "folder of images"]);
    fails(here, "sample run --out drawn.csv", &[".png"]);
    fs::write(here.join("two.toml"), TINY.replace("scales = 1", "scales = 2")).unwrap();
    fails(here, "train --data bars.npy --config two.toml --out new", &["matching"]);
}

#[test]
fn digits_need_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("tiny.toml"), TINY).unwrap();
    let results: Value =
        serde_json::from_str(&succeeds(here, "train --preset digits --config tiny.toml --json -q")).unwrap();
    assert_eq!((&results["data"], &results["shape"]), (&"digits".into(), &[1, 16, 16].into()));
    assert!(succeeds(here, "eval runs/digits --count 4").contains("digits (test)"));
    // Digits of 8 x 8 pixels are resized.
    assert!(succeeds(here, "eval runs/digits --data uci-digits --count 4").contains("256 dimensions  (4 images)"));
    succeeds(here, "train --out runs/digits --resume --steps 14 -q");
}

#[test]
fn folders_of_images_are_resized_and_bad_files_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("tiny.toml"), TINY).unwrap();
    for class in ["bars", "dots"] {
        fs::create_dir_all(here.join("images").join(class)).unwrap();
        for i in 0..12 {
            let colour =
                |x: u32, y: u32| image::Rgb([20 * x as u8, 30 * y as u8, if class == "bars" { i } else { 200 }]);
            let path = here.join("images").join(class).join(format!("{i}.png"));
            image::RgbImage::from_fn(10, 8, colour).save(path).unwrap();
        }
    }
    let train = "train --data images --config tiny.toml --size 4 --grey --out run";
    fs::write(here.join("images/dots/3.png"), b"no image at all").unwrap();
    fails(here, train, &["3.png", "--skip-bad"]);
    let said = run(here, &format!("{train} --skip-bad")).stderr;
    let said = String::from_utf8(said).unwrap();
    let words = ["skipped", "3.png", "1 x 4 x 4 of 2 classes; 20 images to train on, 1 to validate, 2 to test"];
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    // The model's shape decides how other images are resized.
    assert!(succeeds(here, "eval run --data images --skip-bad").contains("16 dimensions  (23 images)"));
    fails(here, "eval run --data images", &["3.png", "--skip-bad"]);
    fails(here, "train --data images --config tiny.toml --size 9000 --out large", &["8192"]);
    fails(here, "train --data pinwheel --size 4", &["--size", "for images"]);
}
