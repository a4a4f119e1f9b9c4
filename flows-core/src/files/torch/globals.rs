//! The functions and classes that pickles may name.
//!
//! None is ever called: what a call of one describes is data to the reader. A pickle that names anything else is
//! refused.

use super::element::{BYTES, Element};

/// What the reader makes of a call of a function or class.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    /// An object of the class, with its state.
    Object,
    Dict,
    Set,
    /// The tuple that is its argument.
    Size,
    /// A storage of such numbers, in persistent ids.
    Storage(Element),
    /// Only named: the type of a tensor.
    Type(Element),
    /// `_rebuild_tensor_v2`: storage, offset, sizes, strides.
    Tensor,
    /// `_rebuild_tensor_v3`: the same, three more, and the type.
    TypedTensor,
    /// The tensor that is its first argument.
    Parameter,
    /// `_rebuild_from_type_v2`: the function, a class, and the arguments.
    Subclass,
    /// `_reconstruct`: an empty NumPy array, whose state follows.
    Array,
    /// `_frombuffer`: bytes, type, shape, order.
    Buffer,
    /// Type and bytes.
    Scalar,
    /// `numpy.dtype`, by its name.
    NumpyType,
    /// `_codecs.encode`: text whose characters are bytes.
    Encode,
    /// `_reconstructor`: an object of the class that is its first argument.
    Instance,
}

/// The modules of published models that were pickled whole.
const MODELS: [&str; 7] = [
    "glow.Invertible1x1Conv",
    "glow.SqueezeWave",
    "glow.Upsample1d",
    "glow.WN",
    "glow.WaveGlow",
    "glow_old.WN",
    "glow_old.WaveGlow",
];

/// What a global is for; none if no checkpoint of tensors needs it. `name` is its module and its name, joined by a dot.
pub(super) fn role(name: &str) -> Option<Role> {
    // Python 2 names them otherwise.
    if let Some(builtin) = name.strip_prefix("builtins.").or_else(|| name.strip_prefix("__builtin__.")) {
        return match builtin {
            "dict" => Some(Role::Dict),
            "set" | "frozenset" => Some(Role::Set),
            "bool" | "complex" | "float" | "int" | "list" | "object" | "slice" | "str" | "tuple" => Some(Role::Object),
            _ => None,
        };
    }
    // NumPy 2 names them otherwise.
    if let Some(numpy) = name.strip_prefix("numpy.core.").or_else(|| name.strip_prefix("numpy._core.")) {
        return match numpy {
            "multiarray._reconstruct" => Some(Role::Array),
            "multiarray.scalar" => Some(Role::Scalar),
            "numeric._frombuffer" => Some(Role::Buffer),
            _ => None,
        };
    }
    Some(match name {
        "collections.OrderedDict" | "collections.defaultdict" | "collections.Counter" => Role::Dict,
        // The settings of models that PyTorch Lightning trained.
        "pytorch_lightning.utilities.parsing.AttributeDict"
        | "lightning_fabric.utilities.data.AttributeDict"
        | "lightning.fabric.utilities.data.AttributeDict" => Role::Dict,
        "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_qtensor" => {
            Role::Tensor
        }
        "torch._utils._rebuild_tensor_v3" => Role::TypedTensor,
        "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => Role::Parameter,
        "torch._tensor._rebuild_from_type_v2" => Role::Subclass,
        "torch.Size" => Role::Size,
        "torch.storage.UntypedStorage" => Role::Storage(BYTES),
        "numpy.dtype" => Role::NumpyType,
        "_codecs.encode" => Role::Encode,
        "copy_reg._reconstructor" | "copyreg._reconstructor" => Role::Instance,
        "argparse.Namespace"
        | "numpy.ndarray"
        | "pathlib.PosixPath"
        | "pathlib.PurePosixPath"
        | "pathlib.WindowsPath"
        | "torch.Tensor"
        | "torch.device"
        | "torch.per_channel_affine"
        | "torch.per_tensor_affine"
        | "torch.serialization._get_layout" => Role::Object,
        _ if MODELS.contains(&name) => Role::Object,
        _ => return of_torch(name.strip_prefix("torch.")?),
    })
}

/// The role of a name within `torch`: types, storages, modules and optimizers.
fn of_torch(name: &str) -> Option<Role> {
    if let Some(element) = Element::named(name) {
        return Some(Role::Type(element));
    }
    let storage = name.strip_prefix("cuda.").unwrap_or(name).strip_suffix("Storage");
    if let Some(element) = storage.and_then(Element::of_storage) {
        return Some(Role::Storage(element));
    }
    let (module, class) = name.rsplit_once('.')?;
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let is_class = class.starts_with(|c: char| c.is_ascii_uppercase()) && is_word(class);
    let is_module = module.split('.').all(is_word) && matches!(module.split('.').next(), Some("nn" | "optim"));
    (is_class && is_module).then_some(Role::Object)
}
