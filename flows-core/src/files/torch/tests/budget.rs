//! How much is unpacked and read of files that claim more than they hold.

use super::build::*;
use super::*;

/// Makes the directory of an archive claim that an entry is deflated, of this size, and has no checksum.
fn claim(archive: &mut [u8], name: &str, size: u32) {
    let is_header = |at: &usize| {
        let header = &archive[*at..];
        header.starts_with(b"PK\x01\x02") && header.get(46..).is_some_and(|rest| rest.starts_with(name.as_bytes()))
    };
    let at = (0..archive.len()).find(is_header).unwrap();
    archive[at + 10] = 8;
    archive[at + 16..at + 20].fill(0);
    archive[at + 24..at + 28].copy_from_slice(&size.to_le_bytes());
}

/// An archive of a pickle and deflated records of so many numbers, all of them zeros.
fn deflated(value: &[u8], counts: &[usize]) -> Vec<u8> {
    let packed = |count: &usize| {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&vec![0; 4 * count]).unwrap();
        encoder.finish().unwrap()
    };
    let records: Vec<_> = counts.iter().enumerate().map(|(i, n)| (format!("a/data/{i}"), packed(n))).collect();
    let pickle = pickle(value);
    let mut entries = vec![("a/data.pkl", &pickle[..])];
    entries.extend(records.iter().map(|(name, bytes)| (&name[..], &bytes[..])));
    let mut archive = zip_of(&entries);
    records.iter().zip(counts).for_each(|((name, _), count)| claim(&mut archive, name, 4 * *count as u32));
    archive
}

/// A tensor in the storage of this key.
fn floats(key: &str, [offset, count]: [usize; 2], dims: &[usize], strides: &[usize]) -> Vec<u8> {
    tensor_with("FloatStorage", key, [offset, count], dims, strides, b"")
}

/// An entry that is never read, and claims a size that it does not have, makes no room for others.
#[test]
fn a_lying_entry_does_not_raise_the_limit() {
    const COUNT: usize = 1 << 18;
    let view = |i: usize| (i.to_string(), floats("0", [i, COUNT], &[COUNT - 64], &[1]));
    let views: Vec<_> = (0..64).map(view).collect();
    let views: Vec<_> = views.iter().map(|(name, tensor)| (&name[..], tensor.clone())).collect();
    let mut file =
        zip_of(&[("a/data.pkl", &pickle(&dict(&views))), ("a/data/0", &[0; 4 * COUNT]), ("a/data/never", b"x")]);
    claim(&mut file, "a/data/never", u32::MAX - 1);
    let checkpoint = open(&file).unwrap();
    let said = checkpoint.root().read_tensors().unwrap_err().to_string();
    assert!(said.contains("more numbers than it holds"), "{said}");
    assert_eq!(checkpoint.root().get("63").unwrap().tensor().unwrap().read().unwrap().dims(), [COUNT - 64]);
}

/// Records that are compressed have one limit together, and each is unpacked once.
#[test]
fn compressed_records_share_a_limit() {
    const COUNT: usize = 1 << 21;
    let whole = |key: &str| floats(key, [0, COUNT], &[8], &[1]);
    let file = deflated(&dict(&[("a", whole("0")), ("b", whole("1")), ("c", whole("2"))]), &[COUNT; 3]);
    let checkpoint = open(&file).unwrap();
    let tensors = checkpoint.root().tensors();
    let [a, b, c] = &tensors[..] else { panic!("three tensors") };
    // By turns, these would soon exceed the limit if they were unpacked each time.
    for _ in 0..8 {
        assert_eq!((values(&a.read().unwrap()), values(&b.read().unwrap())), (vec![0.0; 8], vec![0.0; 8]));
    }
    let said = c.read().unwrap_err().to_string();
    assert!(said.contains("that are plausible"), "{said}");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar(&[("model_weights.ckpt", &vec![0; 20 << 20])])).unwrap();
    let said = open(&gzip.finish().unwrap()).unwrap_err().to_string();
    assert!(said.contains("implausibly large"), "{said}");
}

/// Slices of columns lie between each other, but together they are no larger than their matrix.
#[test]
fn slices_of_columns_are_charged_for_their_numbers() {
    const SIZE: usize = 64;
    let bytes: Vec<u8> = (0..SIZE * SIZE).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let slice = |i: usize| (format!("{i:02}"), floats("0", [i * SIZE / 8, SIZE * SIZE], &[SIZE, SIZE / 8], &[SIZE, 1]));
    let slices: Vec<_> = (0..8).map(slice).collect();
    let slices: Vec<_> = slices.iter().map(|(name, tensor)| (&name[..], tensor.clone())).collect();
    let file = zip_of(&[("a/data.pkl", &pickle(&dict(&slices))), ("a/data/0", &bytes)]);
    let tensors = open(&file).unwrap().root().read_tensors().unwrap();
    let last = values(&tensors["07"]);
    assert_eq!((last[0], last[SIZE / 8], last[SIZE * SIZE / 8 - 1]), (56.0, 120.0, 4095.0));
}
