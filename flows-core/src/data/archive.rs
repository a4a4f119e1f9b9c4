//! Tables in zip archives, among them those of NumPy's arrays.

use super::format::{Format, of_bytes, open};
use super::parts::{Frames, Plan};
use super::{Column, Frame};
use crate::files::Archive;
use crate::{Error, Result};
use std::path::Path;

/// Reads the table of an archive, or its tables `train`, `validation` and `test`.
pub(super) fn zip(path: &Path) -> Result<Frames> {
    let (mut archive, names) = entries(path)?;
    let names = names.into_iter().filter(|name| !name.ends_with('/')).collect();
    let (names, folder) = within(names);
    let source = path.display().to_string();
    let plan = Plan::of(names, &source)?;
    plan.read(&source, |name| {
        let bytes = archive.read(&format!("{folder}{name}"), u64::MAX).map_err(|fault| damaged(path, &fault))?;
        of_bytes(&path.join(name), bytes, Format::of(name.as_ref())?).map(|(frame, _)| frame)
    })
}

/// Reads the arrays that `np.savez` wrote: a matrix, columns that are named after their arrays, or the parts `train`,
/// `validation` and `test`.
pub(super) fn npz(path: &Path) -> Result<Frames> {
    let (mut archive, names) = entries(path)?;
    let mut read = |name: &str| {
        let bytes = archive.read(name, u64::MAX).map_err(|fault| damaged(path, &fault))?;
        of_bytes(&path.join(name), bytes, Format::Npy).map(|(frame, _)| frame)
    };
    let source = path.display().to_string();
    let plan = Plan::of(names.clone(), &source)?;
    if plan.is_split() {
        return plan.read(&source, read);
    }
    let mut whole = Frame::default();
    for name in &names {
        let frame = read(name)?;
        if !whole.columns.is_empty() && frame.rows() != whole.rows() {
            let remedy = "save one table, or the parts: np.savez(path, train=a, validation=b, test=c)";
            return Err(Error::file(
                path,
                format_args!("holds arrays of {} and of {} rows; {remedy}", whole.rows(), frame.rows()),
            ));
        }
        let (array, width) = (name.trim_end_matches(".npy"), frame.columns.len());
        let named = |(i, column): (usize, Column)| {
            let name = match (column.name, width) {
                (Some(name), _) => Some(name),
                (None, _) if names.len() == 1 => None,
                (None, 1) => Some(array.to_string()),
                (None, _) => Some(format!("{array}.{i}")),
            };
            Column { name, cells: column.cells }
        };
        whole.columns.extend(frame.columns.into_iter().enumerate().map(named));
    }
    Ok(whole.into())
}

/// The archive in a file, and the names of its entries.
fn entries(path: &Path) -> Result<(Archive, Vec<String>)> {
    let archive = Archive::open(open(path)?).map_err(|fault| damaged(path, &fault))?;
    let names = archive.names().map(String::from).collect();
    Ok((archive, names))
}

/// The names without the folder that they all are in, and that folder.
fn within(names: Vec<String>) -> (Vec<String>, String) {
    let shown = |name: &&String| !name.starts_with("__MACOSX/");
    let folder = names.iter().find(shown).and_then(|name| Some(format!("{}/", name.split_once('/')?.0)));
    match folder {
        Some(folder) if names.iter().filter(shown).all(|name| name.starts_with(&folder)) => {
            let inner = names.iter().filter_map(|name| name.strip_prefix(&folder)).map(String::from);
            (inner.collect(), folder)
        }
        _ => (names, String::new()),
    }
}

fn damaged(path: &Path, fault: &dyn std::fmt::Display) -> Error {
    Error::file(path, format_args!("cannot be read as an archive ({fault}); fetch or write it again"))
}

#[cfg(all(test, feature = "tables"))]
mod tests {
    use super::*;
    use crate::data::{read_frame, read_frames};
    use crate::files::zip_of;
    use std::fs;

    /// An array of doubles.
    fn npy(shape: &str, values: &[f64]) -> Vec<u8> {
        let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        bytes
    }

    #[test]
    fn arrays_and_tables_in_archives() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (matrix, vector) = (npy("(2, 2)", &[1.0, 2.0, 3.0, f64::NAN]), npy("(2,)", &[5.0, 6.0]));
        fs::write(path("one.npz"), zip_of(&[("a.npy", &matrix)])).unwrap();
        let one = read_frame(path("one.npz"))?;
        assert_eq!((one.rows(), one.names()), (2, None));
        assert!(one.columns[1].cells.is_missing(1));
        fs::write(path("two.npz"), zip_of(&[("x.npy", &matrix), ("y.npy", &vector)])).unwrap();
        assert_eq!(read_frame(path("two.npz"))?.names().unwrap(), ["x.0", "x.1", "y"]);
        fs::write(path("parts.npz"), zip_of(&[("test.npy", &vector), ("train.npy", &npy("(3,)", &[0.0; 3]))])).unwrap();
        let parts = read_frames(path("parts.npz"))?;
        assert_eq!((parts.train.rows(), parts.test.map(|test| test.rows())), (3, Some(2)));
        assert!(read_frame(path("parts.npz")).unwrap_err().to_string().contains("several parts"));
        fs::write(path("odd.npz"), zip_of(&[("x.npy", &vector), ("y.npy", &npy("(3,)", &[0.0; 3]))])).unwrap();
        assert!(read_frame(path("odd.npz")).unwrap_err().to_string().contains("np.savez"));

        let text = b"a,b\n1,2\n3,4\n";
        fs::write(path("t.zip"), zip_of(&[("t/a.csv", text), ("t/README.md", b""), ("__MACOSX/t/._a.csv", b"x")]))
            .unwrap();
        let table = read_frame(path("t.zip"))?;
        assert_eq!((table.rows(), table.names().unwrap().concat()), (2, "ab".to_string()));
        assert!(table.notes.iter().any(|note| note.contains("README.md")), "{:?}", table.notes);
        fs::write(path("bad.zip"), b"PK\x03\x04 and so on").unwrap();
        assert!(read_frame(path("bad.zip")).unwrap_err().to_string().contains("archive"));
        Ok(())
    }
}
