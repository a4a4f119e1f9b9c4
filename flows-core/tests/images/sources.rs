//! Images from their sources.

use flate2::{Compression, write::GzEncoder};
use flows_core::data::images::{Fit, Framing, ImageSource, Warp, drawn_digits, uci_digits};
use flows_core::{Result, Rng};
use std::fs;
use std::io::Write;
use std::path::Path;

pub fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

pub fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn source(path: &Path) -> ImageSource {
    path.to_string_lossy().parse().unwrap()
}

#[test]
fn classes_are_matched_by_name() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b/one.pgm", "c/two.pgm", "b/three.pgm"] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"P5 1 1 255 \x07").unwrap();
    }
    let images = source(folder.path()).test(&Fit::default(), None)?;
    assert_eq!(images.labels(), Some(&[0, 0, 1][..]));
    let names = ["a", "c", "b"].map(String::from);
    let named = images.clone().named(&names)?;
    assert_eq!((named.labels(), &named.classes[..]), (Some(&[2, 2, 1][..]), &names[..]));
    let error = images.named(&names[..2]).unwrap_err().to_string();
    assert!(error.contains("`b`, `c`") && error.contains("`a`, `c`"), "{error}");
    Ok(())
}

#[test]
fn validation_stands_in_for_a_missing_test() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    for (i, part) in ["train", "val"].iter().enumerate() {
        let path = folder.path().join(part).join("a/1.pgm");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, [&b"P5 1 1 255 "[..], &[i as u8]].concat()).unwrap();
    }
    let images = source(folder.path()).test(&Fit::default(), None)?;
    assert_eq!((images.len(), images.image(0)), (1, &[1][..]));
    assert!(images.notes[0].contains("no test images"), "{:?}", images.notes);
    fs::remove_dir_all(folder.path().join("train")).unwrap();
    let error = source(folder.path()).load(&Fit::default(), None, &mut Rng::seed(0)).unwrap_err().to_string();
    assert!(error.contains("no images to train on") && error.contains("file or the folder of a part"), "{error}");
    Ok(())
}

#[test]
fn the_files_of_mnist_are_read() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let values: Vec<u8> = (0..48).collect();
    fs::write(here.join("train-images-idx3-ubyte.gz"), packed(&idx(&[12, 2, 2], &values))).unwrap();
    fs::write(here.join("train-labels-idx1-ubyte.gz"), packed(&idx(&[12], &[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5])))
        .unwrap();
    fs::write(here.join("t10k-images-idx3-ubyte"), idx(&[2, 2, 2], &values[..8])).unwrap();
    fs::write(here.join("t10k-labels-idx1-ubyte"), idx(&[2], &[5, 0])).unwrap();
    let splits = source(here).load(&Fit::default(), None, &mut Rng::seed(0))?;
    assert_eq!([&splits.train, &splits.validation, &splits.test].map(|part| part.len()), [11, 1, 2]);
    assert_eq!((splits.test.shape(), splits.test.labels()), ([1, 2, 2], Some(&[5, 0][..])));
    assert_eq!(splits.test.image(1), [4, 5, 6, 7]);
    let mirrored = splits.test.tensor(&[1], || true)?.flatten_all()?.to_vec1::<u8>()?;
    assert_eq!(mirrored, [5, 4, 7, 6]);
    // No image is in more than one part.
    let mut firsts: Vec<u8> =
        [&splits.train, &splits.validation].iter().flat_map(|part| (0..part.len()).map(|i| part.image(i)[0])).collect();
    firsts.sort_unstable();
    assert_eq!(firsts, (0..12).map(|i| 4 * i).collect::<Vec<u8>>());
    let fit = Fit::to([1, 4, 4], Framing::Pad);
    let test = source(here).test(&fit, None)?;
    assert_eq!((test.shape(), test.unpadded()), ([1, 4, 4], Some(4)));

    let cut = packed(&idx(&[12, 2, 2], &values));
    fs::write(here.join("train-images-idx3-ubyte.gz"), &cut[..cut.len() - 9]).unwrap();
    let error = source(here).load(&Fit::default(), None, &mut Rng::seed(0)).unwrap_err().to_string();
    assert!(error.contains("cut short"), "{error}");
    Ok(())
}

#[test]
fn arrays_are_read_in_either_order() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.npy");
    let array = |kind: &str, shape: &str, values: &[u8]| {
        let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
        while (10 + header.len() + 1) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(values);
        fs::write(&path, bytes).unwrap();
        source(&path).test(&Fit::default(), None)
    };
    let values: Vec<u8> = (0..24).collect();
    let last = array("|u1", "(2, 2, 2, 3)", &values)?;
    assert_eq!(last.shape(), [3, 2, 2]);
    assert_eq!(last.image(1), [12, 15, 18, 21, 13, 16, 19, 22, 14, 17, 20, 23]);
    let first = array("|u1", "(2, 3, 2, 2)", &values)?;
    assert_eq!((first.shape(), first.image(1)), ([3, 2, 2], &values[12..]));
    assert_eq!(array("|u1", "(6, 2, 2)", &values)?.shape(), [1, 2, 2]);
    for (kind, shape, count) in [
        ("|u1", "(3, 2, 2, 3)", 24),
        ("|S1", "(6, 2, 2)", 24),
        ("|u1", "(24,)", 24),
        ("|u1", "(2, 12)", 24),
        ("|u1", "(0, 2, 2)", 0),
        ("|u1", "(9223372036854775807, 9, 1)", 24),
    ] {
        let error = array(kind, shape, &values[..count]).unwrap_err().to_string();
        assert!(error.contains("images.npy"), "{error}");
    }
    Ok(())
}

#[test]
fn drawn_digits_are_reproducible() -> Result<()> {
    let digits = drawn_digits(200, 16, &mut Rng::seed(4))?;
    assert_eq!(digits, drawn_digits(200, 16, &mut Rng::seed(4))?);
    assert!(digits != drawn_digits(200, 16, &mut Rng::seed(5))?);
    assert_eq!((digits.shape(), digits.classes.len()), ([1, 16, 16], 10));
    for i in 0..200 {
        let light = digits.image(i).iter().map(|v| f64::from(*v) / 255.0).sum::<f64>() / 256.0;
        assert!((0.04..0.5).contains(&light), "digit {i} is lit at {light}");
    }
    Ok(())
}

#[test]
fn the_embedded_digits_are_intact() -> Result<()> {
    let digits = uci_digits()?;
    assert_eq!((digits.shape(), digits.len()), ([1, 8, 8], 1797));
    let labels = digits.labels().unwrap();
    let counts: Vec<usize> = (0..10).map(|class| labels.iter().filter(|label| **label == class).count()).collect();
    assert_eq!(
        (&labels[..10], &counts[..]),
        (&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9][..], &[178, 182, 177, 183, 181, 182, 181, 179, 174, 180][..])
    );
    // The sum over all digits, and the first row of the first.
    let ink = |v: &u8| usize::from(v.div_ceil(16));
    assert_eq!((0..1797).flat_map(|i| digits.image(i)).map(ink).sum::<usize>(), 561_718);
    assert_eq!(digits.image(0)[..8].iter().map(ink).collect::<Vec<_>>(), [0, 0, 5, 13, 9, 1, 0, 0]);

    let source: ImageSource = "uci-digits".parse()?;
    assert_eq!(source.to_string(), "uci-digits");
    let splits = source.load(&Fit::default(), None, &mut Rng::seed(0))?;
    assert_eq!([&splits.train, &splits.validation, &splits.test].map(|part| part.len()), [1538, 80, 179]);
    let fit = Fit::to([1, 16, 16], Framing::Pad);
    let test = source.test(&fit, None)?;
    assert_eq!((test.shape(), test.unpadded()), ([1, 16, 16], Some(64)));
    Ok(())
}

#[test]
fn augmentation_is_reproducible() -> Result<()> {
    let (digits, all) = (uci_digits()?, (0..100).collect::<Vec<u32>>());
    let values = |flip, shift, seed| -> Result<Vec<u8>> {
        let images = digits.augmented(&all, flip, &Warp { shift, ..Warp::default() }, &mut Rng::seed(seed));
        let whole = images.rows(0..100)?;
        assert_eq!(whole.dims(), [100, 1, 8, 8]);
        let whole = whole.flatten_all()?.to_vec1()?;
        // A part is the same whatever else is computed.
        assert_eq!(images.rows(30..50)?.flatten_all()?.to_vec1::<u8>()?, whole[30 * 64..50 * 64]);
        assert!(images.rows(90..101).is_err());
        Ok(whole)
    };
    let (plain, flipped) = (values(false, 0.0, 0)?, values(true, 0.0, 0)?);
    assert_eq!(plain, digits.tensor(&all, || false)?.flatten_all()?.to_vec1::<u8>()?);
    let mirrored = digits.tensor(&all, || true)?.flatten_all()?.to_vec1::<u8>()?;
    let count = |one: &[u8], other: &[u8]| one.chunks(64).zip(other.chunks(64)).filter(|(a, b)| a == b).count();
    let (same, turned) = (count(&plain, &flipped), count(&mirrored, &flipped));
    assert!(same + turned >= 100 && (30..70).contains(&same), "{same} {turned}");
    assert_eq!(values(true, 0.2, 1)?, values(true, 0.2, 1)?);
    assert!(values(false, 0.2, 1)? != values(false, 0.2, 2)? && values(false, 0.2, 1)? != plain);
    Ok(())
}

#[test]
fn image_sources_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let at = |name: &str| here.join(name);
    for name in ["pictures", "rows", "parts/train/a", "parts/test/a", "empty"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    for name in ["pictures/1.png", "parts/train/a/1.png", "parts/test/a/1.png", "rows.csv", "data.parquet"] {
        fs::write(at(name), []).unwrap();
    }
    fs::write(at("t10k-images-idx3-ubyte"), idx(&[1, 2, 2], &[0; 4])).unwrap();
    for (name, header) in [
        ("pictures.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1, 1), }   \n"),
        ("rows.npy", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }      \n"),
        ("rows/train.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1), }      \n"),
        ("rows/test.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1), }      \n"),
    ] {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        fs::write(at(name), [bytes, vec![0; 8]].concat()).unwrap();
    }
    // A picture beside tables does not make a folder one of images.
    fs::write(at("rows/scatter.png"), []).unwrap();
    let images = |word: &str| ImageSource::of(word).is_some();
    let files = |name: &str| images(&at(name).to_string_lossy());
    for name in ["pictures", "parts", "data.parquet", "t10k-images-idx3-ubyte", "pictures.npy"] {
        assert!(files(name), "{name}");
    }
    for name in ["rows", "rows.csv", "rows.npy", "empty", "missing", "missing.npy"] {
        assert!(!files(name), "{name}");
    }
    assert!(["digits", "uci-digits", "hf://datasets/a/b/c.parquet"].iter().all(|word| images(word)));
    assert!(!["", "pinwheel", "hf://datasets/a/b/c.npy", "hf://a"].iter().any(|word| images(word)));
}
