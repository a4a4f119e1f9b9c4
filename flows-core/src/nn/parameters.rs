//! The ordered, named store of weights and buffers.

use super::{Init, Mode};
use crate::ops::elements;
use crate::text::bytes;
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Shape, Tensor, Var};
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    making: Making,
}

/// What a scope of the store gives for a name.
#[derive(Clone, Debug)]
enum Making {
    /// A new tensor.
    New,
    /// The tensor that is there, as a constant.
    Detached,
    /// The tensor that is there, which further models train; the names that this one has taken.
    Shared(Arc<Mutex<HashSet<String>>>),
}

#[derive(Debug)]
struct Store {
    entries: IndexMap<String, Entry>,
    /// What starting values are drawn from; none where they are read from a file.
    rng: Option<Rng>,
    /// Bytes of what was asked for.
    bytes: f64,
    /// And how many there may be.
    most: f64,
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
    /// The bytes that a model may ask for, if no others are said: 8 GiB. Training by Adam takes four times as much.
    pub const MOST_BYTES: u64 = 8 << 30;

    /// An empty store; weights will be of `dtype` on `device`, drawn from `rng`.
    pub fn new(dtype: DType, device: &Device, rng: Rng) -> Self {
        Self::with(dtype, device, Some(rng), None)
    }

    /// An empty store whose weights and buffers get the values of these tensors, by name; one that has
    /// no value here cannot be made. This is how a model is built from a file.
    pub fn saved(dtype: DType, device: &Device, tensors: HashMap<String, Tensor>) -> Self {
        Self::with(dtype, device, None, Some(tensors))
    }

    fn with(dtype: DType, device: &Device, rng: Option<Rng>, saved: Option<HashMap<String, Tensor>>) -> Self {
        let store = Store { entries: IndexMap::new(), rng, bytes: 0.0, most: Self::MOST_BYTES as f64, saved };
        Self { dtype, device: device.clone(), store: Arc::new(Mutex::new(store)), making: Making::New }
    }

    /// The same store with another limit than [`Self::MOST_BYTES`] on what weights, buffers and constants of the model
    /// take together: what would go beyond it is an error before it is made.
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
    /// Weights and buffers start at the values that they have here and are independent from then on,
    /// so this also makes a target network, which [`soft_update`](crate::train::soft_update) moves.
    pub fn to_device(&self, device: &Device) -> Self {
        self.copied(self.dtype, device)
    }

    /// A store for a copy of the model whose weights are of another type: build the model again from
    /// its scope, as with [`Self::to_device`].
    pub fn to_dtype(&self, dtype: DType) -> Self {
        self.copied(dtype, &self.device)
    }

    fn copied(&self, dtype: DType, device: &Device) -> Self {
        let copy = Self::saved(dtype, device, self.tensors().into_iter().collect());
        copy.lock().most = self.lock().most;
        copy
    }

    /// The same store, the weights of which are constants to what is built from it: a second model that
    /// shares the first one's memory, follows its training, and keeps no graph.
    pub fn detached(&self) -> Self {
        Self { making: Making::Detached, ..self.clone() }
    }

    /// The same store for a further model, which has the very weights and buffers that are there: training either
    /// trains both.
    pub(crate) fn shared(&self) -> Self {
        Self { making: Making::Shared(Arc::default()), ..self.clone() }
    }

    /// Passes if the model that was built from [`Self::shared`] has all that is there.
    ///
    /// # Errors
    /// When it has not.
    pub(crate) fn check_shared(&self) -> Result<()> {
        let Making::Shared(taken) = &self.making else { return Ok(()) };
        let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.lock().entries.keys().find(|name| !taken.contains(*name)).cloned();
        left.map_or(Ok(()), |name| Err(superfluous(&name, REMEDY_OF_SHARED)))
    }

    /// Passes if all tensors that [`Self::saved`] was given have found their place.
    ///
    /// # Errors
    /// When one has not.
    pub fn check_saved(&self) -> Result<()> {
        self.lock().saved.take().iter().flatten().next().map_or(Ok(()), |(name, _)| Err(superfluous(name, REMEDY)))
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

    /// The buffers, in order, as tensors that share this store's memory.
    pub(crate) fn buffers(&self) -> Vec<Tensor> {
        self.lock().entries.values().filter(|e| !e.trainable).map(|e| e.var.as_detached_tensor()).collect()
    }

    /// Whether the two are one store.
    pub(crate) fn shares_memory_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.store, &other.store)
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
            return Err(superfluous(name, REMEDY));
        }
        for (entry, value) in store.entries.values().zip(&values) {
            entry.var.set(value)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // A panic elsewhere cannot leave the map half changed: every change is one insertion.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn taken_twice(name: &str) -> Error {
    Error::Config(format!("two tensors are named `{name}`: enter a scope of its own for each layer"))
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

    /// Whether weights made here are the constants of a detached copy: see [`Parameters::detached`].
    pub fn is_detached(&self) -> bool {
        matches!(self.parameters.making, Making::Detached)
    }

    /// Takes the room of a tensor that is about to be made, here under the name `name`; weights and buffers do it
    /// themselves, so it is for the constants beside them (masks, indices).
    ///
    /// # Errors
    /// When the model becomes larger than [`Parameters::with_most_bytes`] allows, or the tensor than 2^30 elements.
    pub fn reserve(&self, name: &str, shape: impl Into<Shape>, dtype: DType) -> Result<()> {
        // What a small tensor takes in truth, so that a million of them are something.
        const LEAST: f64 = 1024.0;
        let (shape, name) = (shape.into(), self.full(name));
        // Sizes of mistyped settings overflow whole numbers.
        let size = shape.dims().iter().map(|d| *d as f64).product::<f64>() * dtype.size_in_bytes() as f64;
        let mut store = self.parameters.lock();
        let total = store.bytes + size.max(LEAST);
        if total > store.most {
            let lower = match size > 0.01 * store.most {
                true => "a width (hidden units or channels, features, bins)",
                false => "the number of layers, or their widths",
            };
            return Err(Error::Config(format!(
                "`{name}` of shape {:?} takes {}, with which the model takes {}, more than the {} that it may: lower \
                 {lower}, or raise the limit by `Parameters::with_most_bytes`",
                shape.dims(),
                bytes(size),
                bytes(total),
                bytes(store.most)
            )));
        }
        elements(shape.dims()).map_err(|error| Error::Config(format!("`{name}`: {error}")))?;
        store.bytes = total;
        Ok(())
    }

    /// A new weight, which training adjusts.
    ///
    /// # Errors
    /// When the name is taken, or the model becomes too large ([`Parameters::with_most_bytes`]).
    pub fn weight(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        let shape = shape.into();
        match self.parameters.making {
            Making::New => {}
            Making::Detached => return Ok(self.existing(name, &shape)?.as_detached_tensor()),
            Making::Shared(_) => return Ok(self.existing(name, &shape)?.as_tensor().clone()),
        }
        let saved = self.parameters.lock().take(&self.full(name), &shape)?;
        let tensor = match saved {
            Some(saved) => saved.to_dtype(self.dtype())?.to_device(self.device())?,
            None => {
                self.reserve(name, shape.clone(), self.dtype())?;
                let mut store = self.parameters.lock();
                let rng = store.rng.as_mut().ok_or_else(|| missing(&self.full(name), REMEDY))?;
                init.tensor(&shape, self.dtype(), self.device(), rng)?
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
    /// When the name is taken, or the model becomes too large. A large value is better made by
    /// [`Self::drawn_buffer`], which finds that out before it is.
    pub fn buffer(&self, name: &str, value: &Tensor) -> Result<Buffer> {
        self.buffer_of(name, value.shape(), value.dtype(), || Ok(value.clone()))
    }

    fn buffer_of(
        &self,
        name: &str,
        shape: &Shape,
        dtype: DType,
        first: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Buffer> {
        if !matches!(self.parameters.making, Making::New) {
            return self.existing(name, shape).map(Buffer);
        }
        let saved = self.parameters.lock().take(&self.full(name), shape)?;
        let value = match saved {
            Some(saved) => saved.to_dtype(dtype)?,
            None => {
                self.reserve(name, shape.clone(), dtype)?;
                first()?
            }
        };
        let var = Var::from_tensor(&value.to_device(self.device())?)?;
        self.insert(name, Entry { var: var.clone(), trainable: false })?;
        Ok(Buffer(var))
    }

    /// A new buffer with the value that `draw` gives, a tensor of this shape and type, when the model is
    /// first made. A detached copy, or a model that is read from a file, takes the stored value and draws nothing.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use flows_core::{nn::Parameters, Rng};
    /// let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
    /// let order = |parameters: &Parameters| {
    ///     let draw = |rng: &mut Rng| Ok(Tensor::from_vec(rng.permutation(9), 9, &Device::Cpu)?);
    ///     parameters.scope().drawn_buffer("order", 9, DType::U32, draw)?.get().to_vec1::<u32>().map_err(flows_core::Error::from)
    /// };
    /// assert_eq!(order(&parameters)?, order(&parameters.detached())?);
    /// # Ok::<(), flows_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Any error from `draw`, and when the name is taken or the model becomes too large, which is checked before the draw.
    pub fn drawn_buffer(
        &self,
        name: &str,
        shape: impl Into<Shape>,
        dtype: DType,
        draw: impl FnOnce(&mut Rng) -> Result<Tensor>,
    ) -> Result<Buffer> {
        self.buffer_of(name, &shape.into(), dtype, || draw(&mut self.rng()?))
    }

    /// What `draw` gives, if the tensors of the model get their first values; `None` if they have them
    /// already, in a detached copy or a model that is read from a file.
    ///
    /// For starting values that several tensors share. Whatever depends on the draw must become a weight
    /// or a buffer, since only these are the same in the detached copy and after a load.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> Option<T> {
        self.rng().ok().map(|mut rng| draw(&mut rng))
    }

    /// A generator for a model that is never copied or loaded; elsewhere take [`Self::drawn_buffer`].
    ///
    /// # Errors
    /// In a detached copy and in a model that is read from a file, where it would draw other numbers than those
    /// the model was made with.
    pub fn rng(&self) -> Result<Rng> {
        let is_new = matches!(self.parameters.making, Making::New);
        let forked = if is_new { self.parameters.lock().rng.as_mut().map(Rng::fork) } else { None };
        forked.ok_or_else(|| self.nothing_to_draw_from())
    }

    fn nothing_to_draw_from(&self) -> Error {
        let layer = if self.prefix.is_empty() { "the model" } else { &self.prefix };
        Error::Config(format!(
            "`{layer}` draws numbers although its weights and buffers have their values already, so it would differ \
             from the model as it was made: keep what is drawn in a buffer, by `Scope::drawn_buffer`"
        ))
    }

    /// The tensor that an earlier model made under this name.
    fn existing(&self, name: &str, shape: &Shape) -> Result<Var> {
        let name = self.full(name);
        let var = self.parameters.lock().entries.get(&name).map(|entry| entry.var.clone());
        let Making::Shared(taken) = &self.parameters.making else {
            fitting(&name, var.as_deref(), shape)?;
            return var.ok_or_else(|| missing(&name, REMEDY));
        };
        let var = var.ok_or_else(|| missing(&name, REMEDY_OF_SHARED))?;
        if var.shape() != shape {
            let shapes = format!("has shape {:?}, but {:?} by this config", var.dims(), shape.dims());
            return Err(Error::Config(format!("the tensor `{name}` {shapes}: {REMEDY_OF_SHARED}")));
        }
        match taken.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone()) {
            true => Ok(var),
            false => Err(taken_twice(&name)),
        }
    }

    fn insert(&self, name: &str, entry: Entry) -> Result<()> {
        let name = self.full(name);
        let mut store = self.parameters.lock();
        if store.entries.contains_key(&name) {
            return Err(taken_twice(&name));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer whose noise is in no buffer.
    fn forgetful(parameters: &Parameters) -> Result<f64> {
        let scope = parameters.scope().enter("layer");
        scope.weight("weight", 2, Init::Zeros)?;
        Ok(scope.rng()?.normal())
    }

    /// A layer whose noise is in one.
    fn mindful(parameters: &Parameters) -> Result<Vec<f64>> {
        let scope = parameters.scope().enter("layer");
        scope.weight("weight", 2, Init::Zeros)?;
        let draw = |rng: &mut Rng| rng.normal_tensor(2, DType::F64, &Device::Cpu);
        Ok(scope.drawn_buffer("noise", 2, DType::F64, draw)?.get().to_vec1()?)
    }

    #[test]
    fn a_draw_that_is_not_kept_is_an_error_in_a_copy() -> Result<()> {
        let new = || Parameters::new(DType::F64, &Device::Cpu, Rng::seed(3));
        let parameters = new();
        forgetful(&parameters)?;
        for copy in [parameters.detached(), parameters.to_device(&Device::Cpu)] {
            let message = forgetful(&copy).unwrap_err().to_string();
            assert!(message.contains("`layer`") && message.contains("drawn_buffer"), "{message}");
        }
        let parameters = new();
        let noise = mindful(&parameters)?;
        // Drawn from the fork that `rng` would have given.
        assert_eq!(noise[0], forgetful(&new())?);
        let copy = parameters.to_device(&Device::Cpu);
        assert_eq!((mindful(&parameters.detached())?, mindful(&copy)?), (noise.clone(), noise));
        copy.check_saved()?;
        let message = copy.scope().weight("late", 1, Init::Zeros).unwrap_err().to_string();
        assert!(message.contains("`late` is missing"), "{message}");
        Ok(())
    }

    #[test]
    fn models_that_are_too_large_are_errors_before_they_are_made() -> Result<()> {
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        let scope = parameters.scope().enter("layer");
        let refused = |result: Result<()>, words: &[&str]| {
            let error = result.unwrap_err();
            let said = error.to_string();
            assert!(error.is_bad_use() && words.iter().all(|word| said.contains(word)), "{words:?} in {said}");
        };
        let weight = |shape: &[usize]| scope.weight("weight", shape, Init::Normal(1.0)).map(drop);
        refused(
            weight(&[1_000_000; 2]),
            &["`layer.weight` of shape [1000000, 1000000]", "3725.3 GiB", "8.0 GiB", "a width"],
        );
        refused(weight(&[usize::MAX; 8]), &["`layer.weight`", "a width"]);
        refused(weight(&[(1 << 30) + 1]), &["`layer.weight`: a tensor of shape [1073741825]"]);
        let never = |_: &mut Rng| unreachable!("it is refused before it is drawn");
        refused(scope.drawn_buffer("order", (1 << 31) + 1, DType::U32, never).map(drop), &["`layer.order`", "8.0 GiB"]);
        refused(scope.reserve("mask", (1 << 20, 1 << 20), DType::U8), &["`layer.mask`", "1024.0 GiB"]);
        // Nothing was taken by what was refused, and small tensors add up.
        let parameters = parameters.with_most_bytes(10 << 10);
        let layer = |i: usize| parameters.scope().enter(i).weight("shift", 1, Init::Zeros).map(drop);
        (0..10).try_for_each(layer)?;
        refused(
            layer(10),
            &["`10.shift` of shape [1] takes 4 B", "11.0 KiB, more than the 10.0 KiB", "number of layers"],
        );
        let buffer = parameters.scope().buffer("flag", &Tensor::new(&[1u8], &Device::Cpu)?).map(drop);
        refused(buffer, &["`flag`"]);
        // A copy has its own values; a detached copy shares them.
        let copy = parameters.to_dtype(DType::F64);
        for i in 0..10 {
            copy.scope().enter(i).weight("shift", 1, Init::Zeros)?;
            parameters.detached().scope().enter(i).weight("shift", 1, Init::Zeros)?;
        }
        refused(copy.scope().reserve("mask", 1 << 20, DType::U8), &["`mask`", "10.0 KiB"]);
        Ok(())
    }

    #[test]
    fn a_copy_is_independent_and_may_have_another_type() -> Result<()> {
        let build = |parameters: &Parameters| {
            let scope = parameters.scope();
            let flag = scope.buffer("flag", &Tensor::new(&[1u8], &Device::Cpu)?)?;
            Ok::<_, Error>((scope.weight("w", 3, Init::Normal(1.0))?, flag))
        };
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let (w, flag) = build(&parameters)?;
        let single = parameters.to_dtype(DType::F32);
        let (copy, copied) = build(&single)?;
        assert_eq!((copy.dtype(), copied.get().dtype()), (DType::F32, DType::U8));
        let same = parameters.to_device(&Device::Cpu);
        build(&same)?;
        let before = w.to_vec1::<f64>()?;
        same.trainable()[0].1.set(&w.zeros_like()?)?;
        single.trainable()[0].1.set(&copy.zeros_like()?)?;
        copied.set(&Tensor::new(&[0u8], &Device::Cpu)?)?;
        assert_eq!((w.to_vec1::<f64>()?, flag.get().to_vec1::<u8>()?), (before, vec![1]));
        Ok(())
    }
}
