//! The state of a run in one file of named parts.

use crate::files::{TRAINING, metadata, read_tensors, write_tensors};
use crate::{Error, Result};
use candle_core::Tensor;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Everything needed to resume a run, in named parts: the weights of several networks, their
/// optimisers, generators, schedules, the position in a replay buffer.
///
/// A part is a set of tensors or a value that serialises to JSON. One file holds all parts, and a crash while it is
/// being written leaves the old file intact. Tensors and integers are restored exactly; save a
/// floating-point number as [`f64::to_bits`], since JSON may round its last digit.
///
/// ```
/// use candle_core::{DType, Device};
/// use flows_core::nn::{Init, Parameters};
/// use flows_core::train::{Optimizer, OptimizerConfig, Snapshot};
/// use flows_core::Rng;
/// # let folder = std::env::temp_dir().join(format!("flows-snapshot-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let path = folder.join("run.safetensors");
/// let mut rng = Rng::seed(0);
/// let critic = Parameters::new(DType::F32, &Device::Cpu, rng.fork());
/// critic.scope().weight("w", 3, Init::Normal(1.0))?;
/// let mut optimizer = Optimizer::new(OptimizerConfig::adam(1e-3), &critic)?;
/// Snapshot::new("demo", "{}")?
///     .with_tensors("critic", critic.tensors())?
///     .with_tensors("critic_optimizer", optimizer.state()?)?
///     .with_value("rng", &rng)?
///     .with_value("replay_position", &17_usize)?
///     .write(&path)?;
///
/// let snapshot = Snapshot::read(&path, "demo")?;
/// critic.load(&snapshot.tensors("critic"))?;
/// optimizer.load_state(&snapshot.tensors("critic_optimizer"))?;
/// assert_eq!(snapshot.value::<Rng>("rng")?, rng);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The file that it was read from.
    path: PathBuf,
    kind: String,
    config: String,
    step: Option<u64>,
    /// Tensors by the name of their part, a dot, and their name within the part.
    tensors: Vec<(String, Tensor)>,
    values: Map<String, Value>,
}

/// The remedy for a file that is not a snapshot of the run.
pub(super) const REMEDY: &str = "start a new run, without resuming";

impl Snapshot {
    /// An empty snapshot of a run of this kind with these settings (JSON).
    ///
    /// # Errors
    /// When the settings are not JSON.
    pub fn new(kind: impl Into<String>, config: impl Into<String>) -> Result<Self> {
        let (kind, config) = (kind.into(), config.into());
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&config) {
            return Err(Error::Config(format!("the settings of the run are not JSON ({error})")));
        }
        Ok(Self { path: PathBuf::new(), kind, config, step: None, tensors: Vec::new(), values: Map::new() })
    }

    /// Records the number of steps done in the metadata of the file.
    #[must_use]
    pub fn at_step(mut self, step: u64) -> Self {
        self.step = Some(step);
        self
    }

    /// Adds a part of tensors, which share their memory with the snapshot.
    ///
    /// # Errors
    /// When the name is empty, contains a dot, or is taken.
    pub fn with_tensors(mut self, part: &str, tensors: Vec<(String, Tensor)>) -> Result<Self> {
        self.check(part)?;
        self.tensors.extend(tensors.into_iter().map(|(name, tensor)| (format!("{part}.{name}"), tensor)));
        Ok(self)
    }

    /// Adds a part that is a value.
    ///
    /// # Errors
    /// Same as [`Self::with_tensors`], or when the value does not serialise to JSON.
    pub fn with_value(mut self, part: &str, value: &impl Serialize) -> Result<Self> {
        self.check(part)?;
        let value = serde_json::to_value(value).map_err(|error| {
            Error::Config(format!("the part `{part}` of a snapshot cannot be saved as JSON ({error})"))
        })?;
        self.values.insert(part.to_string(), value);
        Ok(self)
    }

    /// Adds tensors whose names already include their part.
    pub(super) fn with_named(mut self, tensors: Vec<(String, Tensor)>) -> Self {
        self.tensors.extend(tensors);
        self
    }

    fn check(&self, part: &str) -> Result<()> {
        let taken =
            self.values.contains_key(part) || self.tensors.iter().any(|(name, _)| of_part(part, name).is_some());
        if part.is_empty() || part.contains('.') || taken {
            return Err(Error::Config(format!(
                "a part of a snapshot cannot be named `{part}`: choose a name without a dot that no other part has"
            )));
        }
        Ok(())
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut metadata = metadata(TRAINING, &self.kind, &self.config);
        if let Some(step) = self.step {
            metadata.insert("step", step.to_string());
        }
        metadata.insert("state", Value::Object(self.values.clone()).to_string());
        write_tensors(path.as_ref(), &metadata, &self.tensors)
    }

    /// Reads the file of a run of this kind.
    ///
    /// # Errors
    /// When it is missing, malformed, or of a run of another kind.
    pub fn read(path: impl AsRef<Path>, kind: &str) -> Result<Self> {
        let path = path.as_ref();
        let mut contents = read_tensors(path, TRAINING, REMEDY)?;
        let mut take = |name: &str| contents.metadata.remove(name).unwrap_or_default();
        let (found, config, step, values) = (take("kind"), take("config"), take("step"), take("state"));
        if found != kind {
            return Err(Error::file(path, format!("holds a run of a model of kind `{found}`, not `{kind}`; {REMEDY}")));
        }
        let values = serde_json::from_str(&values).map_err(|error| {
            Error::file(path, format!("has no readable state of the run ({error}); {REMEDY}")).with_source(error)
        })?;
        let tensors = contents.tensors.into_iter().collect();
        Ok(Self { path: path.to_path_buf(), kind: found, config, step: step.parse().ok(), tensors, values })
    }

    /// The settings of the run as JSON.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// The number of steps done, if it was recorded.
    pub fn step(&self) -> Option<u64> {
        self.step
    }

    /// The tensors of a part; none if there is no such part.
    pub fn tensors(&self, part: &str) -> HashMap<String, Tensor> {
        let of_part = |(name, t): &(String, Tensor)| Some((of_part(part, name)?.to_string(), t.clone()));
        self.tensors.iter().filter_map(of_part).collect()
    }

    /// All tensors by their full names.
    pub(super) fn named(&self) -> HashMap<String, Tensor> {
        self.tensors.iter().cloned().collect()
    }

    /// The value of a part.
    ///
    /// # Errors
    /// When there is no such part, or it is of another type.
    pub fn value<T: DeserializeOwned>(&self, part: &str) -> Result<T> {
        let value = self.values.get(part).cloned().unwrap_or_default();
        serde_json::from_value(value).map_err(|error| {
            Error::file(&self.path, format!("has no usable part `{part}` ({error}); {REMEDY}")).with_source(error)
        })
    }
}

/// The name of a tensor within this part, if it belongs to it.
fn of_part<'a>(part: &str, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(part)?.strip_prefix('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::nn::{Init, Parameters};
    use crate::train::{Ema, EmaConfig, Optimizer, OptimizerConfig, ParameterGroup, Step, soft_update};
    use candle_core::{DType, Device};

    /// Two networks, each with an optimiser, and a target network that follows the second.
    struct Run {
        rng: Rng,
        stores: [Parameters; 3],
        weights: [Tensor; 3],
        steps: [Step; 2],
        position: u64,
    }

    impl Run {
        fn new(seed: u64) -> Result<Self> {
            let mut rng = Rng::seed(seed);
            let mut new = || Parameters::new(DType::F32, &Device::Cpu, rng.fork());
            let stores = [new(), new(), new()];
            let weight = |store: &Parameters| {
                store.scope().weight("bias", 3, Init::Normal(1.0))?;
                store.scope().weight("w", 3, Init::Normal(1.0))
            };
            let weights = [weight(&stores[0])?, weight(&stores[1])?, weight(&stores[2])?];
            let ema = Ema::new(EmaConfig::default(), &stores[0])?;
            let optimizer = Optimizer::new(OptimizerConfig::adam(0.1), &stores[0])?;
            let groups = [ParameterGroup::new("w", 0.5), ParameterGroup::frozen("bias")];
            let first = Step::new(optimizer.with_groups(&groups)?, &stores[0])?.with_ema(ema);
            let optimizer = Optimizer::over(OptimizerConfig::adamax(0.1), stores[1].trainable())?;
            let second = Step::new(optimizer, &stores[1])?.with_clip_norm(0.5)?;
            Ok(Self { rng, stores, weights, steps: [first, second], position: 0 })
        }

        fn advance(&mut self, steps: u64) -> Result<()> {
            for _ in 0..steps {
                let x = self.rng.normal_tensor(3, DType::F32, &Device::Cpu)?;
                let [a, b, target] = &self.weights;
                self.steps[0].minimize(|| Ok((a - &x)?.sqr()?.mean_all()?))?;
                self.steps[1].minimize(|| Ok(((b * a)? - target)?.sqr()?.mean_all()?))?;
                soft_update(&self.stores[2], &self.stores[1], 0.1)?;
                self.position += 1;
            }
            Ok(())
        }

        fn snapshot(&self) -> Result<Snapshot> {
            Snapshot::new("demo", "{}")?
                .with_tensors("actor", self.stores[0].tensors())?
                .with_tensors("critic", self.stores[1].tensors())?
                .with_tensors("target", self.stores[2].tensors())?
                .with_tensors("actor_step", self.steps[0].state()?)?
                .with_tensors("critic_step", self.steps[1].state()?)?
                .with_value("rng", &self.rng)?
                .with_value("position", &self.position)
        }

        fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
            for (store, part) in self.stores.iter().zip(["actor", "critic", "target"]) {
                store.load(&snapshot.tensors(part))?;
            }
            for (step, part) in self.steps.iter_mut().zip(["actor_step", "critic_step"]) {
                step.load_state(&snapshot.tensors(part))?;
            }
            self.rng = snapshot.value("rng")?;
            self.position = snapshot.value("position")?;
            Ok(())
        }

        fn bits(&self) -> Result<Vec<(String, Vec<u8>)>> {
            let tensors = self.snapshot()?.tensors.into_iter();
            Ok(tensors.map(|(name, t)| (name, safetensors::View::data(&t).into_owned())).collect())
        }
    }

    #[test]
    fn a_run_of_several_optimisers_resumes_bit_for_bit() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.safetensors");
        let mut whole = Run::new(0)?;
        whole.advance(4)?;
        whole.snapshot()?.at_step(4).write(&path)?;
        whole.advance(5)?;
        let mut resumed = Run::new(1)?;
        let snapshot = Snapshot::read(&path, "demo")?;
        assert_eq!((snapshot.step(), snapshot.config()), (Some(4), "{}"));
        resumed.restore(&snapshot)?;
        resumed.advance(5)?;
        assert_eq!(resumed.bits()?, whole.bits()?);
        assert_eq!((resumed.position, &resumed.rng), (9, &whole.rng));
        Ok(())
    }

    #[test]
    fn mismatched_snapshots_are_refused() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.safetensors");
        let run = Run::new(0)?;
        run.snapshot()?.write(&path)?;
        let said = |error: Error, part: &str| assert!(error.to_string().contains(part), "{error}");
        said(Snapshot::read(&path, "other").unwrap_err(), "kind `demo`, not `other`");
        let snapshot = Snapshot::read(&path, "demo")?;
        said(snapshot.value::<Rng>("position").unwrap_err(), "part `position`");
        said(snapshot.value::<u64>("temperature").unwrap_err(), "part `temperature`");
        said(run.stores[0].load(&snapshot.tensors("temperature")).unwrap_err(), "`bias` is missing");
        for name in ["", "a.b", "rng", "critic"] {
            said(snapshot.clone().with_value(name, &1).unwrap_err(), "without a dot");
        }
        said(Snapshot::new("demo", "{").unwrap_err(), "not JSON");
        Ok(())
    }
}
