mod broken;
mod budget;
mod build;

use super::*;
use crate::files::zip::zip_of;
use build::*;
use candle_core::DType;
use std::io::Write;

/// The checkpoint in these bytes.
fn open(bytes: &[u8]) -> std::result::Result<Checkpoint, Fault> {
    Checkpoint::of(Path::new("model.pt"), Source::memory(bytes.to_vec()))
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).and_then(|t| t.flatten_all()?.to_vec1()).unwrap()
}

fn named(entry: Entry<'_>) -> Vec<(String, Vec<usize>)> {
    entry.tensors().iter().map(|tensor| (tensor.name().into(), tensor.shape().into())).collect()
}

fn shape(name: &str, dims: &[usize]) -> (String, Vec<usize>) {
    (name.into(), dims.into())
}

#[test]
fn tensors_are_read() -> Result<()> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&archive(&tensors())).unwrap();
    let tensors = read_torch(file.path())?;
    assert_eq!(tensors.len(), 6);
    let is = |name: &str, dims: &[usize], want: &[f64]| {
        assert_eq!((tensors[name].dims(), &values(&tensors[name])[..]), (dims, want), "{name}");
    };
    is("rows", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    is("columns", &[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    is("one", &[], &[6.0]);
    is("none", &[0, 4], &[]);
    is("flags", &[2], &[1.0, 0.0]);
    is("weight", &[7], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(tensors["flags"].dtype(), DType::U8);
    Ok(())
}

#[test]
fn state_dicts_are_found_under_their_usual_keys() {
    let small = || state_dict(&[("a", numbers(2)), ("b", numbers(3))]);
    for key in STATE_DICTS {
        let optimizer = dict(&[("state", dict(&[("0", dict(&[("exp_avg", numbers(7))]))]))]);
        let values = [("optimizer", optimizer), ("generator", numbers(1)), (key, small())];
        let checkpoint = open(&archive(&dict(&values))).unwrap();
        assert_eq!(named(checkpoint.state_dict().unwrap()), [shape("a", &[2]), shape("b", &[3])]);
        assert_eq!(named(checkpoint.root())[0], shape("optimizer.state.0.exp_avg", &[7]));
    }
    let checkpoint = open(&archive(&dict(&[("generator", small())]))).unwrap();
    let said = checkpoint.state_dict().unwrap_err().to_string();
    assert!(said.contains("`generator`") && said.contains("torch.save(model.state_dict(), path)"), "{said}");
}

#[test]
fn modules_are_walked_as_their_state_dicts() {
    let check = |model: Entry<'_>| {
        let want = [("shift", 5), ("mean", 7), ("start.weight_g", 1), ("start.weight_v", 3)];
        assert_eq!(named(model), want.map(|(name, n)| shape(name, &[n])));
        assert_eq!(model.class(), Some("glow.WaveGlow"));
        assert_eq!(model.get("n_group").unwrap().to_json().unwrap(), 8);
        let start = model.get("start").unwrap();
        assert_eq!(start.class(), Some("torch.nn.modules.conv.Conv1d"));
        assert_eq!(start.get("weight").unwrap().tensor().unwrap().shape(), [2]);
        assert_eq!(values(&start.get("weight_v").unwrap().tensor().unwrap().read().unwrap()), [0.0, 1.0, 2.0]);
        assert!(model.to_json().unwrap_err().to_string().contains("a module"));
    };
    check(open(&archive(&module(b"cglow\nWaveGlow\n"))).unwrap().state_dict().unwrap());
    let old = open(&legacy()).unwrap();
    check(old.state_dict().unwrap());
    assert_eq!(old.root().get("iteration").unwrap().to_json().unwrap(), 3);
}

/// A module is whole, even if its children have names under which programs save state dicts.
#[test]
fn children_called_model_are_only_parts() {
    let child = |n| object(b"ctorch.nn.modules.conv\nConv1d\n", &parts(&[("bias", numbers(n))], &[]));
    let whole = object(
        b"ctorch.nn.modules.container\nSequential\n",
        &parts(&[], &[("pre", child(2)), ("model", child(3)), ("state_dict", child(4))]),
    );
    let want = [shape("pre.bias", &[2]), shape("model.bias", &[3]), shape("state_dict.bias", &[4])];
    assert_eq!(named(open(&archive(&whole)).unwrap().state_dict().unwrap()), want);
    let saved = dict(&[("pre", child(2)), ("model", child(3))]);
    assert_eq!(named(open(&archive(&saved)).unwrap().state_dict().unwrap()), [shape("bias", &[3])]);
}

#[test]
fn arrays_of_paddle_are_read() {
    let checkpoint = open(&paddle()).unwrap();
    let root = checkpoint.state_dict().unwrap();
    let want = [
        shape("decoder.weight", &[7]),
        shape("decoder.rows", &[7, 1]),
        shape("decoder.columns", &[3, 2]),
        shape("order", &[1]),
        shape("one", &[]),
    ];
    assert_eq!(named(root), want);
    let tensors = root.read_tensors().unwrap();
    let count: Vec<f64> = (0..7).map(f64::from).collect();
    assert_eq!(values(&tensors["decoder.weight"]), count);
    assert_eq!(values(&tensors["decoder.rows"]), count);
    // The first index varies fastest.
    assert_eq!(values(&tensors["decoder.columns"]), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!((tensors["order"].dtype(), values(&tensors["order"])), (DType::I64, vec![5.0]));
    assert_eq!(values(&tensors["one"]), [2.0]);
    let names = root.get("StructuredToParameterName@@").unwrap().to_json().unwrap();
    assert_eq!(names, serde_json::json!({"decoder.weight": "linear_0.w_0"}));
    let characters = archive(&dict(&[("w", array("f4", &[1], false, encoded(b"\x01\xff\x80\x3f")))]));
    let read = open(&characters).unwrap().state_dict().unwrap().read_tensors().unwrap();
    assert_eq!(values(&read["w"]), [f64::from(f32::from_le_bytes([1, 0xff, 0x80, 0x3f]))]);
}

#[test]
fn archives_of_nemo_and_safetensors_are_read() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&nemo()).unwrap();
    for file in [nemo(), gzip.finish().unwrap()] {
        let checkpoint = open(&file).unwrap();
        assert_eq!(checkpoint.metadata()["model_config.yaml"], "sigma: 1.0\n");
        assert_eq!(checkpoint.state_dict().unwrap().read_tensors().unwrap().len(), 6);
    }
    let checkpoint = open(&safetensors()).unwrap();
    assert_eq!(checkpoint.metadata()["config"], "{}");
    assert_eq!(named(checkpoint.state_dict().unwrap()), [shape("b", &[2, 2]), shape("a", &[3])]);
    assert_eq!(values(&checkpoint.root().read_tensors().unwrap()["a"]), [4.0, 5.0, 6.0]);
    let said = open(&safetensors()[..150 + 20]).unwrap_err().to_string();
    assert!(said.contains("truncated"), "{said}");
}

/// The notations of all protocols.
#[test]
fn plain_values_are_read() {
    let values = [
        dict(&[("a", b"K\x01".to_vec()), ("b", b"G\x3f\xe0\0\0\0\0\0\0".to_vec())]),
        b"(dp0\nS'a'\np1\nI1\nsV\\u0062\nF0.5\ns".to_vec(),
        b"}\x94(\x8c\x01a\x8a\x01\x01\x8c\x01bG\x3f\xe0\0\0\0\0\0\0u".to_vec(),
        b"}(\x8c\x01a\x8a\x09\x01\0\0\0\0\0\0\0\0\x8c\x01bG\x3f\xe0\0\0\0\0\0\0u".to_vec(),
        [b"ccollections\nOrderedDict\n(](](U\x01aL1L\ne](", &text("b")[..], b"F0.5\neetR"].concat(),
        object(b"cargparse\nNamespace\n", b"}(X\x01\0\0\0aK\x01X\x01\0\0\0bF0.5\nu"),
        [b"ccopy_reg\n_reconstructor\n(cargparse\nNamespace\nc__builtin__\nobject\nNtR}(".to_vec(), text("a")]
            .into_iter()
            .chain([b"I1\n".to_vec(), text("b"), b"F0.5\nub".to_vec()])
            .collect::<Vec<_>>()
            .concat(),
    ];
    for value in values {
        let checkpoint = open(&archive(&dict(&[("config", value), ("w", numbers(1))]))).unwrap();
        let json = checkpoint.root().get("config").unwrap().to_json().unwrap();
        assert_eq!(json, serde_json::json!({"a": 1, "b": 0.5}));
    }
    let number = [&text("loss")[..], b"cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x02\0\0\0f8tR"].concat();
    let number = [b"}(", &number[..], &encoded(&0.25f64.to_le_bytes())[..], b"tR"].concat();
    let long = text(&"x".repeat(100_000));
    let rest = [
        &text("flags")[..],
        b"(\x88\x89NI01\n\x8a\x09\xfe\xff\xff\xff\xff\xff\xff\xff\xfft",
        &text("long"),
        &long,
        &text("w"),
        &numbers(1),
        b"u",
    ]
    .concat();
    let checkpoint = open(&archive(&[number, rest].concat())).unwrap();
    let json = |key: &str| checkpoint.root().get(key).unwrap().to_json();
    assert_eq!(json("loss").unwrap(), 0.25);
    assert_eq!(json("flags").unwrap(), serde_json::json!([true, false, null, true, -2]));
    assert_eq!(json("long").unwrap().as_str().unwrap().len(), 100_000);
    assert!(json("w").unwrap_err().to_string().contains("`the value` is a tensor"));
    assert_eq!(checkpoint.root().get("flags").unwrap().get("1").unwrap().to_json().unwrap(), false);
}

#[test]
fn other_numbers_and_damaged_records_are_errors_that_name_the_tensor() {
    let file = archive(&dict(&[
        ("fine", numbers(7)),
        ("wave", tensor("ComplexFloatStorage", "1", 0, &[0], &[1])),
        ("whole", tensor("QInt8Storage", "0", 0, &[7], &[1])),
    ]));
    // The storages of those two have other sizes than the records; they are told from each other by size alone.
    assert!(open(&file).is_err());
    let file = zip_of(&[
        (
            "a/data.pkl",
            &pickle(&dict(&[("fine", numbers(7)), ("wave", tensor("ComplexFloatStorage", "1", 0, &[7], &[1]))])),
        ),
        ("a/data/0", &stored().0),
        ("a/data/1", &[0; 56]),
    ]);
    let checkpoint = open(&file).unwrap();
    let [fine, wave] = &checkpoint.root().tensors()[..] else { panic!("two tensors") };
    assert_eq!(fine.read().unwrap().dims(), [7]);
    for error in [wave.read().unwrap_err(), checkpoint.root().read_tensors().unwrap_err()] {
        assert!(error.to_string().contains("the tensor `wave` has complex64 numbers"), "{error}");
    }

    let mut damaged = archive(&dict(&[("w", numbers(7)), ("part", numbers(6))]));
    let at = damaged.windows(8).position(|w| w == stored().0[..8].to_vec()).unwrap();
    damaged[at + 4] ^= 1;
    let checkpoint = open(&damaged).unwrap();
    let said = checkpoint.root().read_tensors().unwrap_err().to_string();
    assert!(said.contains("`w` cannot be read") && said.contains("checksum"), "{said}");
    // So is the pickle, and a fault there does not hide one in a tensor; a checksum of 0 stands for none.
    let at = damaged.windows(4).position(|w| w == b"part").unwrap();
    damaged[at] ^= 1;
    let said = open(&damaged).unwrap_err().to_string();
    assert!(said.contains("`model/data.pkl` is damaged: its checksum is wrong"), "{said}");
    assert_eq!(open(&without_checksums(damaged)).unwrap().root().read_tensors().unwrap().len(), 2);
}
