//! Images in Parquet files, the format of data sets on the Hugging Face Hub.

use super::array::Array;
use super::collect::{Item, Skip, collect};
use super::columns::{Columns, Label, Pixels};
use super::decode::decode;
use super::labels::counted;
use super::tree::unread;
use super::{Fit, Images};
use crate::{Error, Result};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use std::collections::BTreeSet;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The upper bound of class numbers, exclusive.
const CLASSES: u32 = 1 << 16;

/// Reads the images of all files, with their classes if a column has them.
pub(super) fn images(paths: &[PathBuf], fit: &Fit, skip: Skip) -> Result<Images> {
    let shards = paths.iter().map(|path| Shard::open(path)).collect::<Result<Vec<_>>>()?;
    let Some(first) = shards.first() else { return Err(Error::Data("no Parquet file is named".into())) };
    if let Some(other) = shards.iter().find(|shard| !shard.columns.is_like(&first.columns)) {
        let message =
            format!("has other columns or classes than {}; save both alike, or name one alone", first.path.display());
        return Err(Error::file(&other.path, message));
    }
    // The reader panics on some damaged files.
    let read = catch_unwind(AssertUnwindSafe(|| read(&shards, &first.columns, fit, skip)));
    let mut images = read.unwrap_or_else(|_| Err(damaged(&first.path, &"its pages contradict each other")))?;
    images.notes.extend(first.columns.notes());
    Ok(images)
}

fn read(shards: &[Shard], columns: &Columns, fit: &Fit, skip: Skip) -> Result<Images> {
    let words = words(shards, columns)?;
    let label = |i: usize, shard: &Shard, field: Option<Field>| label(shard, i, field, &words);
    let (images, labels) = match columns.pixels {
        Pixels::Encoded => {
            let items = |fit: &Fit| {
                let (fit, label) = (fit.clone(), &label);
                let numbered = |shard| Ok(Shard::rows(shard)?.enumerate().map(move |(i, row)| (shard, i, row)));
                let rows = shards.iter().map(numbered).collect::<Result<Vec<_>>>()?;
                Ok(rows.into_iter().flatten().map(move |(shard, i, row)| {
                    let (bytes, class) = fields(row?);
                    let name = shard.name(i);
                    let image = match bytes {
                        Some(Field::Bytes(bytes)) => decode(name.as_ref(), bytes.data(), &fit),
                        _ => Err(Error::file(&name, "has no bytes; save the images themselves, not their paths")),
                    };
                    Ok(Item { label: label(i, shard, class)?, name, image })
                }))
            };
            let (images, labels) = collect(items, fit, skip)?;
            (Images { names: None, ..images }, labels)
        }
        Pixels::Numbers => {
            let (mut labels, mut numbers, mut shape) = (Vec::new(), Vec::new(), None);
            for shard in shards {
                for (i, row) in shard.rows()?.enumerate() {
                    let (image, class) = fields(row?);
                    let own = image.and_then(|image| unnested(&image, &mut numbers));
                    if own.is_none() || *shape.get_or_insert(own.clone()) != own {
                        let message =
                            "is no image of numbers of one shape; save encoded images, or arrays of one shape";
                        return Err(Error::file(shard.name(i), message));
                    }
                    labels.push(label(i, shard, class)?);
                }
            }
            let shape = [vec![labels.len()], shape.flatten().unwrap_or_default()].concat();
            let array =
                Array { path: shards[0].path.clone(), dtype: "<f8".into(), shape, fortran: false, bytes: numbers };
            (array.images(fit)?.fitted(fit)?, labels)
        }
    };
    images.numbered(&labels, columns.names.clone().or(words).map(counted))
}

/// The cells of the columns of images and of classes.
fn fields(row: Row) -> (Option<Field>, Option<Field>) {
    let mut fields = row.into_columns().into_iter().map(|(_, field)| field);
    let image = match fields.next() {
        Some(Field::Group(row)) => row.into_columns().into_iter().find(|(name, _)| name == "bytes").map(|f| f.1),
        field => field,
    };
    (image, fields.next())
}

/// Appends the numbers of nested lists as doubles, and returns their lengths; none if they are of other things or ragged.
fn unnested(field: &Field, to: &mut Vec<u8>) -> Option<Vec<usize>> {
    let value: f64 = match field {
        Field::ListInternal(list) => {
            let mut shape = None;
            for element in list.elements() {
                let own = unnested(element, to)?;
                if *shape.get_or_insert(own.clone()) != own {
                    return None;
                }
            }
            return Some([vec![list.elements().len()], shape?].concat());
        }
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => *value as f64,
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => *value as f64,
        Field::Float(value) => (*value).into(),
        Field::Double(value) => *value,
        Field::Bool(value) => f64::from(u8::from(*value)),
        _ => return None,
    };
    to.extend(value.to_le_bytes());
    Some(Vec::new())
}

/// All classes in order, if they are words.
fn words(shards: &[Shard], columns: &Columns) -> Result<Option<Vec<String>>> {
    if columns.label != Label::Words {
        return Ok(None);
    }
    let mut words = BTreeSet::new();
    for shard in shards {
        for row in shard.labels()? {
            if let Some((_, Field::Str(word))) = row?.into_columns().into_iter().next() {
                words.insert(word);
            }
        }
    }
    Ok(Some(words.into_iter().collect()))
}

/// The class of an image, if it is known.
fn label(shard: &Shard, i: usize, field: Option<Field>, words: &Option<Vec<String>>) -> Result<Option<u32>> {
    let label = match field {
        Some(Field::Byte(class)) => i64::from(class),
        Some(Field::Short(class)) => class.into(),
        Some(Field::Int(class)) => class.into(),
        Some(Field::Long(class)) => class,
        Some(Field::UByte(class)) => class.into(),
        Some(Field::UShort(class)) => class.into(),
        Some(Field::UInt(class)) => class.into(),
        Some(Field::ULong(class)) => i64::try_from(class).unwrap_or(i64::MAX),
        Some(Field::Bool(class)) => class.into(),
        Some(Field::Str(word)) => {
            let place = words.as_ref().and_then(|words| words.binary_search(&word).ok());
            return Ok(place.map(|place| place as u32));
        }
        _ => return Ok(None),
    };
    match u32::try_from(label) {
        Ok(class @ 0..CLASSES) => Ok(Some(class)),
        Ok(_) => Err(Error::file(shard.name(i), format!("has a class number that is not below {CLASSES}"))),
        // The Hub uses -1 for images of unknown class.
        Err(_) if label < 0 => Ok(None),
        Err(_) => Err(Error::file(shard.name(i), format!("has a class number that is not below {CLASSES}"))),
    }
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::file(path, format!("cannot be read as a Parquet file ({why}); fetch it again"))
}

/// One file.
struct Shard {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    columns: Columns,
}

impl Shard {
    fn open(path: &Path) -> Result<Self> {
        let reader = open(path)?;
        let columns = Columns::of(reader.metadata().file_metadata()).map_err(|e| Error::file(path, e))?;
        Ok(Self { path: path.into(), reader, columns })
    }

    /// The rows of the columns of images and of classes.
    fn rows(&self) -> Result<impl Iterator<Item = Result<Row>> + '_> {
        let rows = self.reader.get_row_iter(Some(self.columns.both.clone())).map_err(|e| self.broken(&e))?;
        Ok(rows.map(|row| row.map_err(|e| self.broken(&e))))
    }

    /// The rows of the column of classes alone.
    fn labels(&self) -> Result<impl Iterator<Item = Result<Row>> + '_> {
        let rows = self.reader.get_row_iter(self.columns.labels.clone()).map_err(|e| self.broken(&e))?;
        Ok(rows.map(|row| row.map_err(|e| self.broken(&e))))
    }

    fn broken(&self, error: &ParquetError) -> Error {
        if error.to_string().contains("Disabled feature") {
            let message =
                format!("is compressed by an unsupported codec ({error}); save it with Snappy or uncompressed");
            return Error::file(&self.path, message);
        }
        damaged(&self.path, error)
    }

    fn name(&self, i: usize) -> String {
        format!("{} (image {i})", self.path.display())
    }
}

fn open(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = File::open(path).map_err(|e| Error::file(path, format!("cannot be read ({e}); fetch it")))?;
    let reader = catch_unwind(|| SerializedFileReader::new(file));
    reader.map_err(|_| damaged(path, &"its footer is invalid"))?.map_err(|e| damaged(path, &e))
}

/// Whether a file may hold images: not one that is a table of other things.
pub(super) fn may_be_images(path: &Path) -> bool {
    File::open(path).is_err() || open(path).map_or(true, |file| Columns::of(file.metadata().file_metadata()).is_ok())
}

/// The Parquet files beside one whose names are numbers, as its is.
pub(super) fn numbered_beside(path: &Path) -> Option<String> {
    let is_number = |path: &Path| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit()) && is_parquet(path)
    };
    if !is_number(path) {
        return None;
    }
    let others = std::fs::read_dir(path.parent()?).ok()?.flatten().map(|entry| entry.path());
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut others: Vec<String> = others
        .filter(|other| is_number(other) && other.file_name() != path.file_name())
        .map(|path| name(&path))
        .collect();
    others.sort();
    let note = unread(others, &format!(" beside {}", name(path)))?;
    Some(format!("{note}: name the folder to read all"))
}

/// Whether a file is a Parquet file by its name.
pub(super) fn is_parquet(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    extension == "parquet" || extension == "pq"
}
