//! The types of numbers that files hold.

use candle_core::DType;
use safetensors::tensor::Dtype;

/// A type of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Element {
    /// PyTorch's name of it.
    pub(super) name: &'static str,
    /// None if tensors of it cannot be read.
    pub(super) dtype: Option<DType>,
    /// The size of a number in bytes; 0 if several share one.
    pub(super) size: u64,
}

const fn element(name: &'static str, dtype: DType, size: u64) -> Element {
    Element { name, dtype: Some(dtype), size }
}

/// A type that no tensor here has.
const fn foreign(name: &'static str, size: u64) -> Element {
    Element { name, dtype: None, size }
}

/// Storages without a type, as tensors with a type of their own have them.
pub(super) const BYTES: Element = foreign("bytes", 1);

/// Types by the names of their storages, without `Storage`; `-` where there is none.
const ELEMENTS: [(&str, Element); 21] = [
    ("Float", element("float32", DType::F32, 4)),
    ("Double", element("float64", DType::F64, 8)),
    ("Half", element("float16", DType::F16, 2)),
    ("BFloat16", element("bfloat16", DType::BF16, 2)),
    ("Long", element("int64", DType::I64, 8)),
    ("Int", element("int32", DType::I32, 4)),
    ("Short", element("int16", DType::I16, 2)),
    ("Byte", element("uint8", DType::U8, 1)),
    ("Bool", element("bool", DType::U8, 1)),
    ("-", element("uint32", DType::U32, 4)),
    ("Char", foreign("int8", 1)),
    ("-", foreign("uint16", 2)),
    ("-", foreign("uint64", 8)),
    ("-", foreign("float8_e4m3fn", 1)),
    ("-", foreign("float8_e5m2", 1)),
    ("ComplexFloat", foreign("complex64", 8)),
    ("ComplexDouble", foreign("complex128", 16)),
    ("QInt8", foreign("qint8", 1)),
    ("QUInt8", foreign("quint8", 1)),
    ("QInt32", foreign("qint32", 4)),
    ("Untyped", BYTES),
];

impl Element {
    /// The type of a storage, such as `Float` of `FloatStorage`.
    pub(super) fn of_storage(name: &str) -> Option<Self> {
        ELEMENTS.iter().find(|(storage, _)| *storage == name).map(|(_, element)| *element)
    }

    /// The type of this name in PyTorch, such as `float32`.
    pub(super) fn named(name: &str) -> Option<Self> {
        ELEMENTS.iter().find(|(_, element)| element.name == name).map(|(_, element)| *element)
    }

    /// NumPy's type of this name, such as `f4`.
    pub(super) fn of_numpy(name: &str) -> Option<Self> {
        Self::named(match name {
            "f2" => "float16",
            "f4" => "float32",
            "f8" => "float64",
            "i1" => "int8",
            "i2" => "int16",
            "i4" => "int32",
            "i8" => "int64",
            "u1" => "uint8",
            "u2" => "uint16",
            "u4" => "uint32",
            "u8" => "uint64",
            "b1" => "bool",
            "c8" => "complex64",
            "c16" => "complex128",
            _ => return None,
        })
    }

    pub(super) fn of_safetensors(dtype: Dtype) -> Self {
        let name = match dtype {
            Dtype::F32 => "float32",
            Dtype::F64 => "float64",
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            Dtype::I64 => "int64",
            Dtype::I32 => "int32",
            Dtype::I16 => "int16",
            Dtype::I8 => "int8",
            Dtype::U64 => "uint64",
            Dtype::U32 => "uint32",
            Dtype::U16 => "uint16",
            Dtype::U8 => "uint8",
            Dtype::BOOL => "bool",
            Dtype::C64 => "complex64",
            _ => return foreign("narrow floating-point", 0),
        };
        Self::named(name).unwrap_or(BYTES)
    }
}
