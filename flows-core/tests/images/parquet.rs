//! Parquet files as on the Hugging Face Hub.

use flows_core::data::images::{Fit, ImageSource, Images};
use flows_core::{Error, Result, Rng};
use image::{ImageFormat, Rgb, RgbImage};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

/// Extra columns of numbers before and between, and of text after: the first is not the class.
const SCHEMA: &str = "message schema {
    optional int64 width;
    optional group image { optional binary bytes; optional binary path (UTF8); }
    optional int64 label;
    optional binary caption (UTF8);
}";

const FEATURES: &str = r#"{"info": {"features": {"width": {"dtype": "int64", "_type": "Value"},
    "image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}"#;

/// A 4 x 4 image of one colour.
fn png(red: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(4, 4, Rgb([red, 0, 0])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Writes images and their classes, three per row group.
fn write(path: &Path, rows: &[(Option<Vec<u8>>, Option<i64>)], features: Option<&str>, compression: Compression) {
    let features = features.map(|text| vec![KeyValue::new("huggingface".into(), text.to_string())]);
    let properties = WriterProperties::builder().set_compression(compression).set_key_value_metadata(features).build();
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let mut file = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    for rows in rows.chunks(3) {
        let mut group = file.next_row_group().unwrap();
        let all = vec![1i16; rows.len()];
        let number = |values: Vec<i64>, levels: &[i16], column: &mut parquet::file::writer::SerializedColumnWriter| {
            column.typed::<Int64Type>().write_batch(&values, Some(levels), None).unwrap();
        };
        let mut column = group.next_column().unwrap().unwrap();
        number(vec![4; rows.len()], &all, &mut column);
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let bytes: Vec<ByteArray> = rows.iter().filter_map(|(image, _)| Some(image.clone()?.into())).collect();
        let levels: Vec<i16> = rows.iter().map(|(image, _)| if image.is_some() { 2 } else { 1 }).collect();
        column.typed::<ByteArrayType>().write_batch(&bytes, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[], Some(&all), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let levels: Vec<i16> = rows.iter().map(|(_, label)| i16::from(label.is_some())).collect();
        number(rows.iter().filter_map(|(_, label)| *label).collect(), &levels, &mut column);
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let captions = vec![ByteArray::from("some words"); rows.len()];
        column.typed::<ByteArrayType>().write_batch(&captions, Some(&all), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    file.close().unwrap();
}

fn rows(reds: std::ops::Range<u8>) -> Vec<(Option<Vec<u8>>, Option<i64>)> {
    reds.map(|red| (Some(png(red)), Some(i64::from(red % 2)))).collect()
}

fn read(path: &Path, skip: Option<&mut dyn FnMut(Error)>) -> Result<Images> {
    path.to_string_lossy().parse::<ImageSource>()?.test(&Fit::default(), skip)
}

fn reds(images: &Images) -> Vec<u8> {
    (0..images.len()).map(|i| images.image(i)[0]).collect()
}

#[test]
fn images_and_classes_are_read() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    for compression in [Compression::SNAPPY, Compression::UNCOMPRESSED] {
        write(&path, &rows(0..7), Some(FEATURES), compression);
        let images = read(&path, None)?;
        assert_eq!((images.shape(), reds(&images)), ([3, 4, 4], (0..7).collect()));
        assert_eq!(
            (images.labels(), &images.classes[..]),
            (Some(&[0, 1, 0, 1, 0, 1, 0][..]), &["cat", "dog"].map(String::from)[..])
        );
    }
    write(&path, &rows(0..3), None, Compression::SNAPPY);
    assert_eq!(read(&path, None)?.classes, ["0", "1"]);
    // The classes of a test set are often unknown.
    for unknown in [Some(-1), None] {
        write(&path, &[(Some(png(3)), unknown), (Some(png(4)), Some(1))], Some(FEATURES), Compression::SNAPPY);
        assert_eq!(read(&path, None)?.labels(), None);
    }
    Ok(())
}

#[test]
fn parts_and_shards_belong_together() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let first = here.join("train-00000-of-00002.parquet");
    write(&first, &rows(0..5), Some(FEATURES), Compression::SNAPPY);
    let error = read(&first, None).unwrap_err().to_string();
    assert!(error.contains("train-00001-of-00002.parquet"), "{error}");
    write(&here.join("train-00001-of-00002.parquet"), &rows(5..9), Some(FEATURES), Compression::SNAPPY);
    write(&here.join("test-00000-of-00001.parquet"), &rows(9..12), Some(FEATURES), Compression::SNAPPY);
    assert_eq!(reds(&read(&first, None)?), (0..9).collect::<Vec<u8>>());
    assert_eq!(reds(&read(&here.join("train-00001-of-00002.parquet"), None)?), [5, 6, 7, 8]);
    let splits = here.to_string_lossy().parse::<ImageSource>()?.load(&Fit::default(), None, &mut Rng::seed(0))?;
    assert_eq!([&splits.train, &splits.validation, &splits.test].map(|part| part.len()), [8, 1, 3]);
    assert_eq!(reds(&splits.test), [9, 10, 11]);
    // Classes of other names are not those of the first.
    let other = here.join("train-00001-of-00002.parquet");
    write(&other, &rows(5..9), Some(&FEATURES.replace("cat", "cow")), Compression::SNAPPY);
    let error = read(&first, None).unwrap_err().to_string();
    assert!(error.contains("00001-of-00002") && error.contains("other columns or classes"), "{error}");
    Ok(())
}

#[test]
fn bad_files_and_images_are_named() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    let mut some = rows(0..4);
    some[1].0 = Some(b"no image".to_vec());
    some[2].0 = None;
    write(&path, &some, Some(FEATURES), Compression::SNAPPY);
    let error = read(&path, None).unwrap_err().to_string();
    assert!(error.contains("data.parquet (image 1)") && error.contains("--skip-bad"), "{error}");
    let mut errors = Vec::new();
    let images = read(&path, Some(&mut |error| errors.push(error.to_string())))?;
    assert_eq!((reds(&images), images.labels()), (vec![0, 3], Some(&[0, 1][..])));
    assert!(errors.len() == 2 && errors[1].contains("(image 2)"), "{errors:?}");

    write(&path, &[(Some(png(0)), Some(1 << 40)), (Some(png(1)), Some(0))], None, Compression::SNAPPY);
    assert!(read(&path, None).unwrap_err().to_string().contains("class"));
    let schema = Arc::new(parse_message_type("message schema { optional int64 label; }").unwrap());
    SerializedFileWriter::new(File::create(&path).unwrap(), schema, Arc::default()).unwrap().close().unwrap();
    let error = read(&path, None).unwrap_err().to_string();
    assert!(error.contains("columns label") && error.contains("`bytes`"), "{error}");
    for bytes in [&b""[..], b"no Parquet file", b"PAR1\xff\xff\xff\x7fPAR1"] {
        fs::write(&path, bytes).unwrap();
        let error = read(&path, None).unwrap_err().to_string();
        assert!(error.contains("data.parquet") && error.contains("as a Parquet file"), "{error}");
    }
    Ok(())
}

/// A file with any byte changed is read or is an error; a truncated one is an error.
#[test]
fn damage_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    write(&path, &rows(0..2), Some(FEATURES), Compression::SNAPPY);
    let whole = fs::read(&path).unwrap();
    let mut errors = 0;
    for (i, damage) in (0..whole.len()).zip([0x01, 0xff].into_iter().cycle()) {
        let mut bytes = whole.clone();
        bytes[i] ^= damage;
        fs::write(&path, bytes).unwrap();
        errors += usize::from(read(&path, Some(&mut |_| ())).is_err());
    }
    for length in (0..whole.len()).step_by(8) {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(read(&path, None).is_err(), "{length} bytes are read");
    }
    assert!(errors > whole.len() / 4, "{errors} of {} are errors", whole.len());
}

/// Writes images of 2 x 2 as lists of lists, and their classes as words.
fn write_lists(path: &Path, images: &[[i32; 4]], classes: &[&str]) {
    const SCHEMA: &str = "message schema {
        required group pixels (LIST) { repeated group list {
            required group element (LIST) { repeated group list { required int32 element; } } } }
        required binary class (UTF8);
    }";
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let mut file = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let repetitions = [0, 2, 1, 2].repeat(images.len());
    let levels = vec![2; repetitions.len()];
    column.typed::<Int32Type>().write_batch(images.as_flattened(), Some(&levels), Some(&repetitions)).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let classes: Vec<ByteArray> = classes.iter().map(|class| ByteArray::from(*class)).collect();
    column.typed::<ByteArrayType>().write_batch(&classes, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    file.close().unwrap();
}

/// Writes images as bytes, with two columns of classes.
fn write_bytes(path: &Path, reds: &[u8]) {
    const SCHEMA: &str = "message schema {
        required binary img; required binary mask; required int64 coarse_label; required int64 fine_label;
    }";
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let mut file = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    for shade in [1, 0] {
        let images: Vec<ByteArray> = reds.iter().map(|red| png(red * shade).into()).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&images, None, None).unwrap();
        column.close().unwrap();
    }
    for offset in [0, 5] {
        let labels: Vec<i64> = reds.iter().map(|red| i64::from(*red) + offset).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&labels, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    file.close().unwrap();
}

#[test]
fn other_columns_hold_images_too() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    write_lists(&path, &[[0, 1, 2, 255], [5, 6, 7, 8], [9, 9, 9, 9]], &["dog", "cat", "dog"]);
    let images = read(&path, None)?;
    assert_eq!(
        (images.shape(), images.image(0), images.labels()),
        ([1, 2, 2], &[0, 1, 2, 255][..], Some(&[1, 0, 1][..]))
    );
    assert_eq!((&images.classes[..], images.notes.len()), (&["cat", "dog"].map(String::from)[..], 0));

    write_bytes(&path, &[1, 2, 3]);
    let images = read(&path, None)?;
    assert_eq!((reds(&images), images.labels(), images.classes.len()), (vec![1, 2, 3], Some(&[6, 7, 8][..]), 9));
    let note = "`img`, `fine_label`; `mask`, `coarse_label` are not read";
    assert!(images.notes[0].contains(note), "{:?}", images.notes);
    Ok(())
}

#[test]
fn shards_of_every_naming_are_read() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    let put = |name: &str, reds| write(&at(name), &rows(reds), Some(FEATURES), Compression::SNAPPY);
    put("hash/data/train-00000-of-00002-1a2b.parquet", 0..5);
    put("hash/data/train-00001-of-00002-3c4d.parquet", 5..10);
    put("hash/data/validation-00000-of-00001-5e6f.parquet", 10..12);
    put("convert/train/0000.parquet", 0..5);
    put("convert/train/0001.parquet", 5..10);
    put("convert/test/0000.parquet", 10..12);
    fs::write(at("hash/README.md"), "").unwrap();
    for (set, sizes) in [("hash", [9, 2, 1]), ("convert", [9, 1, 2])] {
        let source: ImageSource = folder.path().join(set).to_string_lossy().parse()?;
        let data = source.load(&Fit::default(), None, &mut Rng::seed(0))?;
        assert_eq!([&data.train, &data.validation, &data.test].map(|part| part.len()), sizes, "{set}");
    }
    assert_eq!(reds(&read(&at("hash/data/train-00000-of-00002-1a2b.parquet"), None)?), (0..10).collect::<Vec<u8>>());
    let notes = read(&at("convert/train/0000.parquet"), None)?.notes;
    assert!(notes[0].contains("`0001.parquet` beside 0000.parquet is not read"), "{notes:?}");
    fs::remove_file(at("hash/data/train-00001-of-00002-3c4d.parquet")).unwrap();
    for name in ["hash", "hash/data/train-00000-of-00002-1a2b.parquet"] {
        assert!(read(&at(name), None).unwrap_err().to_string().contains("train-00001-of-00002"), "{name}");
    }
    Ok(())
}
