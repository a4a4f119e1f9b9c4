//! The program `flows` as a user meets it.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A model and a run that are small enough to train in a moment.
const TINY: &str = r#"
batch = 16
samples = [200, 40, 60]
train = { steps = 20, evaluate_every = 10, checkpoint_every = 5 }
model = { kind = "real-nvp", layers = 2, network = { kind = "mlp", hidden = [8], activation = "relu" } }
"#;

/// A folder with the settings and a table of two columns, and a third to condition on.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let row = |i: i32| format!("{},{},{}\n", f64::from(i % 7) - 3.0, f64::from(i * i % 11), i % 2);
    let rows: String = (0..80).map(row).collect();
    fs::write(folder.path().join("table.csv"), format!("height,weight,group\n{rows}")).unwrap();
    fs::write(folder.path().join("tiny.toml"), TINY).unwrap();
    folder
}

fn flows(folder: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flows"));
    command.current_dir(folder).args(args.split_whitespace()).stdin(Stdio::null());
    command
}

fn run(folder: &Path, args: &str) -> Output {
    flows(folder, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the program printed, once it has succeeded.
fn succeeds(folder: &Path, args: &str) -> String {
    let output = run(folder, args);
    assert!(output.status.success(), "{args}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn json(folder: &Path, args: &str) -> Value {
    let printed = succeeds(folder, args);
    serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{args}: {e} in {printed}"))
}

/// The program ends with this status, and says all of `words` in one line.
fn fails(folder: &Path, args: &str, status: i32, words: &[&str]) {
    let output = run(folder, args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args}: {said}");
    assert!(words.iter().all(|word| said.contains(word)), "{args}: {words:?} in {said}");
    assert!(output.stdout.is_empty() && !said.contains("panicked"), "{args}: {said}");
}

#[test]
fn a_conditional_model_from_training_to_pictures() {
    let folder = folder();
    let here = folder.path();
    let results = json(here, "train --data table.csv --context group --config tiny.toml --out run --seed 3 --json -q");
    let test = &results["test"];
    assert_eq!((&test["rows"], &results["columns"][1]), (&8.into(), &"weight".into()));
    let nats = test["log_likelihood"].as_f64().unwrap();
    assert!((test["bits_per_dimension"].as_f64().unwrap() + nats / (2.0 * 2f64.ln())).abs() < 1e-9);
    assert!(test["standard_error"].as_f64().unwrap() > 0.0);
    for name in ["config.toml", "metrics.jsonl", "model.safetensors", "results.json", "loss.png", "density.png"] {
        assert!(fs::metadata(here.join("run").join(name)).unwrap().len() > 0, "{name}");
    }

    // The figure of the run, from its folder alone.
    assert_eq!(json(here, "eval run --json")["result"]["log_likelihood"].as_f64(), Some(nats));
    assert!(succeeds(here, "eval run/model.safetensors --data table.csv").contains("80 rows of table.csv"));

    succeeds(here, "score run --data table.csv --out scores.csv");
    let scores = fs::read_to_string(here.join("scores.csv")).unwrap();
    let mut lines = scores.lines();
    assert_eq!(lines.next(), Some("log_likelihood,percentile"));
    let percentiles: Vec<f64> = lines.map(|line| line.split_once(',').unwrap().1.parse().unwrap()).collect();
    assert!(percentiles.len() == 80 && percentiles.iter().all(|p| (0.0..=100.0).contains(p)));
    assert!(percentiles.contains(&0.0) && percentiles.iter().any(|p| *p > 90.0));
    assert_eq!(succeeds(here, "score run --data table.csv"), scores);
    succeeds(here, "score run --data table.csv --reference table.csv --out scores.npy");
    fs::write(here.join("odd.csv"), "height,weight,group\n900,-900,1\n").unwrap();
    let odd = json(here, "score run --data odd.csv --json");
    assert_eq!(odd["percentile"][0].as_f64(), Some(0.0));

    fs::write(here.join("groups.csv"), "group\n0\n1\n").unwrap();
    let drawn = succeeds(here, "sample run --context groups.csv --count 3 --seed 5");
    assert!(drawn.starts_with("height,weight\n") && drawn.lines().count() == 7, "{drawn}");
    succeeds(here, "sample run --context groups.csv --count 3 --seed 5 --out drawn.csv");
    assert_eq!(fs::read_to_string(here.join("drawn.csv")).unwrap(), drawn);
    assert_ne!(succeeds(here, "sample run --context groups.csv --count 3"), drawn);
    assert_eq!(json(here, "sample run --context groups.csv --json")["samples"].as_array().unwrap().len(), 2);

    let info = json(here, "info run --json");
    assert_eq!((&info["step"], &info["config"]["context"]), (&20.into(), &1.into()));
    let info = succeeds(here, "info run");
    assert!(info.contains("real-nvp") && info.contains("└") && info.contains("step        20"), "{info}");

    succeeds(here, "plot density run --context 1 --out density.svg");
    succeeds(here, "plot density run --context 0 --window=-3,3,-3,12 --out density.png");
    succeeds(here, "plot loss run run --out loss.svg");
    fails(here, "plot density run --out density.svg", 2, &["--context", "1 values"]);
    fails(here, "plot density run --context 1 --window 1,2 --out d.svg", 2, &["four numbers"]);
    fails(here, "plot density run --context 1 --out d.gif", 2, &[".svg or .png"]);
    fails(here, "sample run", 2, &["conditional", "--context"]);
    fails(here, "sample run --context table.csv", 2, &["3 columns"]);
}

#[test]
fn bad_input_is_named_and_nothing_is_overwritten() {
    let folder = folder();
    let here = folder.path();
    succeeds(here, "train --data table.csv --config tiny.toml --out run -q --threads 1");
    let model = fs::read(here.join("run/model.safetensors")).unwrap();

    for (content, words) in [
        ("", &["bad.csv", "is empty"][..]),
        ("a,b\n1,2\n3,nan\n5,6\n", &["row 3, column 2 (`b`) is NaN"]),
        ("a,b\n1,2\ninf,4\n5,6\n", &["row 3, column 1 (`a`) is inf"]),
        ("a,b\n1,2\n3\n5,6\n", &["row 3 has 1 cell"]),
        ("a,b\n1,2\n3,x\n", &["row 3, column 2", "not a number"]),
        ("1,2\n3,4\n", &["2 rows", "at least 3"]),
    ] {
        fs::write(here.join("bad.csv"), content).unwrap();
        fails(here, "train --data bad.csv --config tiny.toml --out run --overwrite -q", 2, words);
        assert_eq!(fs::read(here.join("run/model.safetensors")).unwrap(), model);
    }
    fails(here, "train --data none.csv --out new", 2, &["none.csv", "no such file"]);
    fails(here, "train --data moons --out new", 2, &["two-moons", "hf://"]);
    fails(here, "train --data table.csv --context age --out new", 2, &["no column `age`", "`height`"]);
    fails(here, "train --preset power --out new", 2, &["--data"]);
    fails(here, "train --preset huge --out new", 2, &["toy"]);
    fails(here, "train --model transformer --out new", 2, &["real-nvp"]);
    fails(here, "train --steps 0 --out new", 2, &["--steps"]);
    fails(here, "train --device tpu --out new", 2, &["cuda:1"]);
    fails(here, "train --threads 0 --out new", 2, &["--threads"]);
    #[cfg(not(feature = "cuda"))]
    fails(here, "train --device cuda:0 --out new", 2, &["--features cuda", "--device cpu"]);
    fs::write(here.join("bad.toml"), "batch = 16\ntrian = { steps = 1 }").unwrap();
    fails(here, "train --config bad.toml --out new", 2, &["`trian`"]);
    fs::write(here.join("bad.toml"), "batch = -1").unwrap();
    fails(here, "train --config bad.toml --out new", 2, &["batch"]);
    fs::write(here.join("bad.toml"), "batch 16").unwrap();
    fails(here, "train --config bad.toml --out new", 2, &["bad.toml", "line 1"]);
    assert!(!here.join("new").exists());

    // The columns of the data, with and without a context, are not the model's.
    fs::write(here.join("two.csv"), "1,2\n3,4\n").unwrap();
    fails(here, "eval run --data two.csv", 2, &["two.csv has 2 columns", "over 3"]);
    fails(here, "score run --data table.csv --context group", 2, &["2 columns", "without a context"]);
    fails(here, "sample run --context two.csv", 2, &["has no context"]);
    fails(here, "sample run --out drawn.txt", 2, &[".npy nor .csv"]);
    fails(here, "plot density run --out d.png", 2, &["3 columns"]);
    fails(here, "plot loss . --out d.png", 2, &["metrics.jsonl"]);

    // What is no model.
    let damage = |name: &str, bytes: &[u8]| fs::write(here.join(name), bytes).unwrap();
    let with = |old: &str, new: &str| {
        let at = model.windows(old.len()).position(|w| w == old.as_bytes()).unwrap();
        [&model[..at], new.as_bytes(), &model[at + old.len()..]].concat()
    };
    damage("short.safetensors", &model[..model.len() / 2]);
    damage("other.safetensors", &with(r#""kind":"flow""#, r#""kind":"glow""#));
    damage("newer.safetensors", &with(r#""version":"1""#, r#""version":"9""#));
    damage("text.safetensors", b"not a model at all");
    for command in ["eval", "score", "sample", "info"] {
        fails(here, &format!("{command} short.safetensors"), 2, &["short.safetensors", "cut short"]);
        fails(here, &format!("{command} newer.safetensors"), 2, &["newer.safetensors", "version 9", "update"]);
        fails(here, &format!("{command} none"), 2, &["none", "does not exist"]);
    }
    fails(here, "eval other.safetensors", 2, &["kind `glow`", "`flow`"]);
    fails(here, "eval text.safetensors", 2, &["not a safetensors file"]);
    fails(here, "eval run/training.safetensors", 2, &["model.safetensors"]);
    damage("lone.safetensors", &model);
    fails(here, "eval lone.safetensors", 2, &["config.toml", "--data"]);
    fails(here, "score lone.safetensors --data table.csv", 2, &["--reference"]);
}

#[test]
fn a_run_is_not_replaced_unasked() {
    let folder = folder();
    let here = folder.path();
    let model = || fs::read(here.join("run/model.safetensors")).unwrap();
    succeeds(here, "train --config tiny.toml --out run -q --tensorboard");
    let first = model();
    fails(here, "train --config tiny.toml --out run", 2, &["holds a run already", "--resume", "--overwrite"]);
    fails(here, "train --out run --resume --overwrite", 2, &["cannot be used with"]);
    fails(here, "train --out other --resume", 2, &["no run to resume"]);
    fails(here, "train --out tiny.toml", 2, &["is a file"]);
    fails(here, "train --out run --resume --model maf", 2, &["other settings"]);
    assert_eq!(model(), first);
    let events = || {
        let names = fs::read_dir(here.join("run")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("events.out.tfevents")).count()
    };
    assert_eq!(events(), 1);

    // A finished run goes on when there are more steps; the same seed gives the same model again.
    let longer = json(here, "train --out run --resume --steps 30 --json -q");
    assert_eq!(longer["steps"], 30);
    assert_ne!(model(), first);
    succeeds(here, "train --config tiny.toml --out run --overwrite -q");
    assert_eq!((model(), events()), (first.clone(), 0));
    let metrics = fs::read_to_string(here.join("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 20);

    // What the run wrote down repeats it.
    succeeds(here, "train --config run/config.toml --out again -q");
    assert_eq!(fs::read(here.join("again/model.safetensors")).unwrap(), first);
    // Another seed is another run; so is another architecture of the same name.
    succeeds(here, "train --config tiny.toml --seed 1 --model real-nvp --batch 8 --lr 0.01 --out third -q");
    assert_ne!(fs::read(here.join("third/model.safetensors")).unwrap(), first);
}

/// Starts a run that takes a while, and waits until `file` is there.
fn started(here: &Path, out: &str, file: &str) -> std::process::Child {
    let child = flows(here, &format!("train --config long.toml --out {out}"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !here.join(out).join(file).exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no {file} in a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

fn long(here: &Path) {
    let long =
        TINY.replace("steps = 20, evaluate_every = 10, checkpoint_every = 5", "steps = 600, evaluate_every = 70");
    let long = long.replace("train = {", "train = { checkpoint_every = 100, ema = { decay = 0.9 },");
    fs::write(here.join("long.toml"), long).unwrap();
}

/// Resumes the run, and gives the step from which it went on.
fn resumed(here: &Path, out: &str) -> u64 {
    let output = run(here, &format!("train --out {out} --resume"));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    said.split_once("going on after step ").unwrap().1.split_once(' ').unwrap().0.parse().unwrap()
}

#[test]
fn a_killed_run_resumes_to_the_same_model() {
    let folder = folder();
    let here = folder.path();
    long(here);
    succeeds(here, "train --config long.toml --out whole -q");
    let mut child = started(here, "killed", "training.safetensors");
    child.kill().unwrap();
    child.wait().unwrap();
    let step = resumed(here, "killed");
    assert!((100..600).contains(&step), "{step}");
    for name in ["model.safetensors", "config.toml"] {
        let read = |out: &str| fs::read(here.join(out).join(name)).unwrap();
        assert!(read("whole") == read("killed"), "{name}");
    }
    let losses = |out: &str| -> Vec<Value> {
        let metrics = fs::read_to_string(here.join(out).join("metrics.jsonl")).unwrap();
        metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].clone()).collect()
    };
    assert_eq!(losses("whole"), losses("killed"));
    assert_eq!(losses("whole").len(), 600);
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let folder = folder();
    let here = folder.path();
    long(here);
    let child = started(here, "run", "metrics.jsonl");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("saved at step") && said.contains("flows train --out run --resume"), "{said}");
    assert!(resumed(here, "run") < 600);
}

#[test]
fn help_teaches() {
    let here = tempfile::tempdir().unwrap();
    for command in ["train", "eval", "score", "sample", "plot", "info"] {
        let help = succeeds(here.path(), &format!("{command} --help"));
        assert!(help.contains("Example") && help.contains(&format!("flows {command}")), "{help}");
    }
    assert!(succeeds(here.path(), "--help").contains("Normalizing flows"));
    assert_eq!(run(here.path(), "").status.code(), Some(2));
    assert_eq!(run(here.path(), "eval").status.code(), Some(2));
}

#[test]
fn activations_need_not_be_stored() {
    let folder = folder();
    let here = folder.path();
    let settings = TINY.replace("steps = 20,", "steps = 20, memory = \"recompute\",");
    fs::write(here.join("recompute.toml"), settings).unwrap();
    let train = |config: &str| {
        let results = json(here, &format!("train --config {config}.toml --out {config} --seed 3 --json -q"));
        results["test"]["log_likelihood"].as_f64().unwrap()
    };
    let (stored, recomputed) = (train("tiny"), train("recompute"));
    assert!((stored - recomputed).abs() < 1e-4, "{stored} and {recomputed}");
    let written = fs::read_to_string(here.join("recompute/config.toml")).unwrap();
    assert!(written.contains("memory = \"recompute\""), "{written}");
}
