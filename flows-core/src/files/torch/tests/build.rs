//! Small files as PyTorch and its kin write them.

use crate::files::zip::zip_of;

pub(super) fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

pub(super) fn int(n: usize) -> Vec<u8> {
    [b"J", &(n as u32).to_le_bytes()[..]].concat()
}

pub(super) fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

pub(super) fn sizes(sizes: &[usize]) -> Vec<u8> {
    tuple(&sizes.iter().map(|n| int(*n)).collect::<Vec<_>>())
}

pub(super) fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    [b"}(", &items[..], b"u"].concat()
}

/// A pickle of this value.
pub(super) fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02", value, b"."].concat()
}

/// An object of a class with this state.
pub(super) fn object(class: &[u8], state: &[u8]) -> Vec<u8> {
    [class, b")\x81", state, b"b"].concat()
}

/// How many numbers the storage of this class has.
fn count(class: &str) -> usize {
    if class == "ByteStorage" { 2 } else { 7 }
}

/// A tensor in a storage of `count` numbers; `last` is what files before PyTorch 1.6 add to its description.
pub(super) fn tensor_with(
    class: &str,
    key: &str,
    [offset, count]: [usize; 2],
    dims: &[usize],
    strides: &[usize],
    last: &[u8],
) -> Vec<u8> {
    let storage = format!("ctorch\n{class}\n").into_bytes();
    let id = [text("storage"), storage, text(key), text("cpu"), int(count), last.to_vec()].concat();
    let storage = [b"(", &id[..], b"tQ"].concat();
    // `requires_grad`, and the hooks, an empty dictionary.
    let hooks = b"ccollections\nOrderedDict\n)R".to_vec();
    let arguments = tuple(&[storage, int(offset), sizes(dims), sizes(strides), b"\x89".to_vec(), hooks]);
    [b"ctorch._utils\n_rebuild_tensor_v2\n", &arguments[..], b"R"].concat()
}

/// The pickle that PyTorch writes for a tensor.
pub(super) fn tensor(class: &str, key: &str, offset: usize, dims: &[usize], strides: &[usize]) -> Vec<u8> {
    tensor_with(class, key, [offset, count(class)], dims, strides, b"")
}

/// The same in a storage of this many numbers.
pub(super) fn tensor_of(count: usize, dims: &[usize], strides: &[usize]) -> Vec<u8> {
    tensor_with("FloatStorage", "0", [0, count], dims, strides, b"")
}

/// The first of the seven numbers.
pub(super) fn numbers(n: usize) -> Vec<u8> {
    tensor("FloatStorage", "0", 0, &[n], &[1])
}

pub(super) fn parameter(tensor: Vec<u8>) -> Vec<u8> {
    let arguments = tuple(&[tensor, b"\x88".to_vec(), b"}".to_vec()]);
    [b"ctorch._utils\n_rebuild_parameter\n", &arguments[..], b"R"].concat()
}

/// A state dict with its metadata.
pub(super) fn state_dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let metadata = [b"}", &text("_metadata")[..], b"}sb"].concat();
    let items = dict(items);
    [b"ccollections\nOrderedDict\n)Rq\x00", &items[1..], &metadata[..]].concat()
}

/// Seven numbers, and the bytes 1 and 0.
pub(super) fn stored() -> (Vec<u8>, [u8; 2]) {
    ((0..7).flat_map(|i| (i as f32).to_le_bytes()).collect(), [1, 0])
}

/// An archive of PyTorch of this value.
pub(super) fn archive(value: &[u8]) -> Vec<u8> {
    let (numbers, bytes) = stored();
    zip_of(&[
        ("model/data.pkl", &pickle(value)),
        ("model/byteorder", b"little"),
        ("model/data/0", &numbers),
        ("model/data/1", &bytes),
        ("model/version", b"3\n"),
    ])
}

/// The same archive without checksums, as PyTorch writes it after `set_crc32_options(False)`.
pub(super) fn without_checksums(mut archive: Vec<u8>) -> Vec<u8> {
    let headers: Vec<usize> = (0..archive.len()).filter(|at| archive[*at..].starts_with(b"PK\x01\x02")).collect();
    headers.iter().for_each(|at| archive[at + 16..at + 20].fill(0));
    archive
}

/// A state dict of tensors of all kinds.
pub(super) fn tensors() -> Vec<u8> {
    state_dict(&[
        ("rows", tensor("FloatStorage", "0", 1, &[2, 3], &[3, 1])),
        ("columns", tensor("FloatStorage", "0", 1, &[3, 2], &[1, 3])),
        ("one", tensor("FloatStorage", "0", 6, &[], &[])),
        ("none", tensor("FloatStorage", "0", 0, &[0, 4], &[4, 1])),
        ("flags", tensor("ByteStorage", "1", 0, &[2], &[1])),
        ("steps", b"K\x07".to_vec()),
        ("weight", parameter(numbers(7))),
    ])
}

/// The state of a module with these parameters and children.
pub(super) fn parts(parameters: &[(&str, Vec<u8>)], modules: &[(&str, Vec<u8>)]) -> Vec<u8> {
    dict(&[("_parameters", dict(parameters)), ("_buffers", dict(&[])), ("_modules", dict(modules))])
}

/// A module with weight norm, in protocol 2: a parameter that is none, a buffer that is not saved, stale attributes.
pub(super) fn module(class: &[u8]) -> Vec<u8> {
    let hook =
        object(b"ctorch.nn.utils.weight_norm\nWeightNorm\n", &dict(&[("name", text("weight")), ("dim", int(0))]));
    let convolution = dict(&[
        ("training", b"\x89".to_vec()),
        (
            "_parameters",
            dict(&[("bias", b"N".to_vec()), ("weight_g", parameter(numbers(1))), ("weight_v", parameter(numbers(3)))]),
        ),
        ("_buffers", dict(&[])),
        ("_forward_pre_hooks", [b"ccollections\nOrderedDict\n)R", &int(0)[..], &hook[..], b"s"].concat()),
        ("_modules", dict(&[])),
        ("weight", numbers(2)),
        ("W_inverse", numbers(4)),
        ("stride", tuple(&[int(1)])),
    ]);
    let convolution = object(b"ctorch.nn.modules.conv\nConv1d\n", &convolution);
    let whole = dict(&[
        ("_parameters", dict(&[("shift", parameter(numbers(5)))])),
        ("_buffers", dict(&[("passing", numbers(6)), ("mean", numbers(7)), ("absent", b"N".to_vec())])),
        ("_non_persistent_buffers_set", [b"c__builtin__\nset\n(](", &text("passing")[..], b"etR"].concat()),
        ("_modules", dict(&[("start", convolution), ("end", b"N".to_vec())])),
        ("n_group", int(8)),
    ]);
    object(class, &whole)
}

/// A file of PyTorch before version 1.6, of a module beside a number.
pub(super) fn legacy() -> Vec<u8> {
    let class = tuple(&[text("module"), b"cglow\nWaveGlow\n".to_vec(), text("glow.py"), text("class WaveGlow: ...")]);
    let model = module(&[&class[..], b"Q"].concat());
    // Storages have a sixth field there.
    let model = with_views(&model);
    let mut file = pickle(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19");
    file.extend(pickle(b"M\xe9\x03"));
    file.extend(pickle(&dict(&[("protocol_version", b"M\xe9\x03".to_vec()), ("little_endian", b"\x88".to_vec())])));
    file.extend(pickle(&dict(&[("model", model), ("iteration", int(3))])));
    file.extend(pickle(&[b"]", &text("0")[..], b"a"].concat()));
    file.extend(7u64.to_le_bytes());
    file.extend(stored().0);
    file
}

/// The descriptions of storages with the field `view`, which is none.
fn with_views(pickle: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), pickle);
    let end = [text("cpu"), int(7)].concat();
    while let Some(at) = rest.windows(end.len()).position(|window| window == end) {
        out.extend(&rest[..at + end.len()]);
        out.push(b'N');
        rest = &rest[at + end.len()..];
    }
    out.extend(rest);
    out
}

/// An array of NumPy with these bytes, which are the pickle of a value.
pub(super) fn array(kind: &str, dims: &[usize], fortran: bool, bytes: Vec<u8>) -> Vec<u8> {
    let flag = if fortran { b"\x88" } else { b"\x89" }.to_vec();
    let state = [int(3), text("<"), b"NNN".to_vec(), int(u32::MAX as usize), int(u32::MAX as usize), int(0)];
    let name = tuple(&[text(kind), b"\x89".to_vec(), b"\x88".to_vec()]);
    let dtype = [b"cnumpy\ndtype\n", &name[..], b"R", &tuple(&state)[..], b"b"].concat();
    let start = tuple(&[b"cnumpy\nndarray\n".to_vec(), sizes(&[0]), encoded(b"b")]);
    let state = tuple(&[int(1), sizes(dims), dtype, flag, bytes]);
    [b"cnumpy.core.multiarray\n_reconstruct\n", &start[..], b"R", &state[..], b"b"].concat()
}

/// Bytes in protocol 2.
pub(super) fn encoded(bytes: &[u8]) -> Vec<u8> {
    let characters: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let arguments = tuple(&[text(&characters), text("latin1")]);
    [b"c_codecs\nencode\n", &arguments[..], b"R"].concat()
}

/// A file of Paddle, with arrays in the notations of protocols 2 and 4, and a table of names.
pub(super) fn paddle() -> Vec<u8> {
    let (bytes, doubles) = (stored().0, 2f64.to_le_bytes());
    let binary = [b"B", &(bytes.len() as u32).to_le_bytes()[..], &bytes[..]].concat();
    pickle(&dict(&[
        ("decoder.weight", array("f4", &[7], false, encoded(&bytes))),
        ("decoder.rows", array("f4", &[7, 1], true, binary.clone())),
        ("decoder.columns", array("f4", &[3, 2], true, [b"C\x18", &bytes[..24]].concat())),
        ("order", array("i8", &[1], false, [b"C\x08", &5i64.to_le_bytes()[..]].concat())),
        ("one", array("f8", &[], false, encoded(&doubles))),
        ("names", array("O8", &[1], false, b"](Nl".to_vec())),
        ("StructuredToParameterName@@", dict(&[("decoder.weight", text("linear_0.w_0"))])),
    ]))
}

/// A tar archive.
pub(super) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = Vec::new();
    for (name, bytes) in members {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
        header[148..156].fill(b' ');
        header[156] = b'0';
        header[257..263].copy_from_slice(b"ustar\0");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        file.extend(header);
        file.extend(*bytes);
        file.resize(file.len().next_multiple_of(512), 0);
    }
    file.resize(file.len() + 1024, 0);
    file
}

pub(super) fn nemo() -> Vec<u8> {
    tar(&[("./model_config.yaml", b"sigma: 1.0\n"), ("./model_weights.ckpt", &archive(&tensors()))])
}

pub(super) fn safetensors() -> Vec<u8> {
    let header = [
        r#"{"__metadata__":{"config":"{}"},"b":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"#,
        r#""a":{"dtype":"F32","shape":[3],"data_offsets":[16,28]}} "#,
    ]
    .concat();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &stored().0[..]].concat()
}
