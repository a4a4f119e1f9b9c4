//! The layouts in which MNIST, EMNIST and sets like them are handed on, and arrays of other numbers than bytes.

use crate::sources::{idx, packed, source};
use flows_core::data::images::{Fit, Images, Splits};
use flows_core::{Result, Rng};
use std::fs;
use std::path::Path;

fn load(path: &Path) -> Result<Splits> {
    source(path).load(&Fit::default(), None, &mut Rng::seed(0))
}

fn all(path: &Path) -> Result<Images> {
    source(path).test(&Fit::default(), None)
}

fn refused(path: &Path, words: &[&str]) {
    let error = load(path).unwrap_err().to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error}");
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Twelve images of 2 x 3, of which each pixel is another.
fn images() -> Vec<u8> {
    idx(&[12, 2, 3], &(0..72).collect::<Vec<u8>>())
}

fn labels() -> Vec<u8> {
    idx(&[12], &[1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3])
}

fn npy(kind: &str, fortran: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), values].concat()
}

fn npy_of<const N: usize>(kind: &str, shape: &str, values: &[[u8; N]]) -> Vec<u8> {
    npy(kind, "False", shape, values.as_flattened())
}

#[test]
fn downloads_of_mnist_are_read_whole() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    // As torchvision leaves them: packed and unpacked, two folders down.
    let set = |name: &str, bytes: &[u8]| {
        write(&here.join("raw/MNIST/raw").join(name), bytes);
        write(&here.join("raw/MNIST/raw").join(format!("{name}.gz")), &packed(bytes));
    };
    let test = idx(&[2, 2, 3], &[7; 12]);
    set("train-images-idx3-ubyte", &images());
    set("train-labels-idx1-ubyte", &labels());
    set("t10k-images-idx3-ubyte", &test);
    set("t10k-labels-idx1-ubyte", &idx(&[2], &[3, 1]));
    // As on Kaggle: with other names, and again in folders.
    for (name, bytes) in [
        ("train-images", &images()),
        ("train-labels", &labels()),
        ("t10k-images", &test),
        ("t10k-labels", &idx(&[2], &[3, 1])),
    ] {
        let kind = if name.ends_with("images") { "idx3" } else { "idx1" };
        write(&here.join("kaggle").join(format!("{name}.{kind}-ubyte")), bytes);
        write(&here.join("kaggle").join(format!("{name}-{kind}-ubyte/{name}-{kind}-ubyte")), bytes);
    }
    for set in ["raw", "kaggle"] {
        let data = load(&here.join(set))?;
        assert_eq!([&data.train, &data.validation, &data.test].map(|part| part.len()), [11, 1, 2], "{set}");
        assert_eq!(
            (&data.train.classes[..], data.test.labels()),
            (&["0", "1", "2", "3"].map(String::from)[..], Some(&[3, 1][..]))
        );
        assert!(data.notes().is_empty(), "{:?}", data.notes());
    }
    // Two that differ are not guessed among.
    write(&here.join("kaggle/train-images-idx3-ubyte/train-images-idx3-ubyte"), &idx(&[12, 2, 3], &[0; 72]));
    refused(&here.join("kaggle"), &["train-images.idx3-ubyte", "differ", "keep one"]);
    // A file of its own is a whole set, with the labels beside it.
    let one = all(&here.join("raw/MNIST/raw/train-images-idx3-ubyte.gz"))?;
    assert_eq!((one.len(), one.labels().unwrap()[1]), (12, 2));
    // Not with those of the other part.
    let test = here.join("raw/MNIST/raw/t10k-images-idx3-ubyte");
    assert_eq!(all(&test)?.labels(), Some(&[3, 1][..]));
    fs::remove_file(test.with_file_name("t10k-labels-idx1-ubyte")).unwrap();
    fs::remove_file(test.with_file_name("t10k-labels-idx1-ubyte.gz")).unwrap();
    assert_eq!(all(&test)?.labels(), None);
    Ok(())
}

#[test]
fn damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write(&path("train-images-idx3-ubyte"), &images());
    write(&path("train-labels-idx1-ubyte"), &idx(&[11], &[0; 11]));
    refused(folder.path(), &["train-labels-idx1-ubyte", "11 labels for 12 images"]);
    write(&path("train-labels-idx1-ubyte"), &labels());
    let cut = packed(&images());
    write(&path("train-images-idx3-ubyte"), &cut[..cut.len() - 9]);
    refused(folder.path(), &["train-images-idx3-ubyte", "cut short"]);
    // Colours of four bytes each.
    let mut wide = idx(&[12, 2, 3], &(0..72u32).flat_map(u32::to_be_bytes).collect::<Vec<u8>>());
    wide[2] = 0x0c;
    write(&path("train-images-idx3-ubyte"), &wide);
    assert_eq!(all(folder.path()).unwrap().image(1), [6, 7, 8, 9, 10, 11]);
    write(&path("none/train-images-idx4-ubyte"), &idx(&[0, 3, u32::MAX, u32::MAX], &[]));
    refused(&path("none"), &["train-images-idx4-ubyte", "of no images"]);
    fs::remove_dir_all(path("none")).unwrap();
    wide[2] = 0x42;
    write(&path("train-images-idx3-ubyte"), &wide);
    refused(folder.path(), &["unknown type 66"]);
}

#[test]
fn images_of_emnist_are_upright_and_have_letters() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write(&path("emnist-letters-train-images-idx3-ubyte.gz"), &packed(&images()));
    write(&path("emnist-letters-train-labels-idx1-ubyte.gz"), &packed(&labels()));
    let data = all(folder.path())?;
    assert_eq!((data.shape(), data.image(0)), ([1, 3, 2], &[0, 3, 1, 4, 2, 5][..]));
    let as_stored = Fit { transpose: Some(false), ..Fit::default() };
    assert_eq!(source(folder.path()).test(&as_stored, None)?.image(0), [0, 1, 2, 3, 4, 5]);
    assert!(data.notes[0].contains("upright") && data.classes == ["0", "1", "2", "3"], "{:?}", data.notes);
    write(&path("emnist-letters-mapping.txt"), b"1 65 97\n2 66 98\n3 67 99\n4 68 100\n");
    assert_eq!(all(folder.path())?.classes, ["A", "B", "C", "D"]);
    write(&path("emnist-digits-train-images-idx3-ubyte.gz"), &packed(&images()));
    refused(folder.path(), &["several sets", "emnist-digits", "a folder of their own"]);
    Ok(())
}

#[test]
fn arrays_of_several_parts_are_read() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let values: Vec<u8> = (0..60).collect();
    let array = |shape: &str, length: usize| npy("|u1", "False", shape, &values[..length]);
    for (name, bytes) in [
        ("train_images.npy", array("(10, 2, 3)", 60)),
        ("train_labels.npy", npy("|u1", "False", "(10, 1)", &[4, 5, 4, 5, 4, 5, 4, 5, 4, 5])),
        ("val_images.npy", array("(1, 2, 3)", 6)),
        ("val_labels.npy", npy("|u1", "False", "(1, 1)", &[5])),
        ("test_images.npy", array("(2, 2, 3)", 12)),
        ("test_labels.npy", npy("<U1", "False", "(2,)", &[b'5', 0, 0, 0, b'4', 0, 0, 0])),
        ("features.npy", npy("<f4", "False", "(10, 7)", &[0; 280])),
    ] {
        write(&path(name), &bytes);
    }
    let data = load(folder.path())?;
    assert_eq!([&data.train, &data.validation, &data.test].map(|part| part.len()), [10, 1, 2]);
    assert_eq!((data.validation.labels(), data.test.labels()), (Some(&[5][..]), Some(&[5, 4][..])));
    assert!(data.notes().iter().any(|note| note.contains("`features.npy` is not read")), "{:?}", data.notes());
    Ok(())
}

#[test]
fn rows_of_pixels_are_images() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let rows = |count: usize| (0..count).map(|i| format!("{},0,{i},9,255\n", i % 3)).collect::<String>();
    write(&path("train.csv"), format!("label,pixel0,pixel1,pixel2,pixel3\n{}", rows(12)).as_bytes());
    write(&path("test.csv"), b"pixel0,pixel1,pixel2,pixel3\n0,1,2,3\n4,5,6,7\n");
    write(&path("sample_submission.csv"), b"ImageId,Label\n1,0\n2,0\n");
    let data = load(folder.path())?;
    assert_eq!((data.train.shape(), data.train.len(), data.test.image(1)), ([1, 2, 2], 11, &[4, 5, 6, 7][..]));
    assert_eq!((&data.train.classes[..], data.test.labels()), (&["0", "1", "2"].map(String::from)[..], None));
    let notes = data.notes();
    assert!(notes.iter().any(|note| note.contains("images of 2 x 2")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("`sample_submission.csv`, without pixels")), "{notes:?}");
    // Without names the first of five columns is the class.
    write(&path("plain.csv"), rows(4).as_bytes());
    let plain = all(&path("plain.csv"))?;
    assert_eq!((plain.image(3), plain.labels()), (&[0, 3, 9, 255][..], Some(&[0, 1, 2, 0][..])));
    write(&path("plain.csv"), b"a,b,c\n1,2,3\n4,5,6\n");
    refused(&path("plain.csv"), &["3 columns of pixels"]);
    write(&path("others/plain.csv"), b"a,b,c\n1,2,3\n4,5,6\n");
    refused(&path("others"), &["plain.csv", "3 columns of pixels"]);
    Ok(())
}

#[test]
fn arrays_of_other_numbers_are_colours() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let read = |bytes: Vec<u8>| {
        fs::write(&path, bytes).unwrap();
        all(&path)
    };
    let whole = |max: i64| [0, 1, 2, max].map(i64::to_le_bytes);
    let colours = |images: Images| images.image(0).to_vec();
    assert_eq!(colours(read(npy_of("<i8", "(1, 2, 2)", &whole(255)))?), [0, 1, 2, 255]);
    let unit = read(npy_of("<f4", "(1, 2, 2)", &[0.0f32, 0.2, 0.5, 1.0].map(f32::to_le_bytes)))?;
    assert_eq!((unit.notes.len(), colours(unit)), (0, vec![0, 51, 128, 255]));
    let twelve = read(npy_of("<u2", "(1, 2, 2)", &[0u16, 16, 2048, 4095].map(u16::to_le_bytes)))?;
    assert!(twelve.notes[0].contains("12 bits") && colours(twelve.clone()) == [0, 1, 128, 255], "{twelve:?}");
    let logical = read(npy("|b1", "False", "(1, 2, 2)", &[0, 1, 1, 0]))?;
    assert_eq!((logical.notes.len(), colours(logical)), (0, vec![0, 255, 255, 0]));
    let masks = read(npy("|u1", "False", "(1, 2, 2)", &[0, 1, 1, 0]))?;
    assert!(masks.notes[0].contains("nearly black"), "{:?}", masks.notes);
    // In Fortran's order the first index varies fastest.
    let fortran = read(npy("|u1", "True", "(2, 2, 3)", &[0, 6, 3, 9, 1, 7, 4, 10, 2, 8, 5, 11]))?;
    assert_eq!((fortran.image(0), fortran.image(1)), (&[0, 1, 2, 3, 4, 5][..], &[6, 7, 8, 9, 10, 11][..]));
    let clear = read(npy("|u1", "False", "(1, 1, 2, 4)", &[1, 2, 3, 255, 4, 5, 6, 0]))?;
    assert!(clear.notes[0].contains("--background") && clear.image(0) == [1, 255, 2, 255, 3, 255], "{clear:?}");
    let planes = read(npy("|u1", "False", "(1, 4, 1, 2)", &[1, 4, 2, 5, 3, 6, 255, 0]))?;
    assert_eq!(planes.image(0), clear.image(0));
    let flat = read(npy("|u1", "False", "(2, 4)", &[0, 1, 2, 3, 4, 5, 6, 7]))?;
    assert!(flat.shape() == [1, 2, 2] && flat.notes[0].contains("images of 2 x 2"), "{flat:?}");

    // Depths of parts agree.
    let parts = folder.path().join("parts");
    write(&parts.join("x_train.npy"), &npy("<u2", "False", "(12, 1, 2)", &[9, 0].repeat(24)));
    write(&parts.join("x_test.npy"), &npy_of("<u2", "(1, 1, 2)", &[0u16, 4000].map(u16::to_le_bytes)));
    refused(&parts, &["x_test.npy", "4000, beyond 8 bits", "fit.depth = 12"]);

    for (bytes, words) in [
        (
            npy_of("<f4", "(1, 2, 2)", &[-1.0f32, 0.0, 0.5, 1.0].map(f32::to_le_bytes)),
            ["-1 to 1", "(array + 1) * 127.5"],
        ),
        (npy_of("<i8", "(1, 2, 2)", &whole(-3)), ["-3 to 2", "scale them"]),
        (npy_of("<i8", "(1, 2, 2)", &whole(70_000)), ["70000", "scale them"]),
        (npy_of("<f4", "(1, 2, 2)", &[0.5f32, 0.0, 0.5, 300.0].map(f32::to_le_bytes)), ["300", "fractions"]),
        (npy_of("<f4", "(1, 2, 2)", &[f32::NAN, 0.0, 0.5, 300.0].map(f32::to_le_bytes)), ["NaN", "a.npy"]),
        (npy("|u1", "False", "(4, 5, 3)", &[0; 60]), ["[4, 5, 3]", "(N, H, W)"]),
    ] {
        let error = read(bytes).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error}");
    }
    Ok(())
}
