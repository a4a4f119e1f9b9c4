//! Data-parallel training on several processes, the ranks of a run, each of which works on a part of every batch.

mod launcher;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(test)]
mod tests;

#[cfg(feature = "mpi")]
pub use mpi::Mpi;

use super::gradients::Pieces;
use super::{Loss, LossGradients, Observer, StepEvent};
use crate::nn::Parameters;
use crate::{Error, Result, Rng};
use candle_core::{Device, Tensor, Var, backprop::GradStore};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use std::ops::{ControlFlow, Range};
use std::rc::Rc;
use std::time::Duration;

/// How long a failing rank waits before it aborts the others, so that rank 0 alone reports an error that all share.
const PATIENCE: Duration = Duration::from_millis(500);

/// Point-to-point messages between the ranks of a run, which arrive in the order in which they were sent.
pub trait Communicator: Debug {
    /// The index of this process: 0, 1, ...
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn size(&self) -> usize;

    /// Sends a message; may block until it is received.
    ///
    /// # Errors
    /// When the other rank is gone.
    fn send(&self, to: usize, message: &[u8]) -> Result<()>;

    /// Waits for the next message from another rank.
    ///
    /// # Errors
    /// Same as [`Self::send`].
    fn receive(&self, from: usize) -> Result<Vec<u8>>;

    /// Ends all ranks at once, since they would wait for this one.
    fn abort(&self, status: u8) -> !;
}

/// The ranks of a run, seen from one of them.
///
/// All ranks run the same loop from the same seed on the same data. [`Self::gradients`] divides the
/// pieces of each batch among them and sums in the order of the pieces, so that the weights are bit for bit the same
/// on every rank, and, with 4 pieces, the same for 1, 2 and 4 ranks (on processors that
/// use the same kernels). Only rank 0 writes files. What a single rank knows, such as a user's request
/// to stop, is shared through [`Self::any`].
///
/// All ranks must call the same methods in the same order.
///
/// The lines that mention `ranks` make this loop run on any number of ranks:
///
/// ```
/// use candle_core::{DType, Device};
/// use flows_core::nn::{Mode, NetworkConfig, Output, Parameters};
/// use flows_core::train::{Checkpoint, OptimizerConfig, Ranks, TrainConfig, Trainer};
/// use flows_core::{Error, Result, Rng};
///
/// fn train(ranks: &Ranks) -> Result<()> {
///     let mut rng = Rng::seed(0);
///     let parameters = Parameters::new(DType::F32, &Device::Cpu, rng.fork());
///     let output = Output { width: 1, gain: 1.0, bias: None };
///     let network = NetworkConfig::mlp([32]).build(2, None, output, &parameters.scope())?;
///     let config = TrainConfig { steps: 100, optimizer: OptimizerConfig::adam(1e-2), ..Default::default() };
/// #   let folder = std::env::temp_dir().join(format!("flows-ranks-{}", std::process::id()));
///     let checkpoint = Checkpoint::new(&folder, "sum", &())?.written_by(ranks);
///     let mut trainer = Trainer::new(&parameters, config, rng.fork())?.with_checkpoint(checkpoint);
///     ranks.check_same(&parameters)?;
///     let weights = parameters.trainable();
///     let loss = |_, rng: &mut Rng| {
///         let x = rng.normal_tensor((256, 2), DType::F32, &Device::Cpu)?;
///         // Four pieces keep up to four ranks busy.
///         ranks.gradients(&weights, 256, 4, rng, |rows, _| {
///             let x = x.narrow(0, rows.start, rows.len())?;
///             let y = network.forward(&x, None, &mut Mode::evaluation())?;
///             Ok((y - x.sum_keepdim(1)?)?.sqr()?.mean_all()?)
///         })
///     };
///     trainer.run(loss, None, &mut ranks.observer(&mut ()))?;
/// #   std::fs::remove_dir_all(folder).ok();
///     if ranks.is_first() {
///         println!("trained on {} ranks", ranks.size());
///     }
///     Ok(())
/// }
///
/// // A single process unless `mpirun` or `srun` has started it.
/// let ranks = Ranks::start()?;
/// let report = |error: &Error| {
///     eprintln!("rank {}: {error}", ranks.rank());
///     1
/// };
/// ranks.finish(train(&ranks), report)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ranks(Option<Rc<dyn Communicator>>);

impl Ranks {
    /// A run of one process.
    pub fn alone() -> Self {
        Self(None)
    }

    /// A run of several processes.
    pub fn new(communicator: impl Communicator + 'static) -> Self {
        Self(if communicator.size() > 1 { Some(Rc::new(communicator)) } else { None })
    }

    /// The index of this process.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |ranks| ranks.rank())
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |ranks| ranks.size())
    }

    /// Whether this is rank 0, which writes the files.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// The range of `count` items that this rank works on.
    pub fn part(&self, count: usize) -> Range<usize> {
        let (rank, size) = (self.rank(), self.size());
        // Products of 128 bits: counts go up to the size of memory.
        let bound = |rank: usize| (count as u128 * rank as u128 / size as u128) as usize;
        bound(rank)..bound(rank + 1)
    }

    /// [`LossGradients::of_pieces`] with the pieces divided among the ranks: all get bit for bit the same gradients of
    /// `weights`. A batch of one piece is processed by every rank.
    ///
    /// # Errors
    /// Any error from `loss` on any rank, and when a rank is gone.
    pub fn gradients<L: Loss>(
        &self,
        weights: &[(String, Var)],
        rows: usize,
        pieces: usize,
        rng: &mut Rng,
        loss: impl Fn(Range<usize>, &mut Rng) -> Result<L> + Sync,
    ) -> Result<LossGradients> {
        if self.0.is_none() || pieces <= 1 || rows <= 1 {
            return LossGradients::of_pieces(rows, pieces, rng, loss);
        }
        let pieces = Pieces::cut(rows, pieces, rng);
        let parts = pieces.gradients(self.part(pieces.len()), loss);
        let (parts, infinite) = self.agree(parts, |parts| parts.iter().any(|(part, _)| part.gradients.is_none()))?;
        // As bits, which JSON keeps exactly; none until a rank has had a piece.
        let value = self.fold(|before: Option<Option<u64>>| {
            let mut values =
                before.flatten().map(f64::from_bits).into_iter().chain(parts.iter().map(|(part, _)| part.value));
            let first = values.next();
            Ok(first.map(|first| values.fold(first, |sum, value| sum + value).to_bits()))
        })?;
        let value = value.map_or(f64::NAN, f64::from_bits);
        if infinite {
            return Ok(LossGradients { value, gradients: None });
        }
        // Candle's gradients and those accumulated in place are summed separately, as in one process.
        let apart = |(part, sums): (LossGradients, crate::ops::Sums)| {
            let mut summed = GradStore::default();
            sums.finish(&mut summed)?;
            Ok([part.gradients.unwrap_or_default(), summed])
        };
        let mut parts = parts.into_iter().map(apart).collect::<Result<Vec<_>>>()?;
        let totals = self.fold_each(weights.len(), |i, before| {
            let var = &weights[i].1;
            let mut totals = before.map_or_else(|| Ok([None, None]), |before| decode(before, var))?;
            for part in &mut parts {
                for (total, store) in totals.iter_mut().zip(part) {
                    if let Some(gradient) = store.remove(var) {
                        *total = Some(match total.take() {
                            Some(total) => (total + gradient)?,
                            None => gradient,
                        });
                    }
                }
            }
            encode(&totals)
        })?;
        let mut gradients = GradStore::default();
        for ((_, var), total) in weights.iter().zip(totals) {
            let total = match decode(total, var)? {
                [Some(a), Some(b)] => Some((a + b)?),
                [a, b] => a.or(b),
            };
            total.and_then(|total| gradients.insert(var, total));
        }
        Ok(LossGradients { value, gradients: Some(gradients) })
    }

    /// Whether `own` is true on any rank. An error on one rank is an error on all.
    ///
    /// # Errors
    /// This rank's error, or one that names the rank that failed.
    pub fn any(&self, own: Result<bool>) -> Result<bool> {
        Ok(self.agree(own, |own| *own)?.1)
    }

    /// This rank's value, if no rank has failed, and whether `holds` is true of any rank's value.
    fn agree<T>(&self, own: Result<T>, holds: impl Fn(&T) -> bool) -> Result<(T, bool)> {
        let failure = own.as_ref().err().map(|error| format!("rank {} of the run failed: {error}", self.rank()));
        let (any, failed) = self.fold(|before: Option<(bool, Option<String>)>| {
            let (any, failed) = before.unwrap_or_default();
            Ok((any || own.as_ref().is_ok_and(&holds), failed.or(failure)))
        })?;
        let own = own?;
        failed.map_or(Ok((own, any)), |message| Err(Error::Io(message)))
    }

    /// The result of `own` on rank 0, the only rank that calls it: for example a random seed, or the contents of a
    /// file.
    ///
    /// # Errors
    /// The error from `own`, on all ranks, and when a rank is gone.
    pub fn of_first<T: Serialize + DeserializeOwned>(&self, own: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.0.is_none() {
            return own();
        }
        let (own, _) = self.agree(self.is_first().then(own).transpose(), |_| false)?;
        // A list, since JSON does not distinguish values such as `()` from none.
        let mut first = self.fold(|before: Option<Vec<T>>| Ok(before.unwrap_or(own.into_iter().collect())))?;
        first.pop().ok_or_else(|| Error::Internal("rank 0 has sent no value to the others".into()))
    }

    /// The values of all ranks, in order of rank.
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn all<T: Serialize + DeserializeOwned>(&self, own: T) -> Result<Vec<T>> {
        self.fold(|before: Option<Vec<T>>| Ok(before.into_iter().flatten().chain([own]).collect()))
    }

    /// Checks that all ranks have bit for bit the same weights and buffers, as they must when a run begins.
    ///
    /// # Errors
    /// When they differ, or a rank is gone.
    pub fn check_same(&self, parameters: &Parameters) -> Result<()> {
        if self.0.is_none() {
            return Ok(());
        }
        let mut sum = 0;
        for (_, tensor) in parameters.tensors() {
            sum = crc32c::crc32c_append(sum, &safetensors::View::data(&tensor.to_device(&Device::Cpu)?));
        }
        let sums = self.all(sum)?;
        match sums.iter().position(|sum| *sum != sums[0]) {
            Some(rank) => Err(Error::Data(format!(
                "rank {rank} begins with different weights from rank 0: start all ranks with the same program, \
                 settings and data, on processors of the same kind"
            ))),
            None => Ok(()),
        }
    }

    /// The results of `work` for `count` items, in order, on all ranks: each rank computes those of a range that begins
    /// at a multiple of `unit`.
    ///
    /// # Errors
    /// Any error from `work` on any rank, and when a rank is gone.
    pub fn divide(
        &self,
        count: usize,
        unit: usize,
        work: impl FnOnce(Range<usize>) -> Result<Vec<f64>>,
    ) -> Result<Vec<f64>> {
        if self.0.is_none() {
            return work(0..count);
        }
        let units = self.part(count.div_ceil(unit));
        let [start, end] = [units.start, units.end].map(|bound| count.min(bound * unit));
        let (own, _) = self.agree(work(start..end), |_| false)?;
        self.gather(&own)
    }

    /// The numbers of all ranks, concatenated in order of rank.
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn gather(&self, own: &[f64]) -> Result<Vec<f64>> {
        let own = own.iter().flat_map(|value| value.to_le_bytes());
        let all = self.fold_each(1, |_, before| Ok(before.into_iter().flatten().chain(own.clone()).collect()))?;
        let value = |bytes: &[u8]| f64::from_le_bytes(std::array::from_fn(|i| bytes[i]));
        Ok(all.concat().chunks_exact(8).map(value).collect())
    }

    /// An observer that ends the run on all ranks when `own` ends it on one.
    pub fn observer<'a>(&'a self, own: &'a mut dyn Observer) -> impl Observer + 'a {
        move |event: &StepEvent| {
            let stop = own.step(event).map(|flow| flow.is_break());
            Ok(if self.any(stop)? { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        }
    }

    /// Ends the processes of all ranks if this one ended with an error, since they would wait for
    /// it. `report` shows the error and returns the exit status. [`Error::Interrupted`] is returned instead: all ranks
    /// have it, so none waits.
    pub fn finish<T>(&self, result: Result<T>, report: impl FnOnce(&Error) -> u8) -> Result<T> {
        match (&self.0, result) {
            (Some(ranks), Err(error)) if !matches!(error, Error::Interrupted(_)) => {
                if !self.is_first() {
                    std::thread::sleep(PATIENCE);
                }
                ranks.abort(report(&error))
            }
            (_, result) => result,
        }
    }

    /// A value passed from rank to rank, each of which maps it to the next; all get the last value.
    fn fold<T: Serialize + DeserializeOwned>(&self, next: impl FnOnce(Option<T>) -> Result<T>) -> Result<T> {
        let broken =
            |error: serde_json::Error| Error::Internal(format!("a message between ranks is invalid ({error})"));
        let mut next = Some(next);
        let values = self.fold_each(1, |_, before| {
            let before = before.map(|before| serde_json::from_slice(&before)).transpose().map_err(broken)?;
            let next = next.take().ok_or_else(|| Error::Internal("a message was requested twice".into()))?;
            serde_json::to_vec(&next(before)?).map_err(broken)
        })?;
        serde_json::from_slice(&values.concat()).map_err(broken)
    }

    /// [`Self::fold`] of `count` messages, pipelined: while one rank works on a message, the rank before it works on
    /// the next.
    fn fold_each(
        &self,
        count: usize,
        mut next: impl FnMut(usize, Option<Vec<u8>>) -> Result<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>> {
        let Some(ranks) = &self.0 else { return (0..count).map(|i| next(i, None)).collect() };
        let (rank, last) = (ranks.rank(), ranks.size() - 1);
        let mut messages = Vec::new();
        for i in 0..count {
            let before = if rank > 0 { Some(ranks.receive(rank - 1)?) } else { None };
            let message = next(i, before)?;
            if rank < last {
                ranks.send(rank + 1, &message)?;
            } else {
                messages.push(message);
            }
        }
        // The results go back, from the last rank to the first.
        for i in 0..count {
            if rank < last {
                messages.push(ranks.receive(rank + 1)?);
            }
            if rank > 0 {
                ranks.send(rank - 1, &messages[i])?;
            }
        }
        Ok(messages)
    }
}

/// Two optional gradients of one weight, as bytes.
fn encode(gradients: &[Option<Tensor>; 2]) -> Result<Vec<u8>> {
    let mut bytes: Vec<u8> = gradients.iter().map(|gradient| u8::from(gradient.is_some())).collect();
    for gradient in gradients.iter().flatten() {
        bytes.extend_from_slice(&safetensors::View::data(&gradient.to_device(&Device::Cpu)?));
    }
    Ok(bytes)
}

fn decode(bytes: Vec<u8>, var: &Var) -> Result<[Option<Tensor>; 2]> {
    let size = var.elem_count() * var.dtype().size_in_bytes();
    let tensor = |bytes: &[u8]| Tensor::from_raw_buffer(bytes, var.dtype(), var.dims(), var.device());
    let (has, values) = bytes.split_at(bytes.len().min(2));
    Ok(match has {
        [0, 0] => [None, None],
        [1, 0] if values.len() == size => [Some(tensor(values)?), None],
        [0, 1] if values.len() == size => [None, Some(tensor(values)?)],
        [1, 1] if values.len() == 2 * size => [Some(tensor(&values[..size])?), Some(tensor(&values[size..])?)],
        _ => {
            return Err(Error::Internal(
                "the ranks of the run do not train the same model: start all with the same program and settings".into(),
            ));
        }
    })
}
