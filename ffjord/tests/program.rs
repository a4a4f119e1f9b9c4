//! The program `ffjord` from the command line.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The settings of a model and a run small enough to train in a moment.
const TINY: &str = r#"
batch = 16
samples = [200, 40, 60]
train = { steps = 20, evaluate_every = 10, checkpoint_every = 5 }
flow = { field = { hidden = [8] }, solver = { method = "bosh3", rtol = 1e-2, atol = 1e-2 } }
"#;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let row = |i: i32| format!("{},{},{}\n", f64::from(i % 7) - 3.0, f64::from(i * i % 11), f64::from(i % 5));
    let rows: String = (0..80).map(row).collect();
    fs::write(folder.path().join("table.csv"), format!("height,weight,age\n{rows}")).unwrap();
    fs::write(folder.path().join("tiny.toml"), TINY).unwrap();
    folder
}

fn run(folder: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ffjord"));
    command.current_dir(folder).args(args.split_whitespace()).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn succeeds(folder: &Path, args: &str) -> String {
    let output = run(folder, args);
    assert!(output.status.success(), "{args}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn json(folder: &Path, args: &str) -> Value {
    serde_json::from_str(&succeeds(folder, args)).unwrap()
}

/// Asserts that the program exits with `status` and prints all of `words` as diagnostics.
fn fails(folder: &Path, args: &str, status: i32, words: &[&str]) {
    let output = run(folder, args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args}: {said}");
    assert!(words.iter().all(|word| said.contains(word)), "{args}: {words:?} in {said}");
    assert!(!said.contains("panicked"), "{args}: {said}");
}

/// A run's folder contains pictures, as a folder of images does, but is not taken for one.
#[test]
fn a_runs_folder_does_not_hide_the_toy_density_of_the_same_name() {
    let folder = folder();
    succeeds(folder.path(), "train --config tiny.toml --data circles --out circles -q");
    let results = json(folder.path(), "train --config tiny.toml --data circles --out again --json -q");
    assert_eq!(results["data"], "circles");
}

#[test]
fn from_training_to_an_animation() {
    let folder = folder();
    let here = folder.path();
    let results = json(here, "train --config tiny.toml --out run --json -q");
    let nats = results["test"]["log_likelihood"].as_f64().unwrap();
    assert_eq!((&results["data"], &results["test"]["rows"]), (&"pinwheel".into(), &60.into()));
    assert!(results["solver"]["evaluations_forward"].as_f64().unwrap() >= 3.0);
    assert!(results["solver"]["evaluations_backward"].as_f64().unwrap() >= 3.0);
    assert!(results["exact"]["divergence"]["mean"].as_f64().unwrap() > 0.0);
    for name in ["config.toml", "metrics.jsonl", "model.safetensors", "results.json", "loss.png", "density.png"] {
        assert!(fs::metadata(here.join("run").join(name)).unwrap().len() > 0, "{name}");
    }
    assert_eq!(json(here, "eval run --json")["result"]["log_likelihood"].as_f64(), Some(nats));
    assert!(succeeds(here, "eval run/model.safetensors --data two-moons").contains("two-moons"));
    let drawn = succeeds(here, "sample run --count 5 --seed 3");
    assert_eq!(drawn.lines().count(), 5, "{drawn}");
    assert_eq!(succeeds(here, "sample run --count 5 --seed 3"), drawn);
    succeeds(here, "sample run --count 5 --out drawn.npy");
    let info = json(here, "info run --json");
    assert_eq!((&info["kind"], &info["step"]), (&"ffjord".into(), &20.into()));
    assert!(succeeds(here, "info run").contains("Cnf"));
    succeeds(here, "animate run --frames 3 --particles 20 --out way.gif");
    let gif = fs::read(here.join("way.gif")).unwrap();
    assert!(gif.starts_with(b"GIF89a"));
    let frames = image::codecs::gif::GifDecoder::new(std::io::Cursor::new(gif)).unwrap();
    assert_eq!(image::AnimationDecoder::into_frames(frames).count(), 3);
    fails(here, "animate run --out way.png", 2, &[".gif"]);
    fails(here, "eval run --data table.csv", 2, &["3 columns"]);
}

#[test]
fn a_resumed_run_is_the_same_to_the_bit() {
    let folder = folder();
    let here = folder.path();
    let table = "--data table.csv --config tiny.toml -q";
    succeeds(here, &format!("train {table} --out whole"));
    succeeds(here, &format!("train {table} --out part --steps 10"));
    succeeds(here, "train --out part --resume --steps 20 -q");
    let model = |name: &str| fs::read(here.join(name).join("model.safetensors")).unwrap();
    assert!(model("whole") == model("part"));
    fails(here, &format!("train {table} --out whole"), 2, &["--resume", "--overwrite"]);
    fails(here, "animate whole --out way.gif", 2, &["3 columns"]);
    // Columns are matched by name.
    let table = fs::read_to_string(here.join("table.csv")).unwrap();
    let reversed = |line: &str| line.split(',').rev().collect::<Vec<_>>().join(",") + "\n";
    fs::write(here.join("reversed.csv"), table.lines().map(reversed).collect::<String>()).unwrap();
    let nats = |data: &str| json(here, &format!("eval whole --data {data} --json"))["result"]["log_likelihood"].clone();
    assert_eq!(nats("table.csv"), nats("reversed.csv"));
    fs::write(here.join("other.csv"), table.replace("age", "year")).unwrap();
    fails(here, "eval whole --data other.csv", 2, &["`height`, `weight`, `year`"]);
}

#[test]
fn the_share_of_flow_matching_is_fixed_when_a_run_begins() {
    let folder = folder();
    let here = folder.path();
    let settings = TINY.replace("evaluate_every = 10", "evaluate_every = 1");
    let settings = settings.replace("method = \"bosh3\", rtol = 1e-2, atol = 1e-2", "method = \"rk4\", step = 0.5");
    fs::write(here.join("half.toml"), format!("matching = 0.5\n{settings}")).unwrap();
    let results = json(here, "train --config half.toml --out run --json -q");
    // Two solver steps of four evaluations each: steps of flow matching and evaluations of the model do not count.
    assert_eq!(results["solver"]["evaluations_forward"], 8.0);
    let steps = || {
        let settings: toml::Table = fs::read_to_string(here.join("run/config.toml")).unwrap().parse().unwrap();
        (settings["matching_steps"].as_integer(), settings["train"]["steps"].as_integer())
    };
    assert_eq!(steps(), (Some(10), Some(20)));
    succeeds(here, "train --resume --out run --steps 30 -q");
    assert_eq!(steps(), (Some(10), Some(30)));
    fs::write(here.join("more.toml"), "matching = 1.0").unwrap();
    succeeds(here, "train --resume --out run --config more.toml --steps 32 -q");
    assert_eq!(steps(), (Some(32), Some(32)));
}

#[test]
fn toy_densities_use_the_preset_of_the_same_name() {
    let folder = folder();
    let here = folder.path();
    let matching = |data: &str| {
        succeeds(here, &format!("train --data {data} --config tiny.toml --out {data} -q"));
        let settings: toml::Table = fs::read_to_string(here.join(data).join("config.toml")).unwrap().parse().unwrap();
        settings["matching_steps"].as_integer().unwrap()
    };
    assert!(matching("checkerboard") > 0);
    assert_eq!(matching("rings"), 0);
}

#[test]
fn particles_from_training_to_samples() {
    let folder = folder();
    let here = folder.path();
    let row = |i: i32| {
        let angle = f64::from(i);
        let at = |k: f64| format!("{},{}", 2.0 * (angle + k).cos() + angle, 2.0 * (angle + k).sin() - 3.0);
        format!("{}\n", [0.0, 2.1, 4.2].map(at).join(","))
    };
    let rows: String = (0..60).map(row).collect();
    fs::write(here.join("triangles.csv"), format!("a,b,c,d,e,f\n{rows}{}", row(1).repeat(60))).unwrap();
    let settings = TINY.replace("{ hidden = [8] }", "{ kind = 'graph', dimension = 2, width = 4, layers = 1 }");
    let settings = format!("matching = 0.75\nmost = [30, 10, 12]\nenergy = 'double-well'\n{settings}");
    fs::write(here.join("particles.toml"), &settings).unwrap();
    let output = run(here, "train --data triangles.csv --config particles.toml --out run --json");
    assert!(text(&output.stderr).contains("flatters"), "{}", text(&output.stderr));
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results["test"]["rows"], 12);
    // Bits are per dimension of the four-dimensional space of configurations with centre 0.
    let [nats, bits] = ["log_likelihood", "bits_per_dimension"].map(|name| results["test"][name].as_f64().unwrap());
    assert!((bits + nats / (4.0 * std::f64::consts::LN_2)).abs() < 1e-9);
    assert!(results["boltzmann"]["efficiency"].as_f64().unwrap() > 0.0);
    assert!(fs::metadata(here.join("run/particles.png")).unwrap().len() > 0);
    assert_eq!(json(here, "eval run --json")["result"]["log_likelihood"].as_f64(), Some(nats));
    let drawn = succeeds(here, "sample run --count 5");
    for line in drawn.lines().skip(1) {
        let values: Vec<f64> = line.split(',').map(|v| v.parse().unwrap()).collect();
        assert!((values[0] + values[2] + values[4]).abs() < 1e-4, "{line}");
    }
    fails(here, "train --data table.csv --config particles.toml --out new -q", 2, &["dimension"]);
    fs::write(here.join("bad.toml"), settings.replace("[30, 10, 12]", "[30, 0, 12]")).unwrap();
    fails(here, "train --data triangles.csv --config bad.toml --out new -q", 2, &["most"]);
}

#[test]
fn equations_are_solved_by_name() {
    let folder = folder();
    let here = folder.path();
    let solved = json(here, "solve harmonic --end 3.141592653589793 --tolerance 1e-9 --points 3 --json");
    assert_eq!(solved["result"]["status"], "finished");
    assert!((solved["states"][2][0].as_f64().unwrap() + 1.0).abs() < 1e-7);
    let table = succeeds(here, "solve lorenz --method rk4 --end 1 --points 5 --plot lorenz.svg");
    assert!(table.starts_with("t,x,y,z\n") && table.lines().count() == 6);
    assert!(here.join("lorenz.svg").exists());
    fails(here, "solve van-der-pol --max-steps 5", 1, &["5 steps", "`rtol` and `atol`", "max_steps"]);
    let output = run(here, "solve van-der-pol --method rk4 --max-steps 5");
    let said = text(&output.stderr);
    assert!(said.contains("raise `step`") && said.contains("max_steps") && !said.contains("rtol"), "{said}");
    fails(here, "solve harmonic --tolerance 0", 2, &["1e-5"]);
    fails(here, "solve harmonic --end 0", 2, &["end time"]);
    fails(here, "solve harmonic --initial 1", 2, &["2 values"]);
    fails(here, "solve harmonic --initial 1,nan", 2, &["finite"]);
    fails(here, "solve harmonic --step 0.5", 2, &["--step"]);
    fails(here, "solve harmonic --method rk4 --tolerance 1e-9", 2, &["--tolerance"]);
    fails(here, "solve harmonic --plot way.gif", 2, &[".svg"]);
    fails(here, "solve harmonic --method leapfrog", 2, &["dopri5"]);
}

#[test]
fn bad_use_is_reported() {
    let folder = folder();
    let here = folder.path();
    for (settings, words) in [
        ("flow = { end_time = 0 }", &["end_time"][..]),
        ("flow = { solver = { rtol = 0, atol = 0 } }", &["tolerance"]),
        ("flow = { solver = { method = 'leapfrog' } }", &["leapfrog"]),
        ("flow = { field = { hidden = [0] } }", &["width 0"]),
        ("flows = 0", &["flows"]),
        ("batch = 0", &["batch"]),
    ] {
        fs::write(here.join("bad.toml"), settings).unwrap();
        fails(here, "train --config bad.toml --out new -q", 2, words);
    }
    fs::write(here.join("bad.csv"), "a,b\n1,2\n3,nan\n5,6\n").unwrap();
    fails(here, "train --data bad.csv --config tiny.toml --out new", 2, &["row 3, column 2", "has no number"]);
    fails(here, "train --data moons --out new", 2, &["two-moons"]);
    fails(here, "train --preset power --out new", 2, &["--data"]);
    fails(here, "eval nothing", 2, &["nothing"]);
    // A solve that fails exits with a remedy, and does not hang.
    let stiff = "flow = { solver = { max_steps = 2, rtol = 1e-7, atol = 1e-7, first_step = 1e-6 } }";
    fs::write(here.join("stiff.toml"), format!("matching = 0\n{TINY}\n").replace("flow = {", "#") + stiff).unwrap();
    fails(here, "train --config stiff.toml --out new -q", 1, &["2 steps", "max_steps"]);
    assert!(!here.join("new/model.safetensors").exists());
    // The absolute tolerance alone is enough.
    fs::write(here.join("absolute.toml"), TINY.replace("rtol = 1e-2", "rtol = 0")).unwrap();
    succeeds(here, "train --config absolute.toml --out absolute -q");
}

/// The run exits with a remedy, and the files saved before are intact.
#[test]
fn a_solve_that_fails_during_training_leaves_saved_files_intact() {
    let folder = folder();
    let here = folder.path();
    let settings = r#"
batch = 16
matching = 0
samples = [200, 40, 60]
train = { steps = 2000, evaluate_every = 25, checkpoint_every = 25, optimizer = { kind = "adam", lr = 0.5 } }
flow = { field = { hidden = [8] }, solver = { rtol = 1e-4, atol = 1e-4, max_steps = 5 }, evaluation = { rtol = 1e-3 } }
"#;
    fs::write(here.join("steep.toml"), settings).unwrap();
    let remedy = &["5 steps", "max_steps", "learning rate"];
    fails(here, "train --config steep.toml --out run -q", 1, remedy);
    let files = || ["model.safetensors", "config.toml"].map(|name| fs::read(here.join("run").join(name)).unwrap());
    let saved = files();
    let before = json(here, "eval run --json")["result"]["log_likelihood"].as_f64().unwrap();
    assert!(before.is_finite());
    fails(here, "train --out run --resume -q", 1, remedy);
    assert!(files() == saved);
    assert_eq!(json(here, "eval run --json")["result"]["log_likelihood"].as_f64(), Some(before));
    // With the remedy applied the run continues.
    fs::write(here.join("more.toml"), "flow.solver = { max_steps = 500, rtol = 1e-3 }").unwrap();
    let output = run(here, "train --out run --resume --config more.toml --lr 1e-4 --steps 300 --json");
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("resuming after step"), "{said}");
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results["steps"], 300);
    let settings: toml::Table = fs::read_to_string(here.join("run/config.toml")).unwrap().parse().unwrap();
    let solver = &settings["flow"]["solver"];
    assert_eq!((solver["max_steps"].as_integer(), solver["rtol"].as_float()), (Some(500), Some(1e-3)));
    assert_eq!(settings["train"]["optimizer"]["lr"].as_float(), Some(1e-4));
    for (settings, words) in [
        ("flow.field.hidden = [9]", &["other settings"][..]),
        ("flow.end_time = 0.4", &["other settings"]),
        ("seed = 7", &["seed", "new run"]),
        ("data = 'rings'", &["data", "new run"]),
        ("flow.solver.max_steps = 0", &["max_steps"]),
        ("matching = 1.5", &["from 0 to 1", "1.5"]),
    ] {
        fs::write(here.join("more.toml"), settings).unwrap();
        fails(here, "train --out run --resume --config more.toml -q", 2, words);
    }
}
