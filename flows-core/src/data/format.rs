//! The files that tables are read from, by the extensions of their names.

use super::{Frame, npy, text};
use crate::{Error, Result};
use std::fs::File;
use std::io::{Cursor, ErrorKind, Read};
use std::path::Path;

/// The formats of single tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Npy,
    Parquet,
    /// Several arrays.
    Npz,
    /// A table, or several, in an archive.
    Zip,
}

impl Format {
    /// The format of a file by its name, which may end in `.gz` or `.zst`.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let extension = extension(path);
        let program = match extension.as_deref() {
            Some("npy") => return Ok(Self::Npy),
            Some("csv" | "tsv" | "txt" | "dat" | "data") => return Ok(Self::Text),
            Some("parquet" | "pq") => return Ok(Self::Parquet),
            Some("npz") => return Ok(Self::Npz),
            Some("zip") => return Ok(Self::Zip),
            Some("arrow" | "feather" | "ipc") => "feather",
            Some("xls" | "xlsx" | "ods") => "excel",
            Some("h5" | "hdf" | "hdf5") => "hdf",
            Some("pkl" | "pickle") => "pickle",
            Some("json") => "json",
            Some("orc") => "orc",
            Some("dta") => "stata",
            Some("sas7bdat" | "xpt") => "sas",
            Some("sav") => "spss",
            _ => {
                let known = "nor one of .tsv, .txt, .dat, .data, .parquet, .npz, .zip";
                return Err(Error::file(
                    path,
                    format_args!("is neither .npy nor .csv, {known}; save the table as one of them"),
                ));
            }
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let remedy =
            format!("save it as CSV, as by pandas.read_{program}(\"{name}\").to_csv(\"table.csv\", index=False)");
        Err(Error::file(path, format_args!("is of a format that is not read; {remedy}")))
    }
}

/// The extension before one of a compressed file, in lower case.
pub(super) fn extension(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    name.rsplit_once('.').map(|(_, extension)| extension.to_string())
}

/// Reads the table of a file that has only one; tells also whether all its numbers are of single precision.
pub(super) fn table(path: &Path, format: Format) -> Result<(Frame, bool)> {
    let mut file = open(path)?;
    let cannot = |e: std::io::Error| unreadable(path, &e);
    match format {
        Format::Parquet => parquet(path, file),
        Format::Npy if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy")) => {
            let length = file.metadata().map_err(cannot)?.len();
            npy::frame(path, file, length)
        }
        format => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(cannot)?;
            of_bytes(path, bytes, format)
        }
    }
    .and_then(|(frame, single)| match (frame.columns.len(), frame.rows()) {
        (0, _) => {
            let notes = frame.notes.join("; ");
            Err(Error::file(path, format_args!("has no column that can be read ({notes}); save numbers or words")))
        }
        (_, 0) => Err(Error::file(path, "has no rows; save at least one")),
        _ => Ok((frame, single)),
    })
}

/// The table in the bytes of a text or of an array, compressed or not. Errors name `path`.
pub(super) fn of_bytes(path: &Path, bytes: Vec<u8>, format: Format) -> Result<(Frame, bool)> {
    let bytes = decompress(path, bytes)?;
    match format {
        Format::Text => text::read(path, bytes).map(|frame| (frame, false)),
        Format::Npy => {
            let length = bytes.len() as u64;
            npy::frame(path, Cursor::new(bytes), length)
        }
        _ => Err(Error::file(path, "is a table within another file; unpack it first")),
    }
}

/// Opens a file.
pub(super) fn open(path: &Path) -> Result<File> {
    let file = File::open(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::file(path, "there is no such file; check the path"),
        _ => unreadable(path, &e),
    })?;
    match file.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(Error::file(path, "is a folder; name a file in it")),
        Ok(_) => Ok(file),
        Err(e) => Err(unreadable(path, &e)),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::file(path, format_args!("cannot be read ({error}); check that you may read it"))
}

/// The bytes of a file, unpacked if they are compressed.
fn decompress(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let packed = match bytes[..] {
        #[cfg(any(feature = "images", feature = "tables"))]
        [0x1f, 0x8b, ..] => {
            let mut text = Vec::new();
            let read = flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text);
            return read.map(|_| text).map_err(|e| damaged(path, &e));
        }
        #[cfg(feature = "tables")]
        [0x28, 0xb5, 0x2f, 0xfd, ..] => return zstd::decode_all(&bytes[..]).map_err(|e| damaged(path, &e)),
        #[cfg(not(any(feature = "images", feature = "tables")))]
        [0x1f, 0x8b, ..] => "gzip",
        #[cfg(not(feature = "tables"))]
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "Zstandard",
        [b'B', b'Z', b'h', ..] => "bzip2",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz",
        [b'P', b'K', 3, 4, ..] => "zip",
        [b'P', b'A', b'R', b'1', ..] => return Err(Error::file(path, "is a Parquet file: rename it to .parquet")),
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] => {
            return Err(Error::file(path, "is an Arrow file; save it as CSV: pandas.read_feather(path).to_csv"));
        }
        _ => return Ok(bytes),
    };
    Err(Error::file(path, format_args!("is compressed by {packed}; unpack it first")))
}

#[cfg(any(feature = "images", feature = "tables"))]
fn damaged(path: &Path, error: &std::io::Error) -> Error {
    Error::file(path, format_args!("is damaged ({error}); fetch or compress it again"))
}

#[cfg(feature = "tables")]
fn parquet(path: &Path, file: File) -> Result<(Frame, bool)> {
    super::tables::parquet::frame(path, file).map(|frame| (frame, false))
}

#[cfg(not(feature = "tables"))]
fn parquet(path: &Path, _: File) -> Result<(Frame, bool)> {
    let remedy =
        "build flows-core with its feature `tables`, or save the table as CSV: pandas.read_parquet(path).to_csv";
    Err(Error::file(path, format_args!("is a Parquet file, which this build does not read; {remedy}")))
}
