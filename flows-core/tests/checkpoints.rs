//! Checkpoints of other programs, read from golden cases: all layouts in which weights are published, and files that
//! must be refused.

use candle_core::{DType, Device, Tensor};
use flows_core::files::Checkpoint;
use flows_core::testing::difference;
use flows_core::{Error, Result};
use peak_alloc::PeakAlloc;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Serialises the tests of this file, which would measure each other's memory.
static ALONE: Mutex<()> = Mutex::new(());

/// The folder of these golden cases, and the cases in it; none where there are no golden cases.
fn cases(name: &str) -> Option<(PathBuf, Vec<Value>)> {
    let named = std::env::var_os("FLOWS_GOLDEN").map(PathBuf::from);
    let root = named.clone().unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden").into());
    if named.is_none() && !root.exists() {
        eprintln!("there are no golden cases at {}: passed over; FLOWS_GOLDEN names another", root.display());
        return None;
    }
    let folder = root.join("waveglow").join(name);
    let text = std::fs::read_to_string(folder.join("cases.json"));
    let text = text.unwrap_or_else(|e| panic!("{}: {e}; FLOWS_GOLDEN must name the golden cases", folder.display()));
    let list: Value = serde_json::from_str(&text).expect("cases in JSON");
    let cases = list["cases"].as_array().expect("a list of cases").clone();
    assert!(!cases.is_empty(), "{} has no cases", folder.display());
    Some((folder, cases))
}

fn field<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap_or_else(|| panic!("{case} has no `{name}`"))
}

/// Weights by name.
type Weights = BTreeMap<String, Tensor>;

/// The weights of a checkpoint by names that all layouts share, in f64: without prefixes, with weight norm applied, and
/// with the layers together that some layouts keep apart.
fn weights(path: &Path) -> Result<Weights> {
    let checkpoint = Checkpoint::open(path)?;
    let state = checkpoint.state_dict()?;
    let mut tensors = BTreeMap::new();
    let read = state.read_tensors()?;
    assert_eq!(read.len(), state.tensors().len());
    for stored in state.tensors() {
        let tensor = &read[stored.name()];
        assert_eq!((tensor.dims(), tensor.dtype()), (stored.shape(), stored.dtype()?), "{}", stored.name());
        let mut name = stored.name();
        for prefix in ["module.", "1.", "waveglow.", "squeezewave."] {
            name = name.strip_prefix(prefix).unwrap_or(name);
        }
        let name = name.replace("wavenet.", "WN.").replace("parametrizations.weight.original0", "weight_g");
        let name = name.replace("parametrizations.weight.original1", "weight_v");
        tensors.insert(name, tensor.to_dtype(DType::F64)?);
    }
    let normed: Vec<String> = tensors.keys().filter_map(|n| n.strip_suffix("_g").map(String::from)).collect();
    for name in normed {
        let (Some(g), Some(v)) = (tensors.remove(&format!("{name}_g")), tensors.remove(&format!("{name}_v"))) else {
            return Err(Error::Data(format!("`{name}` is not whole")));
        };
        let rows = v.flatten_from(1)?;
        let scale = (g.reshape(((), 1))? / rows.sqr()?.sum_keepdim(1)?.sqrt()?)?;
        tensors.insert(name, rows.broadcast_mul(&scale)?.reshape(v.dims())?);
    }
    for part in ["weight", "bias"] {
        for k in 0.. {
            let Some(end) = tensors.get(&format!("WN.{k}.end.{part}")) else { break };
            assert!(end.elem_count() > 0);
            let mut take = |layers: &str, i: usize| tensors.remove(&format!("WN.{k}.{layers}.{i}.{part}"));
            let conditions: Vec<Tensor> = (0..).map_while(|i| take("cond_layers", i)).collect();
            let skips: Vec<Tensor> = (0..).map_while(|i| take("skip_layers", i)).collect();
            let residuals: Vec<Tensor> = (0..).map_while(|i| take("res_layers", i)).collect();
            if !conditions.is_empty() {
                tensors.insert(format!("WN.{k}.cond_layer.{part}"), Tensor::cat(&conditions, 0)?);
            }
            for (i, skip) in skips.into_iter().enumerate() {
                let both = residuals.get(i).cloned().into_iter().chain([skip]).collect::<Vec<_>>();
                tensors.insert(format!("WN.{k}.res_skip_layers.{i}.{part}"), Tensor::cat(&both, 0)?);
            }
        }
    }
    Ok(tensors)
}

#[test]
fn all_layouts_hold_the_same_weights() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((folder, cases)) = cases("layouts") else { return };
    // The files that compute the same, those of safetensors first.
    let mut groups: BTreeMap<&str, Vec<(&Value, Weights)>> = BTreeMap::new();
    for case in &cases {
        let file = field(case, "file");
        let weights = weights(&folder.join(file)).unwrap_or_else(|e| panic!("{e}"));
        assert!(weights.len() > 20, "{file} has {} weights", weights.len());
        let group = groups.entry(field(case, "io")).or_default();
        let place = if file.ends_with(".safetensors") { 0 } else { group.len() };
        group.insert(place, (case, weights));
    }
    let mut compared = 0;
    for (io, group) in &groups {
        let ((_, first), rest) = group.split_first().expect("groups have members");
        for (case, weights) in rest {
            let file = field(case, "file");
            // Where something is folded into the weights, they differ.
            if case.get("borders").is_some() {
                continue;
            }
            for (name, want) in first {
                let got = weights.get(name).unwrap_or_else(|| panic!("{file} has no `{name}`"));
                let tolerance = if io.contains("16") { 2e-3 } else { 1e-6 };
                let off = difference(want, got).unwrap_or_else(|e| panic!("{file}, `{name}`: {e}"));
                assert!(off <= tolerance, "{file}: `{name}` differs by {off:e}");
                compared += 1;
            }
        }
    }
    assert!(compared > 1000, "{compared}");
}

/// What is beside the weights is there too: settings, classes, texts.
#[test]
fn settings_are_read() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((folder, cases)) = cases("layouts") else { return };
    let mut found = [0; 4];
    for case in &cases {
        let checkpoint = Checkpoint::open(folder.join(field(case, "file"))).unwrap_or_else(|e| panic!("{e}"));
        let note = field(case, "note").to_lowercase();
        if let Some(config) = checkpoint.root().get("config") {
            let config = config.to_json().unwrap_or_else(|e| panic!("{e}"));
            assert!(config["n_flows"].is_u64() && config["WN_config"]["n_channels"].is_u64(), "{config}");
            found[0] += 1;
        }
        if let Some(class) = checkpoint.state_dict().unwrap_or_else(|e| panic!("{e}")).class() {
            assert_eq!(class == "glow_old.WaveGlow", note.contains("glow_old"), "{class} in {case}");
            assert!(["WaveGlow", "SqueezeWave"].iter().any(|name| class.ends_with(name)), "{class}");
            found[1] += 1;
        }
        found[2] +=
            usize::from(checkpoint.metadata().get("model_config.yaml").is_some_and(|t| t.contains("n_group: 8")));
        found[3] += usize::from(checkpoint.metadata().contains_key("config"));
    }
    assert!(found.iter().all(|n| *n > 0), "{found:?}");
}

/// Faults of a model, which the reader of files does not know.
const OF_MODELS: [&str; 9] = [
    "wrong_dtype_int",
    "wrong_shape",
    "wrong_rank",
    "missing_tensor",
    "g_without_v",
    "unknown_tensor",
    "nan",
    "singular",
    "zero_norm",
];

#[test]
fn hostile_files_are_refused() {
    const LIMIT: usize = 100 << 20;
    // A loaded machine is slow; what is malicious would take minutes.
    const SECONDS: f64 = 30.0;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((folder, cases)) = cases("hostile") else { return };
    let mut failures = Vec::new();
    for case in &cases {
        let file = field(case, "file");
        let marker = case["marker"].as_str().map(Path::new);
        // One that is there already says nothing.
        marker.map(std::fs::remove_file);
        let (before, start) = (MEMORY.current_usage(), Instant::now());
        MEMORY.reset_peak_usage();
        let read = Checkpoint::open(folder.join(file)).and_then(|checkpoint| checkpoint.root().read_tensors());
        let (took, peak) = (start.elapsed(), MEMORY.peak_usage().saturating_sub(before));
        let is_of_model = OF_MODELS.iter().any(|name| file.strip_suffix(".pt") == Some(name));
        match read {
            Ok(_) if !is_of_model => failures.push(format!("{file} is read")),
            Err(error) if is_of_model => failures.push(format!("{file} is refused: {error}")),
            Err(error) if !error.is_bad_use() => failures.push(format!("{file}: {error}")),
            result => println!("{file}: {took:?}, {peak} bytes: {:?}", result.err().map(|e| e.to_string())),
        }
        if took.as_secs_f64() > SECONDS || peak > LIMIT {
            failures.push(format!("{file} takes {took:?} and {peak} bytes"));
        }
        if marker.is_some_and(Path::exists) {
            failures.push(format!("{file} was executed"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Text of a pickle.
fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A file of PyTorch before version 1.6, whose second storage is a gigabyte that is never read.
#[test]
fn only_what_is_asked_for_is_read() -> Result<()> {
    const LARGE: u32 = 1 << 28;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let tensor = |key: &str, count: u32| {
        let count = [b"J", &count.to_le_bytes()[..]].concat();
        let storage = [b"(", &text("storage")[..], b"ctorch\nFloatStorage\n", &text(key), &text("cpu"), &count, b"NtQ"];
        let shape = [b"K\0(", &count[..], b"t(K\x01t\x89}tR"].concat();
        [b"ctorch._utils\n_rebuild_tensor_v2\n(", &storage.concat()[..], &shape].concat()
    };
    let values = [&text("model")[..], b"}", &text("w"), &tensor("0", 3), b"s", &text("optimizer"), b"}", &text("m")];
    let values = [&values.concat()[..], &tensor("1", LARGE), b"s"].concat();
    let mut file = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}".to_vec();
    file.extend([&text("little_endian")[..], b"\x88s.\x80\x02}(", &values, b"u.\x80\x02]("].concat());
    file.extend([&text("0")[..], &text("1"), b"e."].concat());
    file.extend(3u64.to_le_bytes());
    [0.5f32, -1.0, 2.0].iter().for_each(|v| file.extend(v.to_le_bytes()));
    file.extend(u64::from(LARGE).to_le_bytes());
    let folder = tempfile::tempdir().map_err(|e| Error::Io(e.to_string()))?;
    let path = folder.path().join("large.pt");
    std::fs::write(&path, &file).map_err(|e| Error::file(&path, e))?;
    // The rest is a hole, which takes no room on the disk.
    let hole = std::fs::OpenOptions::new().write(true).open(&path);
    hole.and_then(|f| f.set_len(file.len() as u64 + 4 * u64::from(LARGE))).map_err(|e| Error::file(&path, e))?;
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let checkpoint = Checkpoint::open(&path)?;
    let read = checkpoint.state_dict()?.read_tensors()?;
    assert_eq!(difference(&Tensor::new(&[0.5f32, -1.0, 2.0], &Device::Cpu)?, &read["w"])?, 0.0);
    assert_eq!(checkpoint.root().tensors()[1].shape(), [LARGE as usize]);
    let took = MEMORY.peak_usage() - before;
    assert!(took < 1 << 20, "{took} bytes");
    Ok(())
}
