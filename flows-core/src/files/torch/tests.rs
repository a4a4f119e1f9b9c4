use super::*;
use crate::Rng;
use crate::files::zip::zip_of as archive;
use candle_core::DType;
use std::io::Write;

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn int(n: usize) -> Vec<u8> {
    [b"J", &(n as u32).to_le_bytes()[..]].concat()
}

fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

fn sizes(sizes: &[usize]) -> Vec<u8> {
    tuple(&sizes.iter().map(|n| int(*n)).collect::<Vec<_>>())
}

/// The pickle that PyTorch writes for a tensor.
fn tensor(class: &str, key: &str, offset: usize, dims: &[usize], strides: &[usize]) -> Vec<u8> {
    let class = format!("ctorch\n{class}\n").into_bytes();
    let id = tuple(&[text("storage"), class, text(key), text("cpu"), int(99)]);
    let storage = [&id[..], b"Q"].concat();
    // `requires_grad`, and the hooks, an empty dictionary.
    let hooks = b"ccollections\nOrderedDict\n)R".to_vec();
    let arguments = tuple(&[storage, int(offset), sizes(dims), sizes(strides), b"\x89".to_vec(), hooks]);
    [b"ctorch._utils\n_rebuild_tensor_v2\n", &arguments[..], b"R"].concat()
}

/// A state dict with its metadata.
fn state_dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    let metadata = [b"}", &text("_metadata")[..], b"}sb"].concat();
    [b"\x80\x02ccollections\nOrderedDict\n)Rq\x00(", &items[..], b"u", &metadata[..], b"."].concat()
}

fn parse(bytes: &[u8]) -> Result<HashMap<String, Tensor>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    read_torch(file.path())
}

/// Seven numbers, and the bytes 1 and 0.
fn stored() -> (Vec<u8>, [u8; 2]) {
    ((0..7).flat_map(|i| (i as f32).to_le_bytes()).collect(), [1, 0])
}

fn small() -> Vec<u8> {
    let tensors = state_dict(&[
        ("rows", tensor("FloatStorage", "0", 1, &[2, 3], &[3, 1])),
        ("columns", tensor("FloatStorage", "0", 1, &[3, 2], &[1, 3])),
        ("one", tensor("FloatStorage", "0", 6, &[], &[])),
        ("none", tensor("FloatStorage", "0", 0, &[0, 4], &[4, 1])),
        ("flags", tensor("ByteStorage", "1", 0, &[2], &[1])),
        ("steps", b"K\x07".to_vec()),
        ("weight", {
            let arguments = tuple(&[tensor("FloatStorage", "0", 0, &[7], &[1]), b"\x88".to_vec(), b"}".to_vec()]);
            [b"ctorch._utils\n_rebuild_parameter\n", &arguments[..], b"R"].concat()
        }),
    ]);
    let (numbers, bytes) = stored();
    archive(&[
        ("model/data.pkl", &tensors),
        ("model/byteorder", b"little"),
        ("model/data/0", &numbers),
        ("model/data/1", &bytes),
        ("model/version", b"3\n"),
    ])
}

#[test]
fn tensors_are_read() -> Result<()> {
    let tensors = parse(&small())?;
    let numbers = |name: &str| tensors[name].to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    assert_eq!(tensors.len(), 6);
    assert_eq!((tensors["rows"].dims(), numbers("rows")?), (&[2, 3][..], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    assert_eq!((tensors["columns"].dims(), numbers("columns")?), (&[3, 2][..], vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
    assert_eq!((tensors["one"].dims(), numbers("one")?), (&[][..], vec![6.0]));
    assert_eq!((tensors["none"].dims(), tensors["none"].elem_count()), (&[0, 4][..], 0));
    assert_eq!((tensors["flags"].dtype(), numbers("flags")?), (DType::U8, vec![1.0, 0.0]));
    assert_eq!(numbers("weight")?.len(), 7);
    Ok(())
}

/// The error of a file with seven numbers and this single tensor.
fn refused(tensor: Vec<u8>) -> String {
    let (numbers, _) = stored();
    let file = archive(&[("a/data.pkl", &state_dict(&[("w", tensor)])), ("a/data/0", &numbers)]);
    let error = parse(&file).unwrap_err();
    assert!(error.is_bad_use() && error.to_string().contains("torch.save(model.state_dict(), path)"), "{error}");
    error.to_string()
}

#[test]
fn what_is_not_there_is_an_error() {
    let float = |key, offset, dims: &[usize], strides: &[usize]| tensor("FloatStorage", key, offset, dims, strides);
    let cases: [(Vec<u8>, &str); 9] = [
        (float("0", 2, &[2, 3], &[3, 1]), "`w`: the shape [2, 3] needs more than the 7 numbers"),
        (float("0", 0, &[8], &[1]), "more than the 7"),
        (float("0", 0, &[1 << 30, 1 << 30], &[0, 0]), "more than the 7"),
        (float("0", 0, &[1 << 30; 3], &[1; 3]), "too large"),
        (float("0", 0, &[2], &[u32::MAX as usize]), "a size of -1"),
        (float("0", 0, &[2, 2], &[2]), "different numbers of sizes and strides"),
        (float("1", 0, &[2], &[1]), "no entry `a/data/1`"),
        (tensor("ComplexFloatStorage", "0", 0, &[1], &[1]), "`torch.ComplexFloatStorage`"),
        // A storage of three values, where there should be five.
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000tQK\0K\x01\x85tR"
                .to_vec(),
            "a tuple of 3 values should have 5",
        ),
    ];
    for (tensor, words) in cases {
        let said = refused(tensor);
        assert!(said.contains(words), "{words:?} in {said}");
    }
    // A text of 4 GiB, in a file that is much shorter.
    assert!(refused(b"X\xff\xff\xff\xff".to_vec()).contains("it is truncated"));
    // Lists nested a hundred thousand deep, and a list that contains itself.
    let deep = [&[b']'; 100_000][..], &[b'a'; 99_999], b"."].concat();
    for pickle in [&deep[..], b"\x80\x02]q\x00h\x00a."] {
        assert!(parse(&archive(&[("a/data.pkl", pickle)])).unwrap_err().to_string().contains("no dictionary"));
    }
    for (file, words) in [
        (b"{}".to_vec(), "not a zip archive"),
        (archive(&[("a/data/0", b"")]), "no `data.pkl`"),
        (archive(&[("a/data.pkl", &state_dict(&[])), ("a/byteorder", b"big")]), "big-endian"),
        (archive(&[("a/data.pkl", b"\x80\x02K\x01.")]), "no dictionary"),
        (archive(&[("a/data.pkl", b"\x80\x02\xff.")]), "unsupported opcode 0xff"),
        (archive(&[("a/data.pkl", b"\x80\x02t.")]), "a mark is missing"),
        (archive(&[("a/data.pkl", b"\x80\x02R.")]), "the stack is empty"),
    ] {
        let said = parse(&file).unwrap_err().to_string();
        assert!(said.contains(words), "{words:?} in {said}");
    }
    assert!(read_torch(Path::new("no/such/file.pt")).unwrap_err().to_string().contains("cannot be read"));
}

/// Files that differ from a good one in a few bytes, or are truncated, give an error or tensors, and never a panic.
#[test]
fn broken_files_are_errors() {
    let (good, mut rng) = (small(), Rng::seed(0));
    for end in (0..good.len()).step_by(7) {
        assert!(parse(&good[..end]).is_err(), "{end} of {} bytes", good.len());
    }
    let mut errors = 0;
    for _ in 0..600 {
        let mut bytes = good.clone();
        for _ in 0..=rng.below(3) {
            let at = rng.below(bytes.len());
            bytes[at] = rng.below(256) as u8;
        }
        errors += usize::from(parse(&bytes).is_err());
    }
    assert!(errors > 400, "{errors}");
    // With valid checksums, so that the pickle is parsed.
    let pickle = state_dict(&[("w", tensor("FloatStorage", "0", 0, &[2, 3], &[3, 1]))]);
    for _ in 0..600 {
        let mut pickle = pickle.clone();
        for _ in 0..=rng.below(3) {
            let at = rng.below(pickle.len());
            pickle[at] = rng.below(256) as u8;
        }
        let tensors = parse(&archive(&[("a/data.pkl", &pickle), ("a/data/0", &stored().0)])).unwrap_or_default();
        assert!(tensors.values().all(|tensor| tensor.elem_count() <= 7));
    }
}
