//! Which columns of a Parquet file hold images and their classes.

use super::tree::unread;
use crate::text::list;
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::file::metadata::FileMetaData;
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;
use std::sync::Arc;

const WANTED: &str = "images must be in a column of encoded images, as the Hub saves them: a structure with `bytes`, or bytes \
                      alone; or in one of lists of lists of numbers";

/// How a column holds images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pixels {
    /// As files of images.
    Encoded,
    /// As lists of lists of numbers.
    Numbers,
}

/// How a column holds classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    None,
    Numbers,
    Words,
}

/// The columns that are read.
pub(super) struct Columns {
    pub pixels: Pixels,
    pub label: Label,
    /// The columns of images and, if there is one, of classes.
    pub both: Type,
    /// The column of classes.
    pub labels: Option<Type>,
    /// The names of the classes.
    pub names: Option<Vec<String>>,
    /// Those that are read, and others that could be.
    read: Vec<String>,
    unread: Vec<String>,
}

impl Columns {
    /// Chooses the columns of a file.
    pub(super) fn of(metadata: &FileMetaData) -> Result<Self, String> {
        let fields = metadata.schema().get_fields();
        let features = metadata.key_value_metadata().into_iter().flatten().find(|entry| entry.key == "huggingface");
        let features = features.and_then(|entry| serde_json::from_str::<Value>(entry.value.as_ref()?).ok());
        let feature = |field: &TypePtr| features.as_ref()?.pointer("/info/features")?.get(field.name()).cloned();
        let named = |field: &TypePtr| feature(field).is_some_and(|feature| feature["_type"] == "ClassLabel");

        let mut images: Vec<(&TypePtr, Pixels)> =
            fields.iter().filter(|field| is_encoded(field)).map(|field| (field, Pixels::Encoded)).collect();
        images.sort_by_key(|(field, _)| !is_named(field, &["image", "img", "picture", "photo"]));
        let lists = fields.iter().filter(|field| nesting(field).is_some_and(|depth| depth > 1));
        images.extend(lists.map(|field| (field, Pixels::Numbers)));
        let Some(&(image, pixels)) = images.first() else {
            let columns: Vec<&str> = fields.iter().map(|field| field.name()).collect();
            return Err(format!("has columns {}, none of images; {WANTED}", columns.join(", ")));
        };

        let is_label = |field: &&TypePtr| {
            let word = is_named(field, &["class", "category", "target", "digit", "y"]);
            let word = word || field.name().to_lowercase().contains("label");
            is_whole(field) && (named(field) || word) || is_text(field) && word && !is_named(field, &["path", "file"])
        };
        let mut labels: Vec<&TypePtr> = fields.iter().filter(is_label).collect();
        // A class by its feature, then numbers, then the plainest or the finest name.
        let rank = |name: &str| ["label", "class", "fine_label"].iter().position(|known| *known == name).unwrap_or(3);
        labels.sort_by_key(|field| (!named(field), !is_whole(field), rank(&field.name().to_lowercase())));
        let label = labels.first().copied();
        let names = label.and_then(feature).and_then(|feature| serde_json::from_value(feature["names"].clone()).ok());

        let of = |fields: Vec<&TypePtr>| {
            let fields = fields.into_iter().map(Arc::clone).collect();
            let columns = Type::group_type_builder(metadata.schema().name()).with_fields(fields).build();
            columns.map_err(|e| format!("cannot be read as a Parquet file ({e}); fetch it again"))
        };
        let name = |field: &TypePtr| field.name().to_string();
        Ok(Self {
            pixels,
            label: label.map_or(Label::None, |field| if is_text(field) { Label::Words } else { Label::Numbers }),
            both: of([Some(image), label].into_iter().flatten().collect())?,
            labels: label.map(|label| of(vec![label])).transpose()?,
            names,
            read: [Some(image), label].into_iter().flatten().map(name).collect(),
            unread: images[1..]
                .iter()
                .map(|(field, _)| name(field))
                .chain(labels.iter().skip(1).map(|f| name(f)))
                .collect(),
        })
    }

    /// Whether images and classes can be read together with those of another file.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let of = |columns: &Self| (columns.pixels, columns.label);
        of(self) == of(other) && self.read == other.read && self.names == other.names
    }

    /// What could be images or classes, and is not read.
    pub(super) fn notes(&self) -> Option<String> {
        let read = list(&self.read);
        let unread = unread(self.unread.iter().cloned(), "")?;
        Some(format!("images and classes are those of the columns {read}; {unread}"))
    }
}

/// Whether the name of a column has one of these words.
fn is_named(field: &TypePtr, words: &[&str]) -> bool {
    let name = field.name().to_lowercase();
    let mut parts = name.split(|c: char| !c.is_alphanumeric());
    parts.any(|part| words.iter().any(|word| part == *word || part.strip_suffix('s') == Some(*word)))
}

/// Whether a column holds encoded images: structures with bytes, or bytes that are not said to be a text.
fn is_encoded(field: &TypePtr) -> bool {
    let bytes = |field: &TypePtr| field.is_primitive() && field.get_physical_type() == Physical::BYTE_ARRAY;
    if field.is_group() {
        return field.get_fields().iter().any(|field| field.name() == "bytes" && bytes(field));
    }
    bytes(field)
        && field.get_basic_info().converted_type() == ConvertedType::NONE
        && field.get_basic_info().logical_type_ref().is_none()
}

fn is_whole(field: &TypePtr) -> bool {
    field.is_primitive()
        && matches!(field.get_physical_type(), Physical::INT32 | Physical::INT64 | Physical::BOOLEAN)
        && matches!(field.get_basic_info().logical_type_ref(), None | Some(LogicalType::Integer(_)))
}

fn is_text(field: &TypePtr) -> bool {
    field.is_primitive()
        && (field.get_basic_info().converted_type() == ConvertedType::UTF8
            || matches!(field.get_basic_info().logical_type_ref(), Some(LogicalType::String)))
}

/// How deeply the lists of a column of numbers are nested.
fn nesting(field: &TypePtr) -> Option<usize> {
    if field.is_primitive() {
        let kind = field.get_physical_type();
        let is_number = !matches!(kind, Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY | Physical::INT96);
        return is_number.then_some(0);
    }
    // A list is a group of one repeated group of one element.
    let [repeated] = field.get_fields() else { return None };
    let is_repeated = |field: &TypePtr| {
        let info = field.get_basic_info();
        info.has_repetition() && info.repetition() == parquet::basic::Repetition::REPEATED
    };
    if !is_repeated(repeated) {
        return None;
    }
    match (repeated.is_group(), repeated.is_group().then(|| repeated.get_fields())) {
        (true, Some([element])) => Some(nesting(element)? + 1),
        (false, _) => Some(1),
        _ => None,
    }
}
