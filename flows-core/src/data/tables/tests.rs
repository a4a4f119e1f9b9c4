use crate::Result;
use crate::data::{Cells, Frame, read_frame, read_frames, read_table};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// A table of four rows and of every kind of column, each compressed otherwise, written by pyarrow.
const KINDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kinds.parquet");

const NONE: f64 = f64::NAN;

fn cells<'a>(frame: &'a Frame, name: &str) -> &'a Cells {
    let column = frame.columns.iter().find(|column| column.name.as_deref() == Some(name));
    &column.unwrap_or_else(|| panic!("no `{name}` in {:?}", frame.names())).cells
}

#[test]
fn every_kind_of_column_is_read() -> Result<()> {
    let frame = read_frame(KINDS)?;
    let numbers = [
        ("x", [1.5, NONE, -2.25, 4.0]),
        ("f", [0.5, 1.0, NONE, 2.0]),
        ("h", [0.5, 1.0, 2.0, -3.0]),
        ("n", [1.0, 2.0, NONE, 4.0]),
        ("u", [1.0, 2.0, 3.0, 18_446_744_073_709_551_615.0]),
        ("b", [1.0, 0.0, NONE, 1.0]),
        ("d", [1.1, -2.25, NONE, 99_999_999_999_999_999.01]),
        ("e", [1.1, -2.25, NONE, 3.0]),
        ("num", [1.0, 2.5, NONE, 4.0]),
        ("clock", [90.0, NONE, 43_200.0, 3600.0]),
        ("place.x", [1.0, NONE, 3.0, 4.0]),
        ("point.0", [1.0, 3.0, NONE, 5.0]),
        ("point.1", [2.0, 4.0, NONE, NONE]),
    ];
    for (name, want) in numbers {
        let Cells::Numbers(got) = cells(&frame, name) else { panic!("{name}: {:?}", cells(&frame, name)) };
        assert_eq!(got.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), want.map(f64::to_bits), "{name}: {got:?}");
    }
    let words = [
        ("s", [Some("a"), Some("b"), None, Some("a")]),
        ("k", [Some("p"), Some("q"), Some("p"), None]),
        ("day", [Some("2024-02-29"), None, Some("1969-12-31"), Some("2000-01-01")]),
        ("t", [Some("2024-02-29T12:30:00"), None, Some("1969-12-31T23:59:59.25"), Some("2000-01-01")]),
        ("tn", [Some("1970-01-01T00:00:00.000000001"), None, Some("1970-01-02"), Some("1970-01-01")]),
        ("place.y", [Some("n"), None, Some("s"), None]),
    ];
    for (name, want) in words {
        let got: Vec<_> = (0..4).map(|row| cells(&frame, name).text(row)).collect();
        assert_eq!(got.iter().map(Option::as_deref).collect::<Vec<_>>(), want, "{name}");
    }
    assert_eq!(frame.columns.len(), numbers.len() + words.len(), "{:?}", frame.names());
    for (name, why) in [("tags", "different lengths"), ("raw", "no text"), ("__index_level_0__", "pandas")] {
        assert!(frame.notes.iter().any(|note| note.contains(name) && note.contains(why)), "{name}: {:?}", frame.notes);
    }
    Ok(())
}

/// Writes numbers and words, three rows in a group.
fn write(path: &Path, numbers: &[f64], compression: Compression) {
    let schema = "message table { required double x; optional binary word (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut file = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    for numbers in numbers.chunks(3) {
        let mut group = file.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(numbers, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let words: Vec<ByteArray> =
            numbers.iter().filter(|v| **v > 0.0).map(|v| v.to_string().as_str().into()).collect();
        let levels: Vec<i16> = numbers.iter().map(|v| i16::from(*v > 0.0)).collect();
        column.typed::<ByteArrayType>().write_batch(&words, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    file.close().unwrap();
}

#[test]
fn groups_shards_and_parts_belong_together() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::LZ4_RAW, zstd] {
        write(&path("a.parquet"), &[0.0, 1.5, 2.5, 3.5, -1.0], compression);
        let frame = read_frame(path("a.parquet"))?;
        assert_eq!(cells(&frame, "x"), &Cells::Numbers(vec![0.0, 1.5, 2.5, 3.5, -1.0]));
        assert!((0..5).map(|row| cells(&frame, "word").is_missing(row)).eq([true, false, false, false, true]));
    }
    let error = read_table(path("a.parquet")).unwrap_err().to_string();
    assert!(error.contains("a.parquet: row 1, column 2 (`word`) has no number"), "{error}");
    fs::remove_file(path("a.parquet")).unwrap();
    write(&path("train-00000-of-00002.parquet"), &[1.0, 2.0], zstd);
    assert!(read_frame(path("train-00000-of-00002.parquet")).unwrap_err().to_string().contains("00001-of-00002"));
    write(&path("train-00001-of-00002.parquet"), &[3.0], zstd);
    write(&path("test-00000-of-00001.parquet"), &[4.0, 5.0], zstd);
    assert_eq!(read_frame(path("train-00000-of-00002.parquet"))?.rows(), 3);
    assert_eq!(read_frame(path("train-00001-of-00002.parquet"))?.rows(), 1);
    let frames = read_frames(folder.path())?;
    let rows: Vec<_> = frames.named().map(|(part, frame)| (part, frame.rows())).collect();
    assert_eq!(rows, [("train", 3), ("test", 2)]);
    // With hashes in the names those of the others do not follow from that of the first.
    for (name, hashed) in [("00000-of-00002", "00000-of-00002-1a2b"), ("00001-of-00002", "00001-of-00002-3c4d")] {
        let path = |name: &str| path(&format!("train-{name}.parquet"));
        fs::rename(path(name), path(hashed)).unwrap();
    }
    assert_eq!(read_frame(path("train-00000-of-00002-1a2b.parquet"))?.rows(), 3);
    assert_eq!(read_frames(folder.path())?.train.rows(), 3);
    fs::remove_file(path("train-00001-of-00002-3c4d.parquet")).unwrap();
    for path in [path("train-00000-of-00002-1a2b.parquet"), folder.path().into()] {
        let error = read_frames(&path).unwrap_err().to_string();
        assert!(error.contains("lacks `train-00001-of-00002.parquet`"), "{error}");
        assert!(error.starts_with(&path.display().to_string()), "{error}");
    }
    Ok(())
}

/// A file with any byte changed is read or is an error; a truncated one is an error.
#[test]
fn damage_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let whole = fs::read(KINDS).unwrap();
    for (i, damage) in (0..whole.len()).step_by(4).zip([0x01, 0xff, 0x10].into_iter().cycle()) {
        let mut bytes = whole.clone();
        bytes[i] ^= damage;
        fs::write(&path, bytes).unwrap();
        if let Err(error) = read_frame(&path) {
            assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
        }
    }
    for length in (0..whole.len()).step_by(64) {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(read_frame(&path).is_err(), "{length} bytes are read");
    }
}

#[test]
fn compressed_texts_and_arrays() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"a,b\n1,2\n").unwrap();
    fs::write(path("a.csv.gz"), gzip.finish().unwrap()).unwrap();
    fs::write(path("b.csv.zst"), zstd::encode_all(&b"a,b\n1,2\n"[..], 3).unwrap()).unwrap();
    let array = b"\x93NUMPY\x01\x00\x3a\x00{'descr': '<i2', 'fortran_order': False, 'shape': (1, 2)}\n\x01\x00\x02\x00";
    fs::write(path("c.npy.zst"), zstd::encode_all(&array[..], 3).unwrap()).unwrap();
    for name in ["a.csv.gz", "b.csv.zst", "c.npy.zst"] {
        assert_eq!(read_table(path(name))?.data.to_vec2::<f64>()?, [[1.0, 2.0]], "{name}");
    }
    fs::write(path("d.csv.zst"), b"\x28\xb5\x2f\xfd and so on").unwrap();
    assert!(read_table(path("d.csv.zst")).unwrap_err().to_string().contains("damaged"));
    Ok(())
}
