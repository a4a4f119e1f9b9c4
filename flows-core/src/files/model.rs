//! Model files: weights, buffers, and the settings to build the model in the metadata.

use super::MODEL;
use super::finite::check_finite;
use super::tensors::{Contents, VERSION, read_tensors, write_tensors};
use crate::{Error, Result};
use candle_core::Tensor;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The contents of a model file.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The kind of the model.
    pub kind: String,
    /// Its settings as JSON.
    pub config: String,
    /// The training step at which it was saved, if it was saved by a trainer.
    pub step: Option<u64>,
    /// Weights and buffers by name, on the CPU.
    pub tensors: HashMap<String, Tensor>,
}

impl ModelFile {
    /// Checks that the file holds a model of this kind.
    ///
    /// # Errors
    /// When it is of another kind.
    pub fn expect_kind(&self, kind: &str) -> Result<()> {
        if self.kind == kind {
            return Ok(());
        }
        let message = format!("holds a model of kind `{}`, but `{kind}` is required: give another file", self.kind);
        Err(Error::file(&self.path, message))
    }

    /// Deserialises the settings.
    ///
    /// # Errors
    /// When they are not settings of this type.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.config).map_err(|error| {
            let message =
                format!("has settings that this build does not understand ({error}); use the build that wrote it");
            Error::file(&self.path, message).with_source(error)
        })
    }
}

/// Writes a model: tensors, and metadata `format` = "flows", `version`, `kind` and `config` (JSON).
///
/// The file is written beside `path`, synced and renamed: a crash leaves the old file or the new.
///
/// # Errors
/// When `config` is not JSON, a tensor holds NaN or infinity ([`Error::Diverged`], which names it), or the
/// file cannot be written. The file is then as it was.
pub fn save_model(path: &Path, kind: &str, config: &str, tensors: &[(String, Tensor)]) -> Result<()> {
    save_model_at(path, kind, config, None, tensors)
}

pub(crate) fn save_model_at(
    path: &Path,
    kind: &str,
    config: &str,
    step: Option<u64>,
    tensors: &[(String, Tensor)],
) -> Result<()> {
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(config) {
        return Err(Error::Config(format!("the settings of the model are not JSON ({error})")));
    }
    check_finite(tensors)?;
    let mut metadata = metadata(MODEL, kind, config);
    if let Some(step) = step {
        metadata.insert("step", step.to_string());
    }
    write_tensors(path, &metadata, tensors)
}

/// Reads the file that [`save_model`] wrote.
///
/// # Errors
/// When it is missing, truncated, not a safetensors file, from another program or of a newer version.
pub fn load_model(path: &Path) -> Result<ModelFile> {
    let remedy = "give the path of a model that this program saved, or train one";
    let Contents { mut metadata, tensors } = read_tensors(path, MODEL, remedy)?;
    let mut take = |name: &str| {
        metadata.remove(name).ok_or_else(|| Error::file(path, format!("has no `{name}` in its metadata; {remedy}")))
    };
    let (kind, config) = (take("kind")?, take("config")?);
    let step = take("step").ok().and_then(|step| step.parse().ok());
    Ok(ModelFile { path: path.to_path_buf(), kind, config, step, tensors })
}

pub(crate) fn metadata(format: &str, kind: &str, config: &str) -> BTreeMap<&'static str, String> {
    let entries = [("format", format), ("kind", kind), ("config", config)];
    let mut metadata: BTreeMap<_, _> = entries.map(|(name, value)| (name, value.to_string())).into();
    metadata.insert("version", VERSION.to_string());
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn tensors() -> Vec<(String, Tensor)> {
        let values = Tensor::new(&[[0.0f64, 1.0, 2.0], [3.0, 4.0, 5.0]], &Device::Cpu).unwrap();
        let types = [DType::U8, DType::U32, DType::I64, DType::BF16, DType::F16, DType::F32, DType::F64];
        let mut tensors: Vec<(String, Tensor)> =
            types.iter().map(|t| (format!("{t:?}"), values.to_dtype(*t).unwrap())).collect();
        tensors.push(("transposed".into(), values.t().unwrap()));
        tensors.push(("scalar".into(), Tensor::new(0.1f32, &Device::Cpu).unwrap()));
        tensors.push(("empty".into(), Tensor::zeros((0, 2), DType::F32, &Device::Cpu).unwrap()));
        tensors
    }

    #[test]
    fn a_model_is_restored_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save_model(&path, "demo", r#"{"width":[1,2]}"#, &tensors()).unwrap();
        let first = std::fs::read(&path).unwrap();
        let file = load_model(&path).unwrap();
        assert_eq!((file.kind.as_str(), file.step), ("demo", None));
        assert_eq!(file.config::<HashMap<String, Vec<u32>>>().unwrap()["width"], [1, 2]);
        assert!(file.config::<Vec<u32>>().is_err());
        for (name, want) in tensors() {
            let got = &file.tensors[&name];
            assert_eq!((got.dtype(), got.dims()), (want.dtype(), want.dims()), "{name}");
            assert_eq!(crate::testing::difference(got, &want).unwrap(), 0.0, "{name}");
        }
        file.expect_kind("demo").unwrap();
        assert!(file.expect_kind("glow").unwrap_err().to_string().contains("`demo`"));
        save_model(&path, "demo", r#"{"width":[1,2]}"#, &tensors()).unwrap();
        assert_eq!(first, std::fs::read(&path).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn non_finite_numbers_are_not_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save_model(&path, "demo", "{}", &tensors()).unwrap();
        let before = std::fs::read(&path).unwrap();
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            for bad in [f64::NAN, f64::INFINITY] {
                let spoilt = Tensor::new(&[1.0, bad], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
                let tensors = [tensors(), vec![("layer.spoilt".into(), spoilt)]].concat();
                let error = save_model(&path, "demo", "{}", &tensors).unwrap_err();
                assert!(matches!(&error, Error::Diverged(message) if message.contains("`layer.spoilt`")), "{error}");
                assert_eq!(std::fs::read(&path).unwrap(), before);
            }
        }
    }

    #[test]
    fn files_that_are_not_models_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let said = |part: &str| {
            let error = load_model(&path).unwrap_err();
            assert!(matches!(error, Error::File { .. }) && error.to_string().contains(part), "{error}");
        };
        said("does not exist");
        std::fs::write(&path, b"").unwrap();
        said("is empty");
        std::fs::write(&path, b"PK\x03\x04 and so on, a zip file perhaps").unwrap();
        said("not a safetensors file");
        save_model(&path, "demo", "{}", &tensors()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for keep in [4, 20, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..keep]).unwrap();
            said("cut short");
        }
        let with = |changes: &[(&'static str, &str)]| {
            let mut metadata = metadata(MODEL, "demo", "{}");
            metadata.extend(changes.iter().map(|(name, value)| (*name, value.to_string())));
            write_tensors(&path, &metadata, &tensors()).unwrap();
        };
        with(&[("format", "pt")]);
        said("another program");
        with(&[("version", "2")]);
        said("update it");
        with(&[("format", crate::files::TRAINING)]);
        said("beside it");
        assert!(save_model(&path, "demo", "{", &[]).is_err());
        let nowhere = folder.path().join("no/model.safetensors");
        assert!(matches!(save_model(&nowhere, "demo", "{}", &[]), Err(Error::Io(_))));
    }
}
