//! The program `flows` on several ranks.

use super::mpirun;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A run of four pieces, whose batches, validation rows and test rows divide unevenly among ranks.
const SETTINGS: &str = r#"
batch = 300
pieces = 4
samples = [900, 300, 700]
train = { steps = 30, evaluate_every = 10, checkpoint_every = 5, ema = { decay = 0.9 } }
model = { kind = "real-nvp", layers = 2, network = { kind = "mlp", hidden = [8], activation = "relu" } }
"#;

/// A folder with these settings, and the same for a longer run.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("short.toml"), SETTINGS).unwrap();
    let long = SETTINGS.replace("steps = 30", "steps = 400").replace("checkpoint_every = 5", "checkpoint_every = 40");
    fs::write(folder.path().join("long.toml"), long).unwrap();
    folder
}

/// The program on this many ranks, or alone; none if there is no `mpirun`.
fn flows(folder: &Path, ranks: usize, args: &str) -> Option<Command> {
    let program = Path::new(env!("CARGO_BIN_EXE_flows"));
    let mut command = if ranks == 1 { Command::new(program) } else { mpirun(ranks, program)? };
    command.current_dir(folder).args(args.split_whitespace()).stdin(Stdio::null());
    Some(command)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The program's output; it must succeed.
fn succeeds(folder: &Path, ranks: usize, args: &str) -> Option<String> {
    let output = flows(folder, ranks, args)?.output().unwrap();
    assert!(output.status.success(), "{ranks} ranks: {args}: {}", text(&output.stderr));
    Some(text(&output.stdout))
}

fn model(folder: &Path, run: &str) -> Vec<u8> {
    fs::read(folder.join(run).join("model.safetensors")).unwrap()
}

/// The lines of the metrics, without times.
fn metrics(folder: &Path, run: &str) -> Vec<Value> {
    let lines = fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let line_of = line.as_object_mut().unwrap();
        line_of.retain(|name, _| !name.starts_with("seconds") && !name.starts_with("steps_per"));
        line
    };
    lines.lines().map(line).collect()
}

#[test]
fn runs_and_scores_are_the_same_on_1_2_3_and_4_ranks() {
    let folder = folder();
    let here = folder.path();
    let train =
        |ranks: usize| succeeds(here, ranks, &format!("train --config short.toml --out {ranks} --seed 3 --json"));
    let results = |printed: &str| serde_json::from_str::<Value>(printed).unwrap()["test"].clone();
    let Some(one) = train(1) else { return };
    for ranks in [2, 3, 4] {
        let Some(printed) = train(ranks) else { return };
        let run = ranks.to_string();
        assert!(model(here, &run) == model(here, "1"), "{ranks} ranks end with other weights than one");
        assert_eq!(metrics(here, &run), metrics(here, "1"));
        assert_eq!(results(&printed), results(&one));
        let names = |run: &str| {
            let mut names: Vec<_> = fs::read_dir(here.join(run)).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&run), names("1"));
    }
    for args in ["eval 1 --json", "score 1 --data two-moons", "sample 1 --count 3"] {
        assert_eq!(succeeds(here, 3, args), succeeds(here, 1, args), "{args}");
    }
    // An error on all ranks is reported once.
    let Some(mut command) = flows(here, 4, "train --data none.csv --out new") else { return };
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), said.matches("no such file").count()), (Some(2), 1), "{said}");
    assert!(!here.join("new").exists());
}

#[test]
fn ranks_that_mpi_does_not_connect_are_an_error() {
    // As `srun` with an `--mpi` that the library does not support.
    let mut command = Command::new(env!("CARGO_BIN_EXE_flows"));
    let output = command.args(["train", "--help"]).env("PMI_SIZE", "2").stdin(Stdio::null()).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("`--mpi`"), "{said}");
}

/// A long run on two ranks that has been saved, and the process id of rank 1.
fn started(folder: &Path, out: &str) -> Option<(Child, String)> {
    let mut command = flows(folder, 2, &format!("train --config long.toml --out {out}"))?;
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !folder.join(out).join("training.safetensors").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing was saved in a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    let of_rank = |id: &str| {
        let read = |name: &str| fs::read(Path::new("/proc").join(id).join(name)).unwrap_or_default();
        let has = |bytes: Vec<u8>, word: &str| bytes.split(|byte| *byte == 0).any(|part| part == word.as_bytes());
        has(read("cmdline"), out)
            && has(read("environ"), "OMPI_COMM_WORLD_RANK=1")
            && has(read("environ"), &format!("PWD={}", folder.display()))
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let id = processes.map(|entry| entry.file_name().to_string_lossy().into_owned()).find(|id| of_rank(id));
    Some((child, id?))
}

fn signal(process: &str, name: &str) {
    assert!(Command::new("kill").args([name, process]).status().unwrap().success());
}

/// The output of the run; checks that resuming it gives the model of an undisturbed run.
fn ended(folder: &Path, child: Child, out: &str) -> Output {
    let output = child.wait_with_output().unwrap();
    succeeds(folder, 1, "train --config long.toml --out whole --overwrite -q");
    let Some(mut command) = flows(folder, 4, &format!("train --out {out} --resume")) else { return output };
    let resumed = command.output().unwrap();
    let said = text(&resumed.stderr);
    assert!(resumed.status.success() && said.contains("resuming after step"), "{said}");
    assert!(!said.contains("resuming after step 0 "), "{said}");
    assert!(model(folder, out) == model(folder, "whole"), "a resumed run has different weights");
    output
}

#[test]
fn a_rank_that_is_killed_ends_the_job_and_the_run_goes_on_with_more_ranks() {
    let folder = folder();
    let Some((child, rank)) = started(folder.path(), "killed") else { return };
    signal(&rank, "-KILL");
    let output = ended(folder.path(), child, "killed");
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("rank 1"), "{said}");
}

#[test]
fn a_rank_that_is_asked_to_stop_stops_all_once_the_run_is_saved() {
    let folder = folder();
    let Some((child, rank)) = started(folder.path(), "stopped") else { return };
    signal(&rank, "-TERM");
    let output = ended(folder.path(), child, "stopped");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert_eq!(said.matches("the run is saved at step").count(), 1, "{said}");
}
