//! The program `waveglow`, tested from the command line.

use flows_core::Rng;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;
use waveglow::audio::{Encoding, Sound, read, write};
use waveglow::data::plucks;

/// Settings of a run that trains in a moment.
const TINY: &str = r#"
batch = 4
[model]
samples = 512
architecture = { kind = "lapped", couplings = 2, features = 4, network = { layers = 2, channels = 4, kernel = 3 } }
audio = { rate = 8000, fft = 128, hop = 32, window = 128, bands = 10, high = 4000.0 }
[train]
steps = 6
evaluate_every = 3
checkpoint_every = 2
"#;

/// A folder with settings, five sounds of another rate, and a text.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("tiny.toml"), TINY).unwrap();
    fs::create_dir_all(here.join("sounds/more")).unwrap();
    fs::write(here.join("sounds/readme.txt"), "no sound").unwrap();
    for i in 0..5 {
        let sound = Sound::mono(16_000, plucks(16_000, 0.25, &mut Rng::seed(i))).unwrap();
        let name = if i < 3 { format!("{i}.wav") } else { format!("more/{i}.wav") };
        write(here.join("sounds").join(name), &sound, Encoding::default()).unwrap();
    }
    folder
}

fn run(folder: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waveglow"));
    command.current_dir(folder).args(args.split_whitespace()).stdin(Stdio::null());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the program prints, which must be JSON; it must succeed.
fn json(folder: &Path, args: &str) -> Value {
    let output = run(folder, args);
    assert!(output.status.success(), "{args}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args}: {e} in {}", text(&output.stdout)))
}

/// Asserts that the program fails with status 2 and an error that contains all `words`.
fn fails(folder: &Path, args: &str, words: &[&str]) {
    let output = run(folder, args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args}: {said}");
    assert!(words.iter().all(|word| said.contains(word)), "{args}: {words:?} in {said}");
    assert!(output.stdout.is_empty() && !said.contains("panicked"), "{args}: {said}");
}

#[test]
fn a_model_from_training_to_sound() {
    let folder = folder();
    let here = folder.path();
    let results = json(here, "train --data sounds --config tiny.toml --out run --json -q");
    assert!(results["test"]["log_likelihood"]["mean"].is_number() && results["steps"] == 6, "{results}");
    for name in ["model.safetensors", "copy.wav", "original.wav", "griffin-lim.wav", "spectrograms.png", "loss.png"] {
        assert!(here.join("run").join(name).is_file(), "{name}");
    }

    // An interrupted run that goes on is the same.
    json(here, "train --data sounds --config tiny.toml --steps 2 --out again --json -q");
    json(here, "train --resume --steps 6 --out again --json -q");
    let model = |run: &str| fs::read(here.join(run).join("model.safetensors")).unwrap();
    assert!(model("run") == model("again"));

    // The figures of the run, and copies of its spectrogram and of the sound itself, which are the same.
    let figures = json(here, "eval run --json -q");
    // But for the noise.
    let nats = |figures: &Value| figures["log_likelihood"]["mean"].as_f64().unwrap();
    assert!((nats(&figures["figures"]) - nats(&results["test"])).abs() < 0.1, "{figures}");
    json(here, "mel sounds/0.wav --model run --out 0.npy --picture 0.png --json");
    let copied = json(here, "vocode run sounds/0.wav sounds/more/3.wav --out copies --json -q");
    assert_eq!(copied["files"].as_array().map(Vec::len), Some(2));
    fails(here, "vocode run 0.npy sounds/0.wav --out copies", &["two of the files"]);
    let samples = |name: &str| read(here.join(name)).unwrap().into_channels().swap_remove(0);
    assert_eq!(samples("copies/3.wav").len() % 32, 0);
    json(here, "vocode run 0.npy --out from-mel.wav --seed 4 --json -q");
    json(here, "vocode run sounds/0.wav --out from-sound.wav --seed 4 --json -q");
    assert_eq!(samples("from-mel.wav"), samples("from-sound.wav"));
    let info = json(here, "info run --json");
    assert_eq!((&info["kind"], &info["step"]), (&"waveglow".into(), &6.into()));
    let converted = json(here, "convert-checkpoint run model.safetensors --json");
    assert_eq!(converted["parameters"], info["parameters"]);
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_lost() {
    let folder = folder();
    let here = folder.path();
    json(here, "train --data sounds --config tiny.toml --out run --steps 1 --json -q");
    let before = fs::read(here.join("sounds/0.wav")).unwrap();
    fails(here, "vocode run sounds/more/3.wav sounds/0.wav --out sounds", &["would be lost"]);
    fails(here, "vocode run sounds/0.wav sounds/1.wav --out both.wav", &["folder"]);
    fails(here, "vocode run sounds/0.wav --out sound.mp3", &["neither a .wav nor a folder"]);
    fails(here, "vocode run sounds/0.wav --sigma -1", &["sigma of -1"]);
    assert_eq!(fs::read(here.join("sounds/0.wav")).unwrap(), before);
    fails(here, "train --data sounds --config tiny.toml --out sounds", &["within the folder of the audio"]);
    fails(here, "train --data sounds --config tiny.toml --out other --segment 1000", &["multiple of 32", "1024"]);
    fails(here, "train --data missing --config tiny.toml", &["no audio `missing`"]);
    fails(here, "train --data sounds/readme.txt --config tiny.toml", &["readme.txt"]);
    fails(here, "convert-checkpoint run run/training.safetensors", &["another name"]);
    fails(here, "convert-checkpoint run out.safetensors --published", &["only a WaveGlow"]);
    json(here, "mel sounds/0.wav --out wide.npy --json");
    fails(here, "vocode run wide.npy --out out.wav", &["80", "10 bands"]);
    assert!(!here.join("out.wav").exists() && !here.join("other").exists());
}
