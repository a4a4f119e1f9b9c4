//! The ordered, named store of weights and buffers: what is saved is all there is.

use super::{Init, Mode};
use crate::ops::{MOST, elements};
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Shape, Tensor, Var};
use indexmap::IndexMap;
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard};

/// Weights and buffers of one model, by name, in the order of their making.
///
/// The store is shared: clones, and the [`Scope`]s made from it, see the same tensors.
///
/// ```
/// use candle_core::{DType, Device};
/// use flows_core::{nn::{Init, Parameters}, Rng};
/// let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
/// let scope = parameters.scope().enter("layer");
/// let weight = scope.weight("weight", (3, 2), Init::Normal(0.1))?;
/// assert_eq!(weight.dims(), [3, 2]);
/// assert_eq!(parameters.names(), ["layer.weight"]);
/// assert_eq!(parameters.count(), 6);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Parameters {
    dtype: DType,
    device: Device,
    store: Arc<Mutex<Store>>,
    /// Whether what is made is there already, and given out as constants.
    detached: bool,
}

#[derive(Debug)]
struct Store {
    entries: IndexMap<String, Entry>,
    rng: Rng,
    /// Elements of all entries.
    total: usize,
    /// The values of a file, each taken by the entry of its name.
    saved: Option<HashMap<String, Tensor>>,
}

#[derive(Debug)]
struct Entry {
    var: Var,
    trainable: bool,
}

impl Store {
    /// The value that a file has for an entry, if there is a file.
    fn take(&mut self, name: &str, shape: &Shape) -> Result<Option<Tensor>> {
        let Some(saved) = &mut self.saved else { return Ok(None) };
        fitting(name, saved.get(name), shape)?;
        Ok(saved.remove(name))
    }
}

/// The tensor of a file, once it is known to fit the entry of its name.
fn fitting<'a>(name: &str, tensor: Option<&'a Tensor>, shape: &Shape) -> Result<&'a Tensor> {
    match tensor {
        Some(tensor) if tensor.shape() == shape => Ok(tensor),
        Some(tensor) => Err(Error::shape(format!("`{name}`"), tensor.dims(), format!("{:?}", shape.dims()))),
        None => Err(Error::Config(format!("the tensor `{name}` is missing: {REMEDY}"))),
    }
}

fn superfluous(name: &str) -> Error {
    Error::Config(format!("the tensor `{name}` has no place in this model: {REMEDY}"))
}

const REMEDY: &str = "the file was made with other settings; use those, or another file";

impl Parameters {
    /// An empty store; weights will be of `dtype` on `device`, drawn from `rng`.
    pub fn new(dtype: DType, device: &Device, rng: Rng) -> Self {
        let store = Store { entries: IndexMap::new(), rng, total: 0, saved: None };
        Self { dtype, device: device.clone(), store: Arc::new(Mutex::new(store)), detached: false }
    }

    /// An empty store in which what is made has the values of these tensors, by name; what they lack
    /// cannot be made. The way to build a model from a file.
    pub fn saved(dtype: DType, device: &Device, tensors: HashMap<String, Tensor>) -> Self {
        let parameters = Self::new(dtype, device, Rng::seed(0));
        parameters.lock().saved = Some(tensors);
        parameters
    }

    /// The same store, the weights of which are constants to what is built from it: a second model that
    /// shares the first one's memory, follows its training, and keeps no graph.
    pub fn detached(&self) -> Self {
        Self { detached: true, ..self.clone() }
    }

    /// Passes if all tensors that [`Self::saved`] was given have found their place.
    ///
    /// # Errors
    /// When one has not.
    pub fn check_saved(&self) -> Result<()> {
        self.lock().saved.take().iter().flatten().next().map_or(Ok(()), |(name, _)| Err(superfluous(name)))
    }

    /// The scope without a prefix, where a model's construction starts.
    pub fn scope(&self) -> Scope {
        Scope { parameters: self.clone(), prefix: String::new() }
    }

    /// The type of the weights.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How many numbers training adjusts (buffers not counted).
    pub fn count(&self) -> usize {
        self.lock().entries.values().filter(|e| e.trainable).map(|e| e.var.elem_count()).sum()
    }

    /// The names of weights and buffers, in order.
    pub fn names(&self) -> Vec<String> {
        self.lock().entries.keys().cloned().collect()
    }

    /// The weights that training adjusts, in order.
    pub fn trainable(&self) -> Vec<(String, Var)> {
        let store = self.lock();
        store.entries.iter().filter(|(_, e)| e.trainable).map(|(n, e)| (n.clone(), e.var.clone())).collect()
    }

    /// Weights and buffers, in order, as tensors that share this store's memory.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let store = self.lock();
        store.entries.iter().map(|(n, e)| (n.clone(), e.var.as_detached_tensor())).collect()
    }

    /// A copy of weights and buffers that later training does not change.
    ///
    /// # Errors
    /// When the device has no memory left for it.
    pub fn snapshot(&self) -> Result<Vec<(String, Tensor)>> {
        self.tensors().into_iter().map(|(name, t)| Ok((name, t.copy()?))).collect()
    }

    /// Sets every weight and buffer to the tensor of its name.
    ///
    /// # Errors
    /// When a name is missing or unknown, or a shape differs; then nothing is changed.
    pub fn load(&self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let store = self.lock();
        let mut values = Vec::with_capacity(store.entries.len());
        for (name, entry) in &store.entries {
            let tensor = fitting(name, tensors.get(name), entry.var.shape())?;
            values.push(tensor.to_dtype(entry.var.dtype())?.to_device(entry.var.device())?);
        }
        if let Some(name) = tensors.keys().find(|name| !store.entries.contains_key(*name)) {
            return Err(superfluous(name));
        }
        for (entry, value) in store.entries.values().zip(&values) {
            entry.var.set(value)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // A panic elsewhere cannot leave the map half changed: every change is one insertion.
        self.store.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A place in a [`Parameters`] store: a prefix under which a part of the model makes its tensors.
#[derive(Clone, Debug)]
pub struct Scope {
    parameters: Parameters,
    prefix: String,
}

impl Scope {
    /// The scope `name` within this one; names are joined by dots.
    pub fn enter(&self, name: impl Display) -> Self {
        Self { parameters: self.parameters.clone(), prefix: self.full(name) }
    }

    /// The type of the weights.
    pub fn dtype(&self) -> DType {
        self.parameters.dtype
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.parameters.device
    }

    /// Whether what is made here are the constants of a twin: see [`Parameters::detached`].
    pub fn is_detached(&self) -> bool {
        self.parameters.detached
    }

    /// A new weight, which training adjusts.
    ///
    /// # Errors
    /// When the name is taken, or the model becomes too large.
    pub fn weight(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        let shape = shape.into();
        if self.parameters.detached {
            return Ok(self.existing(name, &shape)?.as_detached_tensor());
        }
        let count = elements(shape.dims())?;
        let tensor = {
            let mut store = self.parameters.lock();
            if store.total + count > MOST {
                return Err(Error::Config(format!("the model has more than {MOST} weights: choose smaller sizes")));
            }
            match store.take(&self.full(name), &shape)? {
                Some(saved) => saved.to_dtype(self.dtype())?.to_device(self.device())?,
                None => init.tensor(&shape, self.dtype(), self.device(), &mut store.rng)?,
            }
        };
        let var = Var::from_tensor(&tensor)?;
        let weight = var.as_tensor().clone();
        self.insert(name, Entry { var, trainable: true })?;
        Ok(weight)
    }

    /// A new buffer: saved with the model, never adjusted by an optimiser.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn buffer(&self, name: &str, value: &Tensor) -> Result<Buffer> {
        if self.parameters.detached {
            return self.existing(name, value.shape()).map(Buffer);
        }
        let saved = self.parameters.lock().take(&self.full(name), value.shape())?;
        let value = saved.map_or_else(|| Ok(value.clone()), |saved| saved.to_dtype(value.dtype()))?;
        let var = Var::from_tensor(&value.to_device(self.device())?)?;
        self.insert(name, Entry { var: var.clone(), trainable: false })?;
        Ok(Buffer(var))
    }

    /// A generator for what a layer fixes at random (a permutation, say) when it is made.
    pub fn rng(&self) -> Rng {
        // What a detached layer would draw is in its buffers.
        if self.parameters.detached { Rng::seed(0) } else { self.parameters.lock().rng.fork() }
    }

    /// The tensor that an earlier model made under this name.
    fn existing(&self, name: &str, shape: &Shape) -> Result<Var> {
        let name = self.full(name);
        let store = self.parameters.lock();
        let var = store.entries.get(&name).map(|entry| &entry.var);
        fitting(&name, var.map(Var::as_tensor), shape)?;
        var.cloned().ok_or_else(|| superfluous(&name))
    }

    fn insert(&self, name: &str, entry: Entry) -> Result<()> {
        let name = self.full(name);
        let mut store = self.parameters.lock();
        if store.entries.contains_key(&name) {
            return Err(Error::Config(format!(
                "two tensors are named `{name}`: enter a scope of its own for each layer"
            )));
        }
        store.total += entry.var.elem_count();
        store.entries.insert(name, entry);
        Ok(())
    }

    fn full(&self, name: impl Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }
}

/// A saved tensor that no optimiser touches: a permutation, a running mean, a flag.
#[derive(Clone, Debug)]
pub struct Buffer(Var);

impl Buffer {
    /// The value as a constant of the graph; it shares memory with the buffer.
    pub fn get(&self) -> Tensor {
        self.0.as_detached_tensor()
    }

    /// Replaces the value in a training step, where that is done once: not when activations are recomputed, nor in
    /// evaluation.
    ///
    /// # Errors
    /// When shape or type differ.
    pub fn update(&self, value: &Tensor, mode: &Mode<'_>) -> Result<()> {
        if mode.updates_buffers() { self.set(value) } else { Ok(()) }
    }

    /// Replaces the value: to fit it to data, not in a pass.
    ///
    /// # Errors
    /// When shape or type differ.
    pub fn set(&self, value: &Tensor) -> Result<()> {
        Ok(self.0.set(&value.detach())?)
    }
}
