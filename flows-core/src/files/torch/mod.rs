//! Checkpoints of PyTorch and its kin: what they hold, and their tensors.

mod calls;
mod contents;
mod element;
mod entry;
mod globals;
mod graph;
mod input;
mod pickle;
mod records;
mod stored;

use super::source::{Fault, Source};
use crate::{Error, Result};
use candle_core::Tensor;
use contents::{Contents, mistake};
pub use entry::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
pub use stored::StoredTensor;
use stored::latin1;

const REMEDY: &str = "download it again, or save the state dict alone: torch.save(model.state_dict(), path)";

/// The keys under which programs save state dicts.
const STATE_DICTS: [&str; 3] = ["state_dict", "model", "model_state_dict"];

/// A checkpoint: a description of what is in a file, whose tensors are read when they are asked for.
///
/// The formats are
/// - PyTorch's zip archives, and its older files of five pickles;
/// - bare pickles with NumPy's arrays, as Paddle writes them (`.pdparams`);
/// - NeMo's archives (`.nemo`), a gzipped one being unpacked into memory, as is what is compressed in a zip archive;
/// - safetensors, whose tensors are a dictionary here.
///
/// State dicts, dictionaries and lists of anything, and whole modules (`torch.save(model, path)`) of PyTorch's own
/// classes and of WaveGlow and SqueezeWave are read. Nothing that a pickle names is executed, and one that names
/// anything else than what describes these is refused. Sizes are checked before memory is allocated, and the
/// description is limited to a million values, so that a malicious or damaged file is only an error.
///
/// ```no_run
/// # fn main() -> flows_core::Result<()> {
/// use flows_core::files::Checkpoint;
///
/// let checkpoint = Checkpoint::open("waveglow.pt")?;
/// for tensor in checkpoint.state_dict()?.tensors() {
///     println!("{} {:?}", tensor.name(), tensor.shape());
/// }
/// let config = checkpoint.root().get("config").map(|config| config.to_json()).transpose()?;
/// # Ok(())
/// # }
/// ```
pub struct Checkpoint {
    path: PathBuf,
    contents: Contents,
    /// How many bytes of tensors may be read at once.
    most: u64,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// Opens a file and reads what describes its tensors, but not their numbers.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, of another format, holds no tensors, or names what is not needed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let unreadable = |e: std::io::Error| {
            Error::file(path, format!("cannot be read ({e}); check the name and the permissions")).with_source(e)
        };
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(Error::file(path, "is not a file; give the path of a checkpoint"));
        }
        let file = File::open(path).map_err(unreadable)?;
        let refused = |fault: Fault| Error::file(path, format!("cannot be read as a checkpoint ({fault}); {REMEDY}"));
        let source = Source::file(file).map_err(refused)?;
        let start = source.read(0, source.length().min(512)).map_err(refused)?;
        match mistake(&start) {
            Some(mistake) => Err(Error::file(path, mistake)),
            None => Self::of(path, source).map_err(refused),
        }
    }

    fn of(path: &Path, source: Source) -> std::result::Result<Self, Fault> {
        let most = plausible(source.length());
        let contents = Contents::of(source, most, false)?;
        contents.graph.check(contents.root)?;
        // Several tensors may share numbers, but not without limit.
        let most = contents.size().saturating_mul(4).min(most);
        let checkpoint = Self { path: path.into(), contents, most };
        let tensors = checkpoint.root().tensors();
        if tensors.is_empty() {
            return Err("it holds no tensors".into());
        }
        tensors.iter().try_for_each(StoredTensor::check)?;
        drop(tensors);
        Ok(checkpoint)
    }

    /// What the file as a whole is: in most a dictionary or a module.
    pub fn root(&self) -> Entry<'_> {
        Entry { checkpoint: self, at: self.contents.root }
    }

    /// The state dict or module: what is under `state_dict`, `model` or `model_state_dict`, or the whole.
    ///
    /// # Errors
    /// When there is none; the message says what there is.
    pub fn state_dict(&self) -> Result<Entry<'_>> {
        let root = self.root();
        let is_state_dict = |entry: &Entry<'_>| {
            self.contents.graph.module(entry.at).is_some()
                || entry.entries().iter().any(|(_, value)| value.tensor().is_some())
        };
        // Beside a state dict there may be other tensors, such as the state of a generator of random numbers. A module
        // is whole, even if one of its children has such a name.
        let is_module = self.contents.graph.module(root.at).is_some();
        let named = STATE_DICTS.iter().filter(|_| !is_module).filter_map(|key| root.get(key));
        named.chain([root]).find(is_state_dict).ok_or_else(|| {
            let keys: Vec<String> = root.entries().into_iter().map(|(key, _)| format!("`{key}`")).take(10).collect();
            let message = format!("has no state dict as a whole, nor under {}", STATE_DICTS.join(", "));
            Error::file(&self.path, format!("{message}, but {}; {REMEDY}", keys.join(", ")))
        })
    }

    /// The texts that the file holds beside its tensors: the metadata of safetensors, `model_config.yaml` of NeMo.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.contents.metadata
    }
}

/// The most bytes that may be unpacked from a file of this length: weights hardly shrink, unless they are all zeros.
fn plausible(length: u64) -> u64 {
    length.saturating_mul(8).saturating_add(1 << 24)
}

/// Reads the state dict of a checkpoint: all its tensors by name, as [`Checkpoint::state_dict`] finds them.
///
/// # Errors
/// When the file is missing, damaged, of another kind, or has no state dict.
pub fn read_torch(path: &Path) -> Result<HashMap<String, Tensor>> {
    Checkpoint::open(path)?.state_dict()?.read_tensors()
}

#[cfg(test)]
mod tests;
