//! The layouts of published state dicts, brought to one: that of NVIDIA's code since September 2019.

use candle_core::{DType, Tensor};
use flows_core::{Error, Result};
use std::collections::{BTreeMap, HashMap};

/// The tensors of a state dict by their published names, each of which is taken once.
pub(super) struct StateDict(BTreeMap<String, Tensor>);

/// Prefixes of wrappers (data parallelism, mixed precision) and of NeMo's module.
const PREFIXES: [&str; 4] = ["module.", "1.", "waveglow.", "squeezewave."];

/// What else a checkpoint may hold that no flow uses: NeMo's spectrograms, the counters of batch norms, cached inverses.
const UNUSED: [&str; 3] = ["audio_to_melspec_precessor.", ".num_batches_tracked", ".W_inverse"];

impl StateDict {
    /// Brings names and shapes of a WaveGlow to one layout, in f32:
    ///
    /// - prefixes of wrappers are removed, NeMo's `wavenet.k` is `WN.k`;
    /// - normalized weights are `weight_v` and `weight_g`, as in PyTorch before 2.0, without a stale `weight`;
    /// - separate layers `cond_layers.i` are `cond_layer`, and `res_layers.i` and `skip_layers.i` `res_skip_layers.i`.
    ///
    /// # Errors
    /// When a tensor is not of real numbers, has a NaN or an infinity, or a part of another is missing.
    pub(super) fn of_waveglow(tensors: HashMap<String, Tensor>) -> Result<Self> {
        let mut named = BTreeMap::new();
        for (name, tensor) in tensors {
            if UNUSED.iter().any(|part| format!(".{name}").contains(part)) || name.starts_with(UNUSED[0]) {
                continue;
            }
            let name = renamed(&name);
            if !tensor.dtype().is_float() {
                let message =
                    format!("`{name}` is of {:?}: the weights of a WaveGlow are real numbers", tensor.dtype());
                return Err(Error::Data(message));
            }
            let tensor = tensor.to_dtype(DType::F32)?.contiguous()?;
            let sum = tensor.flatten_all()?.affine(0.0, 0.0)?.sum_all()?.to_scalar::<f32>()?;
            if sum != 0.0 {
                return Err(Error::Data(format!(
                    "`{name}` has numbers that are not finite: the checkpoint is damaged"
                )));
            }
            named.insert(name, tensor);
        }
        let mut state = Self(named);
        state.drop_stale_weights()?;
        state.join_layers()?;
        Ok(state)
    }

    /// A normalized weight is its direction and its length; the product beside them is that of another step.
    fn drop_stale_weights(&mut self) -> Result<()> {
        for name in self.0.keys().filter(|name| name.ends_with(".weight_g")).cloned().collect::<Vec<_>>() {
            let layer = name.trim_end_matches("_g").to_owned();
            let direction = format!("{layer}_v");
            let Some(v) = self.0.get(&direction) else { return Err(missing(&direction)) };
            let norms = v.flatten_from(1)?.sqr()?.sum(1)?;
            if norms.min(0)?.to_scalar::<f32>()? == 0.0 {
                let message = format!("`{direction}` has a row of zeros, which has no direction");
                return Err(Error::Data(format!("{message}: the checkpoint is damaged")));
            }
            self.0.remove(&layer);
        }
        Ok(())
    }

    /// Layers that older code kept apart, side by side; rows are normalized one by one, so that lengths and directions
    /// are joined as biases are.
    fn join_layers(&mut self) -> Result<()> {
        for k in 0..self.count("WN.") {
            let network = format!("WN.{k}");
            let layers = self.count(&format!("{network}.in_layers."));
            for part in ["weight", "weight_v", "weight_g", "bias"] {
                let of = |kind: &str, i: usize| format!("{network}.{kind}.{i}.{part}");
                let separate: Vec<String> = (0..layers).map(|i| of("cond_layers", i)).collect();
                self.join(&separate, format!("{network}.cond_layer.{part}"))?;
                for i in 0..layers {
                    let names = match self.0.contains_key(&of("res_layers", i)) {
                        true => vec![of("res_layers", i), of("skip_layers", i)],
                        false => vec![of("skip_layers", i)],
                    };
                    self.join(&names, of("res_skip_layers", i))?;
                }
            }
        }
        Ok(())
    }

    /// Replaces tensors by their rows one after another, if the first is there.
    fn join(&mut self, names: &[String], joined: String) -> Result<()> {
        if !names.first().is_some_and(|name| self.0.contains_key(name)) {
            return Ok(());
        }
        let parts: Vec<Tensor> = names.iter().map(|name| self.take(name)).collect::<Result<_>>()?;
        self.0.insert(joined, Tensor::cat(&parts, 0)?);
        Ok(())
    }

    /// The number of consecutive indices after a prefix: `WN.0.`, `WN.1.`, ...
    pub(super) fn count(&self, prefix: &str) -> usize {
        (0..).take_while(|i| self.0.keys().any(|name| name.starts_with(&format!("{prefix}{i}.")))).count()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The sizes of a tensor that must have so many axes.
    pub(super) fn dims<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let tensor = self.0.get(name).ok_or_else(|| missing(name))?;
        tensor.dims().try_into().map_err(|_| {
            let what = format!("`{name}` of the checkpoint");
            Error::shape(what, tensor.dims(), format!("a tensor of {N} axes"))
        })
    }

    pub(super) fn take(&mut self, name: &str) -> Result<Tensor> {
        self.0.remove(name).ok_or_else(|| missing(name))
    }

    /// # Errors
    /// When there is a tensor that was not taken.
    pub(super) fn check_empty(&self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => {
                let message = format!("the checkpoint has a tensor `{name}` that belongs to no layer of a WaveGlow");
                Err(Error::Data(format!("{message}: it is of another model, or of changed code")))
            }
        }
    }
}

fn missing(name: &str) -> Error {
    Error::Data(format!("the checkpoint has no `{name}`: it is no WaveGlow, or cut short"))
}

/// The name without prefixes, in the words of NVIDIA's code.
fn renamed(name: &str) -> String {
    let mut bare = name;
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| bare.strip_prefix(prefix)) {
        bare = rest;
    }
    let name = match bare.strip_prefix("wavenet.") {
        Some(rest) => format!("WN.{rest}"),
        None => bare.to_owned(),
    };
    name.replace(".parametrizations.weight.original0", ".weight_g")
        .replace(".parametrizations.weight.original1", ".weight_v")
}
