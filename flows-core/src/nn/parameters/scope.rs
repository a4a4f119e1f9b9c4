//! The creation of weights and buffers.

use super::{Buffer, Entry, Parameters, REMEDY, REMEDY_OF_SHARED, Role, fitting, missing};
use crate::nn::Init;
use crate::ops::elements;
use crate::text::bytes;
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Shape, Tensor, Var};
use std::fmt::Display;
use std::sync::PoisonError;

/// A prefix in a [`Parameters`] store, under which a part of the model creates its tensors.
#[derive(Clone, Debug)]
pub struct Scope {
    pub(super) parameters: Parameters,
    pub(super) prefix: String,
    pub(super) context_units: bool,
}

impl Scope {
    /// The scope `name` within this one; names are joined by dots.
    pub fn enter(&self, name: impl Display) -> Self {
        Self { prefix: self.full(name), ..self.clone() }
    }

    /// The same scope, in which the networks of conditional autoregressive layers have hidden units that see the context
    /// alone, so that the first dimension depends on it, or have none.
    ///
    /// By default they have none, since these units change what the weights in older model files compute:
    /// [`FlowConfig`](crate::flows::FlowConfig) turns them on for new flows, and a config of your own may do so for models
    /// that have no older files.
    #[must_use]
    pub fn with_context_units(self, context_units: bool) -> Self {
        Self { context_units, ..self }
    }

    /// See [`Self::with_context_units`].
    pub(crate) fn has_context_units(&self) -> bool {
        self.context_units
    }

    /// The dtype of the weights.
    pub fn dtype(&self) -> DType {
        self.parameters.dtype
    }

    /// The device of the weights.
    pub fn device(&self) -> &Device {
        &self.parameters.device
    }

    /// Whether weights are created as constants of a detached copy: see [`Parameters::detached`].
    pub fn is_detached(&self) -> bool {
        matches!(self.parameters.role, Role::Detached)
    }

    /// Reserves memory for a tensor `name` that is about to be created. Weights and buffers do so themselves: this is
    /// for the constants of a model (masks, indices).
    ///
    /// # Errors
    /// When the model becomes larger than [`Parameters::with_most_bytes`] allows, or the tensor than 2^30 elements.
    pub fn reserve(&self, name: &str, shape: impl Into<Shape>, dtype: DType) -> Result<()> {
        // What a small tensor really takes, so that a million of them count.
        const LEAST: f64 = 1024.0;
        let (shape, name) = (shape.into(), self.full(name));
        // Mistyped settings give sizes that overflow integers.
        let size = shape.dims().iter().map(|d| *d as f64).product::<f64>() * dtype.size_in_bytes() as f64;
        let mut store = self.parameters.lock();
        let total = store.bytes + size.max(LEAST);
        if total > store.most {
            let lower = match size > 0.01 * store.most {
                true => "a width (hidden units or channels, features, bins)",
                false => "the number of layers, or their widths",
            };
            return Err(Error::Config(format!(
                "`{name}` of shape {:?} takes {}, which brings the model to {}, more than the {} allowed: lower \
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

    /// A new trainable weight.
    ///
    /// # Errors
    /// When the name is taken, or the model becomes too large ([`Parameters::with_most_bytes`]).
    pub fn weight(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        let shape = shape.into();
        match self.parameters.role {
            Role::New => {}
            Role::Detached => return Ok(self.existing(name, &shape)?.as_detached_tensor()),
            Role::Shared(_) => return Ok(self.existing(name, &shape)?.as_tensor().clone()),
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
    /// When the name is taken, or the model becomes too large; [`Self::drawn_buffer`] finds that out before a
    /// large value is computed.
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
        if !matches!(self.parameters.role, Role::New) {
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

    /// A new buffer whose value, a tensor of this shape and dtype, is drawn by `draw` when the model is first
    /// created. A detached copy, or a model that is read from a file, takes the stored value and draws nothing.
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
    /// Any error from `draw`, and when the name is taken or the model becomes too large, which is checked first.
    pub fn drawn_buffer(
        &self,
        name: &str,
        shape: impl Into<Shape>,
        dtype: DType,
        draw: impl FnOnce(&mut Rng) -> Result<Tensor>,
    ) -> Result<Buffer> {
        self.buffer_of(name, &shape.into(), dtype, || draw(&mut self.rng()?))
    }

    /// The result of `draw` if the tensors of the model are being initialised; `None` if they already have
    /// their values, in a detached copy or a model that is read from a file.
    ///
    /// For initial values that several tensors share. Whatever depends on the draw must become a weight or a
    /// buffer, since only these are the same in the detached copy and after a load.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> Option<T> {
        self.rng().ok().map(|mut rng| draw(&mut rng))
    }

    /// A generator for a model that is never copied or loaded; otherwise use [`Self::drawn_buffer`].
    ///
    /// # Errors
    /// In a detached copy and in a model that is read from a file, where it would draw other numbers than when the
    /// model was created.
    pub fn rng(&self) -> Result<Rng> {
        let is_new = matches!(self.parameters.role, Role::New);
        let forked = if is_new { self.parameters.lock().rng.as_mut().map(Rng::fork) } else { None };
        forked.ok_or_else(|| self.nothing_to_draw_from())
    }

    fn nothing_to_draw_from(&self) -> Error {
        let layer = if self.prefix.is_empty() { "the model" } else { &self.prefix };
        Error::Config(format!(
            "`{layer}` draws numbers although its weights and buffers already have their values, so it would differ \
             from the original model: keep what it draws in a buffer, by `Scope::drawn_buffer`"
        ))
    }

    /// The tensor that an earlier model created under this name.
    fn existing(&self, name: &str, shape: &Shape) -> Result<Var> {
        let name = self.full(name);
        let var = self.parameters.lock().entries.get(&name).map(|entry| entry.var.clone());
        let Role::Shared(taken) = &self.parameters.role else {
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
            false => Err(named_twice(&name)),
        }
    }

    fn insert(&self, name: &str, entry: Entry) -> Result<()> {
        let name = self.full(name);
        let mut store = self.parameters.lock();
        if store.entries.contains_key(&name) {
            return Err(named_twice(&name));
        }
        store.entries.insert(name, entry);
        Ok(())
    }

    fn full(&self, name: impl Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }
}

fn named_twice(name: &str) -> Error {
    Error::Config(format!("two tensors are named `{name}`: give each layer a scope of its own, by `Scope::enter`"))
}
