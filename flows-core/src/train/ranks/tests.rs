//! Threads as ranks.

use super::super::{Checkpoint, EmaConfig, OptimizerConfig, Outcome, TrainConfig, Trainer};
use super::*;
use crate::nn::{Init, Mode, NetworkConfig, Output, Parameters};
use candle_core::DType;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A rank that is a thread.
#[derive(Debug)]
struct Thread {
    rank: usize,
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Receiver<Vec<u8>>>,
}

impl Communicator for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn send(&self, to: usize, message: &[u8]) -> Result<()> {
        self.to[to].send(message.to_vec()).map_err(|_| Error::Io(format!("rank {to} is gone")))
    }

    fn receive(&self, from: usize) -> Result<Vec<u8>> {
        self.from[from].recv().map_err(|_| Error::Io(format!("rank {from} is gone")))
    }

    fn abort(&self, status: u8) -> ! {
        panic!("rank {} ends with {status}", self.rank)
    }
}

/// The results of `run` on each of `size` ranks.
fn on<T: Send>(size: usize, run: impl Fn(&Ranks) -> T + Sync) -> Vec<T> {
    let mut to: Vec<Vec<_>> = (0..size).map(|_| Vec::new()).collect();
    let mut from: Vec<Vec<_>> = (0..size).map(|_| Vec::new()).collect();
    for to in &mut to {
        for from in &mut from {
            let (sender, receiver) = channel();
            to.push(sender);
            from.push(receiver);
        }
    }
    let ranks = to.into_iter().zip(from).enumerate().map(|(rank, (to, from))| Thread { rank, to, from });
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = ranks.map(|rank| scope.spawn(move || run(&Ranks::new(rank)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A network in f32 whose last weight is used only in the second half of a batch.
struct Model {
    parameters: Parameters,
    network: Box<dyn crate::nn::Network>,
    late: Tensor,
}

const ROWS: usize = 600;

impl Model {
    fn new() -> Result<Self> {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(1));
        let output = Output { width: 1, gain: 1.0, bias: None };
        let network = NetworkConfig::mlp([24, 24]).build(2, None, output, &parameters.scope().enter("net"))?;
        let late = parameters.scope().weight("late", 1, Init::Constant(0.5))?;
        Ok(Self { parameters, network, late })
    }

    fn gradients(&self, ranks: &Ranks, rng: &mut Rng) -> Result<LossGradients> {
        let x = rng.normal_tensor((ROWS, 2), DType::F32, &Device::Cpu)?;
        ranks.gradients(&self.parameters.trainable(), ROWS, 4, rng, |rows, rng| {
            let noise = rng.normal_tensor((rows.len(), 2), DType::F32, &Device::Cpu)?;
            let x = (x.narrow(0, rows.start, rows.len())? + (noise * 0.1)?)?;
            let y = self.network.forward(&x, None, &mut Mode::evaluation())?;
            let y = if rows.start >= ROWS / 2 { y.broadcast_mul(&self.late)? } else { y };
            Ok((y - x.narrow(1, 0, 1)?.sin()?)?.sqr()?.mean_all()?)
        })
    }

    fn bits(&self) -> Vec<u8> {
        self.parameters.tensors().iter().flat_map(|(_, t)| safetensors::View::data(t).into_owned()).collect()
    }
}

#[test]
fn gradients_are_the_same_bit_for_bit_on_any_number_of_ranks() {
    let run = |ranks: &Ranks| -> Result<_> {
        let model = Model::new()?;
        let mut rng = Rng::seed(2);
        let found = model.gradients(ranks, &mut rng)?;
        let Some(gradients) = found.gradients else { panic!("no gradients") };
        let gradients = model.parameters.trainable().into_iter().map(|(name, var)| {
            let gradient = gradients.get(&var).unwrap_or_else(|| panic!("none for {name}"));
            safetensors::View::data(gradient).into_owned()
        });
        Ok((found.value.to_bits(), gradients.collect::<Vec<_>>(), rng))
    };
    let one = run(&Ranks::alone()).unwrap();
    for size in [1, 2, 3, 4, 6] {
        for found in on(size, run) {
            assert!(found.unwrap() == one, "{size} ranks");
        }
    }
}

#[test]
fn a_run_resumes_with_another_number_of_ranks() {
    let train = |ranks: &Ranks, folder: &std::path::Path, steps: u64, resume: bool| -> Result<Vec<u8>> {
        let model = Model::new()?;
        let config = TrainConfig {
            steps,
            optimizer: OptimizerConfig::adam(1e-2),
            ema: Some(EmaConfig::default()),
            clip_norm: Some(1.0),
            ..Default::default()
        };
        let checkpoint = Checkpoint::new(folder, "demo", &0)?.written_by(ranks);
        let mut trainer = Trainer::new(&model.parameters, config, Rng::seed(3))?.with_checkpoint(checkpoint);
        if resume {
            trainer.resume()?;
        }
        // Only rank 0 is asked to stop.
        let mut own = |event: &StepEvent| {
            let stop = ranks.is_first() && event.step == 5;
            Ok(if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        let observer = &mut ranks.observer(&mut own);
        let outcome = trainer.run(|_, rng| model.gradients(ranks, rng), None, observer)?;
        assert_eq!(outcome, if resume || steps == 5 { Outcome::Finished } else { Outcome::Interrupted });
        Ok(model.bits())
    };
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let five = train(&Ranks::alone(), &place("alone"), 5, false).unwrap();
    assert!(on(2, |ranks| train(ranks, &place("ranks"), 9, false).unwrap()).iter().all(|bits| *bits == five));
    let alone = train(&Ranks::alone(), &place("alone"), 9, true).unwrap();
    assert!(on(4, |ranks| train(ranks, &place("ranks"), 9, true).unwrap()).iter().all(|bits| *bits == alone));
    let model = |name: &str| std::fs::read(place(name).join("model.safetensors")).unwrap();
    assert_eq!(model("alone"), model("ranks"));
}

#[test]
fn a_failure_on_one_rank_fails_on_all() {
    let w = || Var::from_tensor(&Tensor::new(&[1.0f64], &Device::Cpu).unwrap()).unwrap();
    let run = |ranks: &Ranks, factor: &(dyn Fn(usize) -> Result<f64> + Sync)| {
        let weights = [("w".to_string(), w())];
        ranks.gradients(&weights, 4, 4, &mut Rng::seed(0), |rows, _| {
            Ok((&*weights[0].1 * factor(rows.start)?)?.sum_all()?)
        })
    };
    let found = on(2, |ranks| run(ranks, &|row| Ok(if row == 3 { f64::INFINITY } else { 1.0 })).unwrap());
    assert!(found.iter().all(|found| found.gradients.is_none() && found.value.is_infinite()));
    let failing = |row| if row == 3 { Err(Error::Data("row 3 is bad".into())) } else { Ok(1.0) };
    let found = on(2, |ranks| run(ranks, &failing).unwrap_err().to_string());
    assert_eq!(found, ["rank 1 of the run failed: row 3 is bad", "row 3 is bad"]);
}

#[test]
fn collectives_agree_on_all_ranks() {
    for size in [1, 3] {
        let found = on(size, |ranks| {
            let part = ranks.part(7);
            let values: Vec<f64> = part.clone().map(|i| i as f64 / 3.0).collect();
            let last = ranks.rank() + 1 == ranks.size();
            ranks.of_first(|| Ok(())).unwrap();
            (ranks.gather(&values).unwrap(), ranks.of_first(|| Ok(ranks.rank())).unwrap(), ranks.any(Ok(last)).unwrap())
        });
        let all: Vec<f64> = (0..7).map(|i| f64::from(i) / 3.0).collect();
        assert!(found.iter().all(|found| *found == (all.clone(), 0, true)));
        assert!(on(size, |ranks| ranks.any(Ok(false)).unwrap()).iter().all(|any| !any));
        let ranks: Vec<usize> = (0..size).collect();
        assert!(on(size, |of| of.all(of.rank()).unwrap()).iter().all(|found| *found == ranks));
        let failed = on(size, |ranks| ranks.of_first(|| Err::<u8, _>(Error::Data("no seed".into()))).unwrap_err());
        assert!(failed.iter().all(|error| error.to_string().contains("no seed")));
    }
}

#[test]
fn divided_work_adds_up_to_the_whole() {
    for (size, count) in [(1, 7), (2, 7), (3, 7), (6, 7), (3, 0), (2, 64)] {
        let found = on(size, |ranks| {
            ranks.divide(count, 3, |part| {
                assert!(part.is_empty() || part.start.is_multiple_of(3));
                Ok(part.map(|i| i as f64).collect())
            })
        });
        let whole: Vec<f64> = (0..count).map(|i| i as f64).collect();
        assert!(found.into_iter().all(|found| found.unwrap() == whole), "{count} on {size}");
    }
    let failing = |part: Range<usize>| if part.contains(&5) { Err(Error::Data("5".into())) } else { Ok(Vec::new()) };
    assert!(on(3, |ranks| ranks.divide(7, 1, failing)).iter().all(Result::is_err));
}

#[test]
fn ranks_with_different_weights_are_refused() {
    let check = |odd: usize| {
        on(3, |ranks| {
            let model = Model::new().unwrap();
            if ranks.rank() == odd {
                let (_, weight) = model.parameters.trainable().pop().unwrap();
                weight.set(&weight.ones_like().unwrap()).unwrap();
            }
            ranks.check_same(&model.parameters).map_err(|error| error.to_string())
        })
    };
    assert!(check(3).iter().all(|found| found.is_ok()));
    assert!(check(1).iter().all(|found| found.as_ref().is_err_and(|error| error.contains("rank 1 begins"))));
}
