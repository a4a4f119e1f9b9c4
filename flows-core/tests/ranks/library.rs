//! A custom training loop on several ranks.

use super::mpirun;
use candle_core::{DType, Device};
use flows_core::data::images::{Warp, uci_digits};
use flows_core::nn::{Mode, NetworkConfig, Output, Parameters};
use flows_core::train::{Checkpoint, OptimizerConfig, Ranks, TrainConfig, Trainer};
use flows_core::{Error, Result, Rng};
use std::path::Path;
use std::process::Output as Ended;

const ROWS: usize = 512;

/// Trains a network on augmented images in `folder` for 8 steps of 4 pieces.
fn train(ranks: &Ranks, folder: &Path) -> Result<()> {
    let mut rng = Rng::seed(0);
    let parameters = Parameters::new(DType::F32, &Device::Cpu, rng.fork());
    let output = Output { width: 1, gain: 1.0, bias: None };
    let network = NetworkConfig::mlp([32, 32]).build(64, None, output, &parameters.scope())?;
    let config = TrainConfig { steps: 8, optimizer: OptimizerConfig::adam(1e-3), ..Default::default() };
    let checkpoint = Checkpoint::new(folder, "demo", &0)?.written_by(ranks);
    let mut trainer = Trainer::new(&parameters, config, rng.fork())?.with_checkpoint(checkpoint);
    let weights = parameters.trainable();
    let (digits, warp) = (uci_digits()?, Warp { shift: 0.1, rotation: 15.0, zoom: 0.1, shear: 0.02 });
    let loss = |step: u64, rng: &mut Rng| {
        if step == 4 && ranks.rank() == 1 && std::env::var_os(FAIL).is_some() {
            return Err(Error::Data("a row of rank 1 is bad".into()));
        }
        let batch: Vec<u32> = rng.permutation(digits.len()).into_iter().take(ROWS).collect();
        let images = digits.augmented(&batch, true, &warp, rng);
        ranks.gradients(&weights, ROWS, 4, rng, |rows, rng| {
            let x = (images.rows(rows)?.to_dtype(DType::F32)?.flatten_from(1)? / 255.0)?;
            let noise = rng.normal_tensor((x.dim(0)?, 1), DType::F32, &Device::Cpu)?;
            let y = network.forward(&x, None, &mut Mode::evaluation())?;
            Ok(((y - x.narrow(1, 27, 1)?)? + noise)?.sqr()?.mean_all()?)
        })
    };
    trainer.run(loss, None, &mut ranks.observer(&mut ()))?;
    Ok(())
}

const FOLDER: &str = "FLOWS_TEST_RANKS";
const FAIL: &str = "FLOWS_TEST_RANKS_FAIL";

/// The process that the test below starts.
#[test]
#[ignore = "started by the other test"]
fn rank() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let ranks = Ranks::start().unwrap();
    let report = |error: &Error| {
        eprintln!("rank {}: {error}", ranks.rank());
        1
    };
    ranks.finish(train(&ranks, Path::new(&folder)), report).unwrap();
}

/// Runs the test [`rank`] as this many processes; none if there is no `mpirun`.
fn start(ranks: usize, folder: &Path, fail: bool) -> Option<Ended> {
    let mut command = mpirun(ranks, &std::env::current_exe().unwrap())?;
    command.args(["--exact", "library::rank", "--ignored", "--nocapture"]).env(FOLDER, folder);
    if fail {
        command.env(FAIL, "1");
    }
    Some(command.output().unwrap())
}

#[test]
fn weights_are_the_same_bit_for_bit_on_1_2_and_4_processes() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    train(&Ranks::alone(), &place("1")).unwrap();
    let model = |name: &str| std::fs::read(place(name).join("model.safetensors")).unwrap();
    for ranks in [2, 4] {
        let name = ranks.to_string();
        let Some(output) = start(ranks, &place(&name), false) else { return };
        assert!(output.status.success(), "{output:?}");
        assert!(model(&name) == model("1"), "{ranks} ranks end with other weights than one");
    }
    // A rank that fails ends the job and says why.
    let Some(output) = start(2, &place("failed"), true) else { return };
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && message.contains("rank 1: a row of rank 1 is bad"), "{output:?}");
    assert!(!place("failed").join("model.safetensors").exists());
}
