//! Images in Parquet files, the format of data sets on the Hugging Face Hub.

use super::decode::{Item, collect, decode};
use super::{Fit, Images};
use crate::data::parts::shards;
use crate::{Error, Result};
use image::ImageReader;
use parquet::basic::{ConvertedType, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;
use std::fs::File;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const WANTED: &str = "images must be in a struct column with `bytes`, an encoded image, as the Hub saves them";

/// The upper bound of class numbers, exclusive.
const CLASSES: u32 = 1 << 16;

/// Reads the images of a file, or of all shards that its name stands for, with their classes if a column has them.
pub(super) fn images(path: &Path, fit: &Fit, skip: Option<&mut dyn FnMut(Error)>) -> Result<Images> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let paths: Vec<PathBuf> = shards(&name).into_iter().map(|name| path.with_file_name(name)).collect();
    let files = paths.into_iter().map(Shard::open).collect::<Result<Vec<_>>>()?;
    let names = files.first().and_then(|file| file.names.clone());
    let items = files.iter().flat_map(|file| match file.items() {
        Ok(items) => items,
        Err(error) => Box::new(std::iter::once(Err(error))),
    });
    // The reader panics on some damaged files.
    let collected = catch_unwind(AssertUnwindSafe(|| collect(items, fit, skip)));
    let (images, labels) = collected.map_err(|_| damaged(path, &"its pages contradict each other"))??;
    let images = Images { names: None, ..images };
    let Some(labels) = labels else {
        return Ok(images);
    };
    let count = labels.iter().max().map_or(0, |most| most + 1);
    let names = names.filter(|names| names.len() >= count as usize);
    images.with_labels(labels, names.unwrap_or_else(|| (0..count).map(|class| class.to_string()).collect()))
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::file(path, format!("cannot be read as a Parquet file ({why}); fetch it again"))
}

/// One file.
struct Shard {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    /// The columns to read: the images and, if there is one, the classes.
    columns: Type,
    /// The names of the classes.
    names: Option<Vec<String>>,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self> {
        let file = File::open(&path).map_err(|e| Error::file(&path, format!("cannot be read ({e}); fetch it")))?;
        let reader = catch_unwind(|| SerializedFileReader::new(file));
        let reader = reader.map_err(|_| damaged(&path, &"its footer is invalid"))?.map_err(|e| damaged(&path, &e))?;
        let metadata = reader.metadata().file_metadata();
        let fields = metadata.schema().get_fields();
        let Some(image) = fields.iter().find(|field| is_image(field)) else {
            let columns: Vec<&str> = fields.iter().map(|field| field.name()).collect();
            return Err(Error::file(path, format!("has columns {}, none of images; {WANTED}", columns.join(", "))));
        };
        let features = metadata.key_value_metadata().into_iter().flatten().find(|entry| entry.key == "huggingface");
        let features = features.and_then(|entry| serde_json::from_str::<Value>(entry.value.as_ref()?).ok());
        let feature = |field: &TypePtr| features.as_ref()?.pointer("/info/features")?.get(field.name()).cloned();
        let named = |field: &&TypePtr| feature(field).is_some_and(|feature| feature["_type"] == "ClassLabel");
        let whole = |field: &&TypePtr| {
            field.is_primitive() && matches!(field.get_physical_type(), Physical::INT32 | Physical::INT64)
        };
        let mut whole = fields.iter().filter(whole);
        let label = whole.clone().find(named).or_else(|| whole.find(|field| field.name().contains("label")));
        let names = label.and_then(feature).and_then(|feature| serde_json::from_value(feature["names"].clone()).ok());
        let columns = [Some(image), label].into_iter().flatten().map(Arc::clone).collect();
        let columns = Type::group_type_builder(metadata.schema().name()).with_fields(columns).build();
        let columns = columns.map_err(|e| damaged(&path, &e))?;
        Ok(Self { path, reader, columns, names })
    }

    fn items(&self) -> Result<Box<dyn Iterator<Item = Result<Item>> + '_>> {
        let rows = self.reader.get_row_iter(Some(self.columns.clone())).map_err(|e| self.broken(e))?;
        Ok(Box::new(rows.enumerate().map(|(i, row)| self.item(i, row.map_err(|e| self.broken(e))?))))
    }

    fn broken(&self, error: ParquetError) -> Error {
        if error.to_string().contains("Disabled feature") {
            let message =
                format!("is compressed by an unsupported codec ({error}); save it with Snappy or uncompressed");
            return Error::file(&self.path, message);
        }
        damaged(&self.path, &error)
    }

    fn item(&self, i: usize, row: Row) -> Result<Item> {
        let name = format!("{} (image {i})", self.path.display());
        let mut fields = row.into_columns().into_iter().map(|(_, field)| field);
        let bytes = match fields.next() {
            Some(Field::Group(row)) => row.into_columns().into_iter().find(|(name, _)| name == "bytes").map(|f| f.1),
            field => field,
        };
        let image = match bytes {
            Some(Field::Bytes(bytes)) => decode(name.as_ref(), ImageReader::new(Cursor::new(bytes.data()))),
            _ => Err(Error::file(&name, "has no bytes; save the images themselves, not their paths")),
        };
        let label = match fields.next() {
            Some(Field::Byte(class)) => Some(i64::from(class)),
            Some(Field::Short(class)) => Some(i64::from(class)),
            Some(Field::Int(class)) => Some(i64::from(class)),
            Some(Field::Long(class)) => Some(class),
            Some(Field::UByte(class)) => Some(i64::from(class)),
            _ => None,
        };
        // The Hub uses -1 for images of unknown class.
        match label.filter(|class| *class >= 0).map(u32::try_from) {
            Some(Ok(class @ 0..CLASSES)) => Ok(Item { name, label: Some(class), image }),
            Some(_) => Err(Error::file(name, format!("has a class number that is not below {CLASSES}"))),
            None => Ok(Item { name, label: None, image }),
        }
    }
}

/// Whether a file may hold images: not one that is a table of other things.
pub(super) fn may_be_images(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return true };
    match catch_unwind(|| SerializedFileReader::new(file)) {
        Ok(Ok(reader)) => {
            let fields = reader.metadata().file_metadata().schema().get_fields();
            fields.iter().any(|field| is_image(field) || is_bytes(field))
        }
        _ => true,
    }
}

/// Whether a column holds images.
fn is_image(field: &TypePtr) -> bool {
    let bytes = |field: &TypePtr| field.is_primitive() && field.get_physical_type() == Physical::BYTE_ARRAY;
    field.is_group() && field.get_fields().iter().any(|field| field.name() == "bytes" && bytes(field))
}

/// Whether a column holds bytes that are not said to be a text.
fn is_bytes(field: &TypePtr) -> bool {
    field.is_primitive()
        && field.get_physical_type() == Physical::BYTE_ARRAY
        && field.get_basic_info().converted_type() == ConvertedType::NONE
        && field.get_basic_info().logical_type_ref().is_none()
}
