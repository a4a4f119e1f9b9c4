//! One model type: a config, the parameters it makes, and the distribution that both are.
//!
//! A serialisable [`Config`] that builds a distribution in a [`Scope`] is all that is asked of an architecture;
//! [`Model`] adds parameters, saving and loading, the twin with constant weights, and `Display`.
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

/// All that says which distribution a model is, its weights aside.
pub trait Config: Clone + Debug + Serialize + DeserializeOwned + Send + Sync {
    /// What the model's file calls its kind.
    const KIND: &'static str;

    /// What is built: a [`Transformed`](crate::distributions::Transformed), or a distribution around one that offers
    /// more.
    type Built: Distribution;

    /// The distribution, whose weights and buffers are made in `scope`.
    ///
    /// It is called a second time for the twin whose weights are constants, and has to make the same then; and by
    /// [`Model::with_config`], with another config of one's choice.
    ///
    /// # Errors
    /// When the config names a size or a setting that cannot be.
    fn build(&self, scope: &Scope) -> Result<Self::Built>;

    /// Whether a batch may be cut into pieces that are trained on side by side; not if a layer takes statistics of the
    /// batch, or changes buffers as it goes.
    fn splits_batches(&self) -> bool {
        false
    }

    /// The root of the tree that `Display` of the model prints; the kind, if not said otherwise.
    fn root(&self) -> Structure {
        Structure::new(Self::KIND, "")
    }
}

/// A distribution with its config and its parameters, which can be trained, saved and loaded.
///
/// What the config builds can be called on the model itself. Its twin, [`Model::detached`], shares the parameters'
/// memory and keeps no graph: it is for use rather than training.
#[derive(Debug)]
pub struct Model<C: Config> {
    config: C,
    parameters: Parameters,
    built: C::Built,
    detached: C::Built,
}

impl<C: Config> Model<C> {
    /// The kind that the model's file names.
    pub const KIND: &'static str = C::KIND;

    /// A model of f32 on the CPU whose weights are drawn from `rng`.
    ///
    /// # Errors
    /// When the config names a size or a setting that cannot be.
    pub fn new(config: C, rng: &mut Rng) -> Result<Self> {
        Self::on(config, DType::F32, &Device::Cpu, rng)
    }

    /// A model of this type on this device.
    ///
    /// # Errors
    /// Same as [`Self::new`].
    pub fn on(config: C, dtype: DType, device: &Device, rng: &mut Rng) -> Result<Self> {
        Self::in_store(config, Parameters::new(dtype, device, rng.fork()))
    }

    /// A model with these weights and buffers by name.
    ///
    /// # Errors
    /// When one is missing, superfluous or of another shape.
    pub fn with_tensors(config: C, dtype: DType, device: &Device, tensors: HashMap<String, Tensor>) -> Result<Self> {
        let model = Self::in_store(config, Parameters::saved(dtype, device, tensors))?;
        model.parameters.check_saved()?;
        Ok(model)
    }

    /// The model of another config over the very same parameters: nothing is copied, and training either model, or
    /// initialising it, changes both. So a flow that was trained on short pieces of signals scores and draws long ones.
    ///
    /// It is built as quickly as [`Self::detached`], without drawing or computing a weight. Both models have one
    /// [`Self::parameters`], so one optimiser, one average of weights or one file serves both; a file of the new one
    /// names its own config.
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
    /// When the config makes other parameters: one of another shape, one that is not there, or not all that are; the
    /// message names it.
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

    /// The config it was made from.
    pub fn config(&self) -> &C {
        &self.config
    }

    /// Its weights and buffers.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The same distribution with its weights as constants: what it gives keeps no graph.
    pub fn detached(&self) -> &C::Built {
        &self.detached
    }

    /// A copy on another device.
    ///
    /// # Errors
    /// When the device has no memory left for it.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let tensors = self.parameters.snapshot()?.into_iter().collect();
        Self::with_tensors(self.config.clone(), self.parameters.dtype(), device, tensors)
    }

    /// Writes weights, buffers and config to one file.
    ///
    /// # Errors
    /// When the file cannot be written; then an older one of the name is still whole.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let config = serde_json::to_string(&self.config).map_err(|e| Error::Config(e.to_string()))?;
        save_model(path.as_ref(), C::KIND, &config, &self.parameters.tensors())
    }

    /// The model that [`Self::save`] or a training run wrote, on this device.
    ///
    /// # Errors
    /// When the file is missing, broken, of another kind or of a newer format.
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
