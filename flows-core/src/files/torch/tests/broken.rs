//! Files that are damaged, malicious, or something else.

use super::build::*;
use super::*;
use crate::Rng;

fn refused(bytes: &[u8]) -> String {
    open(bytes).unwrap_err().to_string()
}

#[test]
fn what_is_not_there_is_an_error() {
    let float = |key, offset, dims: &[usize], strides: &[usize]| tensor("FloatStorage", key, offset, dims, strides);
    let short =
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000tQK\0K\x01\x85tR";
    let cases: [(Vec<u8>, &str); 13] = [
        (
            float("0", 2, &[2, 3], &[3, 1]),
            "`w`: the shape [2, 3] with the strides [3, 1] needs more than the 7 numbers",
        ),
        (float("0", 0, &[8], &[1]), "more than the 7"),
        (float("0", 0, &[2, 2], &[1000, 1]), "more than the 7"),
        (float("0", 0, &[4, 2], &[0, 1]), "more than the 7"),
        (float("0", 0, &[1 << 30, 1 << 30], &[0, 0]), "more than the 7"),
        (float("0", 0, &[1 << 30; 3], &[1; 3]), "too large"),
        (float("0", 0, &[2], &[u32::MAX as usize]), "a size of -1"),
        (float("0", u32::MAX as usize, &[2], &[1]), "an offset of -1"),
        (float("0", 0, &[2, 2], &[2]), "different numbers of sizes and strides"),
        (float("2", 0, &[2], &[1]), "no record `2`"),
        (float("../../etc/passwd", 0, &[2], &[1]), "no record"),
        (tensor_of(1 << 30, &[7], &[1]), "a storage of 1073741824 numbers is in a record of 28 bytes"),
        (short.to_vec(), "a tuple of 3 values should have 5"),
    ];
    for (tensor, words) in cases {
        let said = refused(&archive(&state_dict(&[("w", tensor)])));
        assert!(said.contains(words), "{words:?} in {said}");
    }
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    // Lists nested a hundred thousand deep; and a list, a dictionary and a module that contain themselves.
    let deep = [&[b']'; 100_000][..], &[b'a'; 99_999]].concat();
    let cyclic = [b"cglow\nWaveGlow\n)\x81q\x00}", &text("_modules")[..], b"}", &text("WN")[..], b"h\x00ssb"].concat();
    // Each pair holds the last one twice.
    let doubled = [&b"]q\x00"[..], &b"h\x00h\x00\x86q\x00".repeat(60)].concat();
    let pickles: [(&[u8], &str); 24] = [
        (&deep, "nested more than 256 deep"),
        (b"]q\x00h\x00a", "contains itself"),
        (b"}q\x00X\x01\0\0\0ah\x00s", "contains itself"),
        (&cyclic, "contains itself"),
        (&doubled, "too many to be read"),
        (b"X\xff\xff\xff\xff", "it is truncated"),
        (b"\x8b\xff\xff\xff\x7f", "it is truncated"),
        (b"\x8b\xfb\xff\xff\xff", "a negative length"),
        (b"K\x01", "no tensors"),
        (b"}", "no tensors"),
        (b"\xff", "the opcode 0xff"),
        (b"t", "a mark is missing"),
        (b"R", "the stack is empty"),
        (b"h\x05", "not in the memo"),
        (b"\x80\x09", "the protocol is 9"),
        (b"}]K\x01s", "a list, a dictionary or a set is a key"),
        (b"}X\x01\0\0\0\xffK\x01s", "not UTF-8"),
        (b"(X\x02\0\0\0lsios\nsystem\n", "the opcode 0x69"),
        (b"cos\nsystem\n(X\x02\0\0\0lstR", "names `os.system`"),
        (b"\x80\x04\x8c\x05torch\x8c\x17serialization.os.system\x93", "`torch.serialization.os.system`"),
        (b"ctorch.nn.modules.os\nsystem\n", "`torch.nn.modules.os.system`"),
        (b"cmodels\nGenerator\n)\x81}b", "`models.Generator`"),
        (b"c_codecs\nencode\n(X\x01\0\0\0xX\x05\0\0\0rot13tR", "text of Latin-1"),
        (b"ctorch.storage\n_load_from_bytes\n", "`torch.storage._load_from_bytes`"),
    ];
    for (value, words) in pickles {
        let said = refused(&archive(value));
        assert!(said.contains(words), "{words:?} in {said}");
        // Nothing depends on what surrounds the pickle.
        assert!(open(&pickle(value)).is_err() && open(&tar(&[("model_weights.ckpt", &archive(value))])).is_err());
    }
    let good = pickle(&state_dict(&[]));
    for (file, words) in [
        (b"{} and so on".to_vec(), "no zip archive, pickle"),
        (zip_of(&[("a/data/0", b"")]), "no `data.pkl`"),
        (zip_of(&[("a/data.pkl", &good), ("a/byteorder", b"big")]), "big-endian"),
        (zip_of(&[("a/data.pkl", &good), ("a/constants.pkl", b""), ("a/code/b.py", b"")]), "TorchScript"),
        (archive(&tensors())[..900].to_vec(), "truncated"),
        (legacy()[..legacy().len() - 1].to_vec(), "truncated"),
        (legacy()[..12].to_vec(), "truncated"),
        (nemo()[..2000].to_vec(), "truncated"),
        (tar(&[("a", b"b")]), "no `model_weights.ckpt`"),
        (tar(&[("model_weights.ckpt", &nemo())]), "no zip archive"),
    ] {
        let said = refused(&file);
        assert!(said.contains(words), "{words:?} in {said}");
    }
    // A legacy file whose storage claims 2^50 numbers.
    let mut lying = legacy();
    let at = lying.len() - stored().0.len() - 8;
    lying[at..at + 8].copy_from_slice(&(1u64 << 50).to_le_bytes());
    assert!(refused(&lying).contains("has 1125899906842624 of them"));
}

/// In protocol 0 the bytes of arrays are text with escapes, which would be taken for what follows in the file.
#[test]
fn arrays_in_protocol_0_are_refused() {
    let dtype = |name: &str| format!("cnumpy\ndtype\n(V{name}\nI00\nI01\ntR(I3\nV<\nNNNI-1\nI-1\nI0\ntb");
    // As `pickle.dumps({"w": numpy.array([0.5, 2.0], "<f4")}, 0)` writes it.
    let empty = "cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntc_codecs\nencode\n(Vb\nVlatin1\ntRtR";
    let bytes = r"(V\u0000\u0000\u0000?\u0000\u0000\u0000@";
    let coded = format!("c_codecs\nencode\n{bytes}\nVlatin1\ntR");
    let array = |bytes: &str| format!("(dVw\n{empty}(I1\n(I2\nt{}I00\n{bytes}tbs.", dtype("f4"));
    let scalar = format!("(dVw\ncnumpy._core.multiarray\nscalar\n({}{coded}tRs.", dtype("f8"));
    for file in [array(&coded), array("S'\0\0\0?\0\0\0@'\n"), scalar] {
        let said = refused(file.as_bytes());
        assert!(said.contains("in protocol 0"), "{said}");
    }
}

#[test]
fn common_mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    let said = || Checkpoint::open(&path).unwrap_err();
    assert!(said().to_string().contains("cannot be read"), "{}", said());
    for (bytes, words) in [
        (&b""[..], "is empty: download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"PK\x03", "directory at its end"),
        (b"cos\nsystem\n.", "nothing was executed); download it again, or save the state dict"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        assert!(said().is_bad_use() && said().to_string().contains(words), "{words:?} in {}", said());
    }
    assert!(Checkpoint::open(folder.path()).unwrap_err().to_string().contains("is not a file"));
}

/// Dictionaries, sets and sizes that are made of one list again and again take no memory of their own, or are refused.
#[test]
fn what_is_described_once_is_not_multiplied() {
    let pair = b"](K\x01K\x02e".to_vec();
    let pairs = [b"](", &pair.repeat(1000)[..], b"eq\x00"].concat();
    let again = b"ccollections\nOrderedDict\n(h\x00tR0".repeat(2000);
    assert!(refused(&archive(&[pairs, again].concat())).contains("dictionaries are too many"));
    let axes = [b"(", &b"K\x01".repeat(100_000)[..], b"t"].concat();
    let arguments = tuple(&[
        [b"(", &text("storage")[..], b"ctorch\nFloatStorage\n", &text("0"), &text("cpu"), &int(7), b"tQ"].concat(),
        int(0),
        axes,
        sizes(&[1]),
    ]);
    let tensor = [b"ctorch._utils\n_rebuild_tensor_v2\n", &arguments[..], b"R"].concat();
    assert!(refused(&archive(&tensor)).contains("100000 dimensions"));
    // One array under many names is read once; many that share bytes are together larger than the file.
    let bytes = [b"B", &(1u32 << 16).to_le_bytes()[..], &[0; 1 << 16], b"q\x01"].concat();
    let shared = array("f4", &[1 << 14], false, b"h\x01".to_vec());
    let items: Vec<u8> = (0..50).flat_map(|i| [text(&i.to_string()), shared.clone()].concat()).collect();
    let whole = pickle(&[&bytes[..], b"0}(", &items, b"u"].concat());
    let said = open(&whole).unwrap().root().read_tensors().unwrap_err().to_string();
    assert!(said.contains("more numbers than it holds"), "{said}");
}

/// Opens and reads files that differ from these in a few bytes, or are truncated; counts those that open, and the errors.
fn mutate(files: &[Vec<u8>], mutations: usize, seed: u64) -> (usize, usize) {
    let mut rng = Rng::seed(seed);
    let (mut opened, mut errors) = (0, 0);
    for (i, file) in files.iter().cycle().take(mutations).enumerate() {
        let mut bytes = file.clone();
        if i.is_multiple_of(16) {
            bytes.truncate(rng.below(bytes.len()));
        } else {
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len());
                bytes[at] = rng.below(256) as u8;
            }
        }
        let Ok(checkpoint) = open(&bytes) else {
            errors += 1;
            continue;
        };
        opened += 1;
        let root = checkpoint.root();
        let tensors = root.read_tensors().unwrap_or_default();
        let count: usize = tensors.values().map(Tensor::elem_count).sum();
        assert!(count <= 64 * bytes.len(), "{count} numbers of {} bytes", bytes.len());
        // That they give anything or an error is all that there is to say of these.
        root.entries().iter().for_each(|(_, entry)| drop(entry.to_json()));
        drop(checkpoint.state_dict());
    }
    (opened, errors)
}

/// Small files of all formats.
fn good() -> Vec<Vec<u8>> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&nemo()).unwrap();
    // With checksums, what is changed in a pickle would be refused before it is parsed.
    let [dict, module] = [tensors(), module(b"cglow\nWaveGlow\n")].map(|value| without_checksums(archive(&value)));
    vec![dict, module, legacy(), paddle(), nemo(), safetensors(), gzip.finish().unwrap()]
}

/// Broken files give an error or tensors, and never a panic.
#[test]
fn broken_files_are_errors() {
    const MUTATIONS: usize = 100_000;
    let (opened, errors) = mutate(&good(), MUTATIONS, 0);
    assert!(opened > MUTATIONS / 20 && errors > MUTATIONS / 20, "{opened} opened, {errors} errors");
}
