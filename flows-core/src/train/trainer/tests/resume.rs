//! Exact resume, training files, malformed files.

use super::*;
use crate::files::load_model;

#[test]
fn a_resumed_run_is_the_same_bit_for_bit() {
    for (i, config) in configs().into_iter().enumerate() {
        // Both the last weights and the best ones.
        let config = TrainConfig { keep_best: i % 2 == 0, ema: config.ema.filter(|_| i != 1), ..config };
        let folder = tempfile::tempdir().unwrap();
        let whole = Model::new();
        let mut unbroken = trainer(&whole, &config, &folder.path().join("a"), 5);
        let mut events = Record::default();
        assert_eq!(train(&whole, &mut unbroken, &mut events).unwrap(), Outcome::Finished);

        let first = Model::new();
        let place = folder.path().join("b");
        let stopped = train(&first, &mut trainer(&first, &config, &place, 5), &mut StopAt(11)).unwrap();
        assert_eq!(stopped, Outcome::Interrupted);
        let second = Model::new();
        crate::testing::perturb(&second.parameters, 1.0, &mut Rng::seed(9)).unwrap();
        // The model file beside it is ignored, even if malformed.
        std::fs::write(place.join("model.safetensors"), b"").unwrap();
        let mut resumed = trainer(&second, &config, &place, 77);
        assert_eq!(resumed.resume().unwrap(), 11);
        let mut rest = Record::default();
        assert_eq!(train(&second, &mut resumed, &mut rest).unwrap(), Outcome::Finished);

        assert_eq!(whole.bits(), second.bits(), "{config:?}");
        let key = |e: &StepEvent| (e.step, e.loss.to_bits(), e.lr.to_bits(), e.validation.map(f64::to_bits));
        assert_eq!(
            events.0[11..].iter().map(key).collect::<Vec<_>>(),
            rest.0.iter().map(key).collect::<Vec<_>>(),
            "{config:?}"
        );
        // The model file holds the weights that the model ended with.
        let file = load_model(&place.join("model.safetensors")).unwrap();
        assert_eq!(file.step, Some(20));
        second.parameters.load(&file.tensors).unwrap();
        assert_eq!(whole.bits(), second.bits());
        assert!(events.0.last().unwrap().loss < events.0[0].loss);
    }
}

#[test]
fn the_layout_of_a_training_file_is_stable() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::new();
    train(&model, &mut trainer(&model, &configs()[0], folder.path(), 5), &mut ()).unwrap();
    let bytes = std::fs::read(folder.path().join("training.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    let mut keys: Vec<_> = metadata.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["config", "format", "kind", "state", "step", "version"]);
    assert_eq!((metadata["format"].as_str(), metadata["step"].as_str()), ("flows-training", "20"));
    let state: serde_json::Value = serde_json::from_str(&metadata["state"]).unwrap();
    assert!(state["progress"]["rng"].is_object() && state["scheduler"]["reductions"].is_u64());
    let weights = ["first.weight", "first.bias", "second.weight", "second.bias"];
    let of = |prefix: &str| weights.map(|name| format!("{prefix}.{name}"));
    let moments = [of("optimizer.m"), of("optimizer.v"), of("ema"), of("weights"), of("best")].concat();
    let rest = ["optimizer.steps", "ema", "weights.seen", "best.seen"].map(String::from).to_vec();
    let mut want = [moments, rest].concat();
    let mut names: Vec<_> = header.tensors().into_keys().collect();
    names.sort_unstable();
    want.sort_unstable();
    assert_eq!(names, want);
}

#[test]
fn groups_are_trained_and_resumed_with_their_rates() {
    use crate::train::ParameterGroup;
    let config = TrainConfig {
        groups: vec![ParameterGroup::frozen("first"), ParameterGroup::new("second.bias", 0.1)],
        ..configs().remove(1)
    };
    let folder = tempfile::tempdir().unwrap();
    let whole = Model::new();
    let start = whole.bits();
    train(&whole, &mut trainer(&whole, &config, &folder.path().join("a"), 5), &mut ()).unwrap();
    let end = whole.bits();
    assert_eq!((&start[..2], start[2] == end[2], start[3] == end[3]), (&end[..2], false, false));
    let place = folder.path().join("b");
    let model = Model::new();
    train(&model, &mut trainer(&model, &config, &place, 5), &mut StopAt(7)).unwrap();
    let model = Model::new();
    let mut resumed = trainer(&model, &config, &place, 8);
    resumed.resume().unwrap();
    train(&model, &mut resumed, &mut ()).unwrap();
    assert_eq!(model.bits(), end);
    let all = TrainConfig { groups: vec![ParameterGroup::frozen("first"), ParameterGroup::frozen("second")], ..config };
    let error = Trainer::new(&model.parameters, all, Rng::seed(0)).unwrap_err();
    assert!(error.to_string().contains("no weights to train"), "{error}");
}

#[test]
fn malformed_files_are_named_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::new();
    let config = configs().remove(0);
    train(&model, &mut trainer(&model, &config, folder.path(), 0), &mut StopAt(4)).unwrap();
    let path = folder.path().join("training.safetensors");
    let whole = std::fs::read(&path).unwrap();

    let other = Model::new();
    let before = other.bits();
    let refused = |config: &TrainConfig, part: &str| {
        let mut trainer = trainer(&other, config, folder.path(), 3);
        let error = trainer.resume().unwrap_err();
        assert!(matches!(error, Error::File { .. }) && error.to_string().contains(part), "{error}");
        assert_eq!((other.bits(), trainer.step()), (before.clone(), 0));
    };
    for keep in [0, 5, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..keep]).unwrap();
        refused(&config, if keep == 0 { "is empty" } else { "cut short" });
    }
    let garbage: Vec<u8> = (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&path, garbage).unwrap();
    refused(&config, "not a safetensors file");
    std::fs::copy(folder.path().join("model.safetensors"), &path).unwrap();
    refused(&config, "is a model");
    std::fs::write(&path, &whole).unwrap();
    refused(&TrainConfig { optimizer: OptimizerConfig::sgd(0.1), ..config.clone() }, "another optimiser");
    std::fs::remove_file(&path).unwrap();
    refused(&config, "does not exist");

    std::fs::write(&path, &whole).unwrap();
    let elsewhere = Checkpoint::new(folder.path(), "demo", &serde_json::json!({ "width": 17 })).unwrap();
    let mut trainer = Trainer::new(&other.parameters, config.clone(), Rng::seed(0)).unwrap().with_checkpoint(elsewhere);
    assert!(trainer.resume().unwrap_err().to_string().contains("other settings"));
}

#[test]
fn only_changeable_settings_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::new();
    let trainer = |width: u32, tolerance: f64, changeable| {
        let settings = serde_json::json!({ "width": width, "solver": { "tolerance": tolerance, "order": 5 } });
        let checkpoint = Checkpoint::new(folder.path(), "demo", &settings).unwrap().changeable(changeable);
        let config = configs().remove(0);
        Trainer::new(&model.parameters, config, Rng::seed(0)).unwrap().with_checkpoint(checkpoint)
    };
    train(&model, &mut trainer(16, 1e-3, &[]), &mut StopAt(4)).unwrap();
    assert_eq!(trainer(16, 1e-3, &[]).resume().unwrap(), 4);
    for (width, tolerance, changeable, goes_on) in [
        (16, 1e-5, &["solver.tolerance"][..], true),
        (16, 1e-5, &["solver"], true),
        (17, 1e-3, &["width"], true),
        (16, 1e-5, &[], false),
        (16, 1e-5, &["tolerance", "solver.order"], false),
        (17, 1e-5, &["solver"], false),
    ] {
        let resumed = trainer(width, tolerance, changeable).resume();
        assert_eq!(resumed.is_ok(), goes_on, "{changeable:?}");
    }
}
