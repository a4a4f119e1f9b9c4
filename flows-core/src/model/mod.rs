//! The model type: a config, its parameters, and the distribution built from both.
//!
//! An architecture only has to be a serialisable [`Config`] that builds a distribution in a [`Scope`];
//! [`Model`] adds the parameters, saving and loading, the detached copy, and `Display`.
//!
//! ```
//! use candle_core::Device;
//! use flows_core::bijectors::{Chain, Coupling, Mask, Standardize, univariate::Affine};
//! use flows_core::distributions::{Distribution, StudentT, Transformed};
//! use flows_core::nn::{NetworkConfig, Scope};
//! use flows_core::{Config, Model, Result, Rng};
//! use serde::{Deserialize, Serialize};
//! use std::sync::Arc;
//!
//! /// Affine couplings over a Student-t base, for data with heavy tails.
//! #[derive(Clone, Debug, Serialize, Deserialize)]
//! struct Heavy {
//!     features: usize,
//!     layers: usize,
//! }
//!
//! impl Config for Heavy {
//!     const KIND: &'static str = "heavy";
//!     type Built = Transformed;
//!
//!     fn build(&self, scope: &Scope) -> Result<Transformed> {
//!         let shape = [self.features];
//!         let mut steps: Vec<Box<dyn flows_core::bijectors::Bijector>> = Vec::new();
//!         for i in 0..self.layers {
//!             let (mask, affine) = (Mask::Alternating { odd: i % 2 == 1 }, Arc::new(Affine::default()));
//!             let network = NetworkConfig::mlp([16]);
//!             steps.push(Box::new(Coupling::new(&shape, &mask, affine, None, &network, &scope.enter(i))?));
//!         }
//!         steps.push(Box::new(Standardize::new(&shape, &scope.enter("data"))?));
//!         let base = StudentT::trainable(shape, 3.0, &scope.enter("base"))?;
//!         Transformed::new(base, Chain::new(steps)?)
//!     }
//! }
//!
//! let mut rng = Rng::seed(0);
//! let model = Model::new(Heavy { features: 2, layers: 4 }, &mut rng)?;
//! let x = rng.normal_tensor((100, 2), candle_core::DType::F32, &Device::Cpu)?;
//! model.initialize(&x, None)?;
//! let folder = tempfile::tempdir().unwrap();
//! let path = folder.path().join("heavy.safetensors");
//! model.save(&path)?;
//! let same = Model::<Heavy>::load(&path, &Device::Cpu)?;
//! assert_eq!(same.log_prob(&x, None)?.to_vec1::<f32>()?, model.log_prob(&x, None)?.to_vec1::<f32>()?);
//! # Ok::<(), flows_core::Error>(())
//! ```

use crate::distributions::Distribution;
use crate::files::{load_model, save_model};
use crate::nn::{Parameters, Scope};
use crate::{Error, Result, Rng, Structure};
use candle_core::{DType, Device, Tensor};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::HashMap;
use std::fmt::{self, Debug, Display};
use std::ops::Deref;
use std::path::Path;

/// The config of a model: everything about its distribution except the weights.
pub trait Config: Clone + Debug + Serialize + DeserializeOwned + Send + Sync {
    /// The kind that model files name.
    const KIND: &'static str;

    /// The distribution that is built: a [`Transformed`](crate::distributions::Transformed), or a type that wraps one
    /// and adds methods.
    type Built: Distribution;

    /// Builds the distribution, creating its weights and buffers in `scope`.
    ///
    /// It is called a second time for the detached copy, and must then create the same weights and buffers;
    /// [`Model::with_config`] also calls it, with another config.
    ///
    /// # Errors
    /// When the config has an invalid size or setting.
    fn build(&self, scope: &Scope) -> Result<Self::Built>;

    /// Whether a batch may be cut into pieces that are processed in parallel; not if a layer computes batch statistics
    /// or updates buffers in training.
    fn splits_batches(&self) -> bool {
        false
    }

    /// The root of the tree printed by the model's `Display`; by default the kind.
    fn root(&self) -> Structure {
        Structure::new(Self::KIND, "")
    }
}

/// A distribution with its config and its parameters, which can be trained, saved and loaded.
///
/// The model dereferences to the distribution that its config builds. The detached copy, [`Model::detached`], shares
/// the parameters' memory and builds no graph: use it for inference.
#[derive(Debug)]
pub struct Model<C: Config> {
    config: C,
    parameters: Parameters,
    built: C::Built,
    detached: C::Built,
}

impl<C: Config> Model<C> {
    /// The kind that model files name.
    pub const KIND: &'static str = C::KIND;

    /// A model in f32 on the CPU with weights initialised from `rng`.
    ///
    /// # Errors
    /// When the config has an invalid size or setting.
    pub fn new(config: C, rng: &mut Rng) -> Result<Self> {
        Self::on(config, DType::F32, &Device::Cpu, rng)
    }

    /// A model in this dtype on this device.
    ///
    /// # Errors
    /// Same as [`Self::new`].
    pub fn on(config: C, dtype: DType, device: &Device, rng: &mut Rng) -> Result<Self> {
        Self::in_store(config, Parameters::new(dtype, device, rng.fork()))
    }

    /// A model with these named weights and buffers.
    ///
    /// # Errors
    /// When one is missing, unexpected or has another shape.
    pub fn with_tensors(config: C, dtype: DType, device: &Device, tensors: HashMap<String, Tensor>) -> Result<Self> {
        let model = Self::in_store(config, Parameters::saved(dtype, device, tensors))?;
        model.parameters.check_saved()?;
        Ok(model)
    }

    /// A model with another config that shares this model's parameters: nothing is copied, and training or
    /// initialising either model changes both. For example, a flow trained on short signals can score and sample long
    /// ones.
    ///
    /// No weights are drawn or computed. Both models have the same [`Self::parameters`], so one optimiser or one weight
    /// average serves both; a saved file has the config of the model that saved it.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use flows_core::bijectors::{Coupling, Mask, univariate::Affine};
    /// use flows_core::distributions::{Distribution, StandardNormal, Transformed};
    /// use flows_core::nn::{ConvNetConfig, Scope};
    /// use flows_core::{Config, Model, Result, Rng};
    /// use serde::{Deserialize, Serialize};
    /// use std::sync::Arc;
    ///
    /// /// Stereo sound of this length.
    /// #[derive(Clone, Debug, Serialize, Deserialize)]
    /// struct Stereo {
    ///     length: usize,
    /// }
    ///
    /// impl Config for Stereo {
    ///     const KIND: &'static str = "stereo";
    ///     type Built = Transformed;
    ///
    ///     fn build(&self, scope: &Scope) -> Result<Transformed> {
    ///         let (shape, mask) = ([2, self.length], Mask::Halves { swap: false });
    ///         let (affine, network) = (Arc::new(Affine::default()), ConvNetConfig::default());
    ///         let coupling = Coupling::convolutional(&shape, &mask, affine, None, &network, scope)?;
    ///         Transformed::new(StandardNormal::new(shape, scope.dtype(), scope.device())?, coupling)
    ///     }
    /// }
    ///
    /// let mut rng = Rng::seed(0);
    /// let trained = Model::new(Stereo { length: 32 }, &mut rng)?;
    /// let long = trained.with_config(Stereo { length: 1000 })?;
    /// assert_eq!(long.sample(3, None, &mut rng)?.dims(), [3, 2, 1000]);
    /// # Ok::<(), flows_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the config creates other parameters than this model has, in name or shape; the message names one.
    pub fn with_config(&self, config: C) -> Result<Self> {
        let shared = self.parameters.shared();
        let built = config.build(&shared.scope())?;
        shared.check_shared()?;
        let detached = config.build(&self.parameters.detached().scope())?;
        Ok(Self { config, parameters: self.parameters.clone(), built, detached })
    }

    fn in_store(config: C, parameters: Parameters) -> Result<Self> {
        let built = config.build(&parameters.scope())?;
        let detached = config.build(&parameters.detached().scope())?;
        Ok(Self { config, parameters, built, detached })
    }

    /// The config that the model was built from.
    pub fn config(&self) -> &C {
        &self.config
    }

    /// The weights and buffers.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The detached copy of the distribution, whose weights are constants, so that its results carry no graph.
    pub fn detached(&self) -> &C::Built {
        &self.detached
    }

    /// A copy on another device.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let tensors = self.parameters.snapshot()?.into_iter().collect();
        Self::with_tensors(self.config.clone(), self.parameters.dtype(), device, tensors)
    }

    /// Writes weights, buffers and config to one file.
    ///
    /// # Errors
    /// When the file cannot be written; an existing file is then left intact.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let config = serde_json::to_string(&self.config).map_err(|e| Error::Config(e.to_string()))?;
        save_model(path.as_ref(), C::KIND, &config, &self.parameters.tensors())
    }

    /// Loads a model written by [`Self::save`] or a training run, on this device.
    ///
    /// # Errors
    /// When the file is missing, malformed, of another kind or of a newer format.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let path = path.as_ref();
        let file = load_model(path)?;
        file.expect_kind(C::KIND)?;
        let dtype = file.tensors.values().map(Tensor::dtype).find(|t| t.is_float()).unwrap_or(DType::F32);
        Self::with_tensors(file.config()?, dtype, device, file.tensors).map_err(|e| Error::file(path, e))
    }
}

impl<C: Config> Deref for Model<C> {
    type Target = C::Built;

    fn deref(&self) -> &C::Built {
        &self.built
    }
}

impl<C: Config> Distribution for Model<C> {
    crate::delegate_distribution!(|self| self.built);

    fn detached(&self) -> Option<&dyn Distribution> {
        Some(&self.detached)
    }

    fn structure(&self) -> Structure {
        self.config.root().part(self.built.structure())
    }
}

impl<C: Config> Display for Model<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.structure(), f)
    }
}
