//! The ordered, named store of weights and buffers.

mod buffer;
mod scope;

pub use buffer::Buffer;
pub use scope::Scope;

use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Shape, Tensor, Var};
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Weights and buffers of one model, by name, in the order of their creation.
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
    role: Role,
}

/// What a model that is built from the store gets for a name.
#[derive(Clone, Debug)]
enum Role {
    /// A new tensor.
    New,
    /// The existing tensor, as a constant.
    Detached,
    /// The existing tensor itself; with the names used so far.
    Shared(Arc<Mutex<HashSet<String>>>),
}

#[derive(Debug)]
struct Store {
    entries: IndexMap<String, Entry>,
    /// The generator of initial values; none if they are read from a file.
    rng: Option<Rng>,
    /// Bytes reserved so far.
    bytes: f64,
    /// The limit on them.
    most: f64,
    /// The values in a file, each removed when its entry is created.
    saved: Option<HashMap<String, Tensor>>,
}

#[derive(Debug)]
struct Entry {
    var: Var,
    trainable: bool,
}

impl Store {
    /// Takes the value of an entry from the file, if there is one.
    fn take(&mut self, name: &str, shape: &Shape) -> Result<Option<Tensor>> {
        let Some(saved) = &mut self.saved else { return Ok(None) };
        fitting(name, saved.get(name), shape)?;
        Ok(saved.remove(name))
    }
}

/// Checks that there is a tensor of this name and shape.
fn fitting<'a>(name: &str, tensor: Option<&'a Tensor>, shape: &Shape) -> Result<&'a Tensor> {
    match tensor {
        Some(tensor) if tensor.shape() == shape => Ok(tensor),
        Some(tensor) => Err(Error::shape(format!("`{name}`"), tensor.dims(), format!("{:?}", shape.dims()))),
        None => Err(missing(name, REMEDY)),
    }
}

fn missing(name: &str, remedy: &str) -> Error {
    Error::Config(format!("the tensor `{name}` is missing: {remedy}"))
}

fn superfluous(name: &str, remedy: &str) -> Error {
    Error::Config(format!("the tensor `{name}` has no place in this model: {remedy}"))
}

const REMEDY: &str = "the file was made with other settings; use those, or another file";

const REMEDY_OF_SHARED: &str = "a config shares the parameters of another only if both make the same ones; change \
                                settings on which no parameter depends, such as the length of a signal";

impl Parameters {
    /// The default limit on the size of a model in bytes, 8 GiB. Training with Adam takes four times as much.
    pub const MOST_BYTES: u64 = 8 << 30;

    /// An empty store, whose weights will be of `dtype` on `device` and drawn from `rng`.
    pub fn new(dtype: DType, device: &Device, rng: Rng) -> Self {
        Self::with(dtype, device, Some(rng), None)
    }

    /// An empty store whose weights and buffers get the values of these tensors, by name; creating one that
    /// is not among them is an error. This is how a model is built from a file.
    pub fn saved(dtype: DType, device: &Device, tensors: HashMap<String, Tensor>) -> Self {
        Self::with(dtype, device, None, Some(tensors))
    }

    fn with(dtype: DType, device: &Device, rng: Option<Rng>, saved: Option<HashMap<String, Tensor>>) -> Self {
        let store = Store { entries: IndexMap::new(), rng, bytes: 0.0, most: Self::MOST_BYTES as f64, saved };
        Self { dtype, device: device.clone(), store: Arc::new(Mutex::new(store)), role: Role::New }
    }

    /// The same store with another limit than [`Self::MOST_BYTES`] on the total size of the model's weights, buffers
    /// and constants: exceeding it is an error before the tensor is created.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use flows_core::{nn::{Linear, Parameters}, Rng};
    /// let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0)).with_most_bytes(1 << 20);
    /// assert!(Linear::new(500, 500, &parameters.scope().enter("small")).is_ok());
    /// let error = Linear::new(1000, 1000, &parameters.scope().enter("large")).unwrap_err().to_string();
    /// assert!(error.contains("`large.weight`") && error.contains("4.8 MiB"), "{error}");
    /// ```
    pub fn with_most_bytes(self, most: u64) -> Self {
        self.lock().most = most as f64;
        self
    }

    /// A store for a copy of the model on another device: build the model again from its scope.
    ///
    /// Weights and buffers start at their values here and are independent from then on, so this also makes a
    /// target network, to be updated by [`soft_update`](crate::train::soft_update).
    pub fn to_device(&self, device: &Device) -> Self {
        self.copied(self.dtype, device)
    }

    /// A store for a copy of the model in another dtype: build the model again from its scope, as with
    /// [`Self::to_device`].
    pub fn to_dtype(&self, dtype: DType) -> Self {
        self.copied(dtype, &self.device)
    }

    fn copied(&self, dtype: DType, device: &Device) -> Self {
        let copy = Self::saved(dtype, device, self.tensors().into_iter().collect());
        copy.lock().most = self.lock().most;
        copy
    }

    /// The same store, whose weights are constants for a model built from it: this second model shares the
    /// memory of the first, follows its training, and builds no graph.
    pub fn detached(&self) -> Self {
        Self { role: Role::Detached, ..self.clone() }
    }

    /// The same store for a further model with the same weights and buffers: training either model trains both.
    pub(crate) fn shared(&self) -> Self {
        Self { role: Role::Shared(Arc::default()), ..self.clone() }
    }

    /// Checks that the model built from [`Self::shared`] uses every tensor.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn check_shared(&self) -> Result<()> {
        let Role::Shared(taken) = &self.role else { return Ok(()) };
        let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.lock().entries.keys().find(|name| !taken.contains(*name)).cloned();
        left.map_or(Ok(()), |name| Err(superfluous(&name, REMEDY_OF_SHARED)))
    }

    /// Checks that every tensor given to [`Self::saved`] has been used.
    ///
    /// # Errors
    /// When one has not.
    pub fn check_saved(&self) -> Result<()> {
        self.lock().saved.take().iter().flatten().next().map_or(Ok(()), |(name, _)| Err(superfluous(name, REMEDY)))
    }

    /// The scope without a prefix, from which a model is built.
    pub fn scope(&self) -> Scope {
        Scope { parameters: self.clone(), prefix: String::new(), context_units: false }
    }

    /// The dtype of the weights.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device of the weights.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The number of trainable parameters; buffers are not counted.
    pub fn count(&self) -> usize {
        self.lock().entries.values().filter(|e| e.trainable).map(|e| e.var.elem_count()).sum()
    }

    /// The names of weights and buffers, in order.
    pub fn names(&self) -> Vec<String> {
        self.lock().entries.keys().cloned().collect()
    }

    /// The trainable weights, in order.
    pub fn trainable(&self) -> Vec<(String, Var)> {
        let store = self.lock();
        store.entries.iter().filter(|(_, e)| e.trainable).map(|(n, e)| (n.clone(), e.var.clone())).collect()
    }

    /// The buffers, in order, as tensors that share this store's memory.
    pub(crate) fn buffers(&self) -> Vec<Tensor> {
        self.lock().entries.values().filter(|e| !e.trainable).map(|e| e.var.as_detached_tensor()).collect()
    }

    /// Whether both are the same store.
    pub(crate) fn shares_memory_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.store, &other.store)
    }

    /// Weights and buffers, in order, as tensors that share this store's memory.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let store = self.lock();
        store.entries.iter().map(|(n, e)| (n.clone(), e.var.as_detached_tensor())).collect()
    }

    /// A copy of weights and buffers, which later training does not change.
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
            return Err(superfluous(name, REMEDY));
        }
        for (entry, value) in store.entries.values().zip(&values) {
            entry.var.set(value)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // A panic elsewhere cannot leave the map inconsistent: every change is one insertion.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
