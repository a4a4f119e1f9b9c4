//! Tables in Parquet files.

use super::cells::{Builder, Values};
use crate::data::date::{date_of_day, date_of_second};
use crate::data::npy::half;
use crate::data::{Column, Frame};
use crate::{Error, Result};
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{DataType, Int96};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Reads the table of a file: numbers, booleans, decimals, texts, dates and times, alone, within structures (`place.x`)
/// or in lists of one length (`point.0`, `point.1`). Columns of anything else are named in the notes.
pub(in crate::data) fn frame(path: &Path, file: File) -> Result<Frame> {
    // The reader panics on some damaged files.
    let read = catch_unwind(AssertUnwindSafe(|| read(path, file)));
    read.unwrap_or_else(|_| Err(damaged(path, &"its pages contradict each other")))
}

fn read(path: &Path, file: File) -> Result<Frame> {
    let reader = SerializedFileReader::new(file).map_err(|e| broken(path, &e))?;
    let metadata = reader.metadata().file_metadata();
    let rows = usize::try_from(metadata.num_rows()).map_err(|_| damaged(path, &"it has a negative number of rows"))?;
    let (mut columns, mut notes) = (Vec::new(), Vec::new());
    for (i, of) in metadata.schema_descr().columns().iter().enumerate() {
        let name = name(of);
        if is_index(&name) {
            notes.push(format!("`{name}` numbers the rows, as pandas does: it is not read"));
            continue;
        }
        let unread = |why: &str| format!("`{name}` {why}: it is not read");
        let Some(kind) = Kind::of(of) else {
            notes.push(unread("holds neither numbers nor words"));
            continue;
        };
        let mut builder = Builder::default();
        for group in 0..reader.num_row_groups() {
            let column = reader.get_row_group(group).and_then(|group| group.get_column_reader(i));
            let column = column.map_err(|e| broken(path, &e))?;
            kind.read(column, of, &mut builder).map_err(|e| broken(path, &e))?;
        }
        match builder.finish(rows) {
            Some(Values::Single(cells)) => columns.push(Column { name: Some(name), cells }),
            Some(Values::Lists(lists)) => {
                let named = |(j, cells)| Column { name: Some(format!("{name}.{j}")), cells };
                columns.extend(lists.into_iter().enumerate().map(named));
            }
            Some(Values::Bytes) => notes.push(unread("holds bytes that are no text")),
            Some(Values::Ragged) => notes.push(unread("holds lists of different lengths")),
            None => return Err(damaged(path, &format!("`{name}` has not as many rows as the file"))),
        }
    }
    Ok(Frame { columns, notes, ..Frame::default() })
}

/// Whether pandas has given this name to the index of a table.
pub(super) fn is_index(name: &str) -> bool {
    name.strip_prefix("__index_level_").and_then(|rest| rest.strip_suffix("__")).is_some()
}

/// The names of the nested fields, without those that lists have between them and their elements.
fn name(of: &ColumnDescriptor) -> String {
    let parts = of.path().parts();
    let own = |i: &usize| {
        let of_list = matches!(parts[*i].as_str(), "list" | "element" | "item" | "array" | "bag");
        *i == 0 || !(of_list && of.max_rep_level() > 0)
    };
    (0..parts.len()).filter(own).map(|i| parts[i].as_str()).collect::<Vec<_>>().join(".")
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::file(path, format_args!("cannot be read as a Parquet file ({why}); fetch it again"))
}

fn broken(path: &Path, error: &ParquetError) -> Error {
    if error.to_string().contains("Disabled feature") {
        let remedy = "save it otherwise, as by pandas: frame.to_parquet(path, compression=\"zstd\")";
        return Error::file(path, format_args!("is compressed by an unsupported codec ({error}); {remedy}"));
    }
    damaged(path, error)
}

type Read = std::result::Result<(), ParquetError>;

/// What the stored values of a column stand for.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Unsigned,
    /// With this many digits behind the point.
    Decimal(i32),
    Half,
    Text,
    Date,
    /// Since the beginning of 1970, in units of which a second has this many.
    Timestamp(i64),
    /// Since midnight; likewise.
    TimeOfDay(i64),
}

impl Kind {
    fn of(column: &ColumnDescriptor) -> Option<Self> {
        let per_second = |unit: &TimeUnit| match unit {
            TimeUnit::MILLIS => 1000,
            TimeUnit::MICROS => 1_000_000,
            TimeUnit::NANOS => 1_000_000_000,
        };
        Some(match column.logical_type_ref() {
            Some(LogicalType::String | LogicalType::Enum | LogicalType::Json) => Self::Text,
            Some(LogicalType::Decimal(decimal)) => Self::Decimal(decimal.scale),
            Some(LogicalType::Date) => Self::Date,
            Some(LogicalType::Timestamp(of)) => Self::Timestamp(per_second(&of.unit)),
            Some(LogicalType::Time(of)) => Self::TimeOfDay(per_second(&of.unit)),
            Some(LogicalType::Integer(of)) if !of.is_signed => Self::Unsigned,
            Some(LogicalType::Integer(_) | LogicalType::Unknown) => Self::Number,
            Some(LogicalType::Float16) => Self::Half,
            Some(_) => return None,
            None => match column.converted_type() {
                ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON => Self::Text,
                ConvertedType::DECIMAL => Self::Decimal(column.type_scale()),
                ConvertedType::DATE => Self::Date,
                ConvertedType::TIMESTAMP_MILLIS => Self::Timestamp(1000),
                ConvertedType::TIMESTAMP_MICROS => Self::Timestamp(1_000_000),
                ConvertedType::TIME_MILLIS => Self::TimeOfDay(1000),
                ConvertedType::TIME_MICROS => Self::TimeOfDay(1_000_000),
                ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64 => {
                    Self::Unsigned
                }
                ConvertedType::INTERVAL | ConvertedType::BSON => return None,
                _ => match column.physical_type() {
                    Physical::BYTE_ARRAY => Self::Text,
                    Physical::FIXED_LEN_BYTE_ARRAY => return None,
                    _ => Self::Number,
                },
            },
        })
    }

    /// Reads the values of one row group.
    fn read(self, column: ColumnReader, of: &ColumnDescriptor, to: &mut Builder) -> Read {
        match column {
            ColumnReader::BoolColumnReader(column) => {
                each(column, of, to, |to, value| to.number(value.map(|&value| f64::from(u8::from(value)))))
            }
            ColumnReader::Int32ColumnReader(column) => each(column, of, to, |to, value| match self {
                Self::Unsigned => to.number(value.map(|&value| f64::from(value as u32))),
                _ => self.integer(to, value.map(|&value| value.into())),
            }),
            ColumnReader::Int64ColumnReader(column) => each(column, of, to, |to, value| match self {
                Self::Unsigned => to.number(value.map(|&value| value as u64 as f64)),
                _ => self.integer(to, value.copied()),
            }),
            ColumnReader::Int96ColumnReader(column) => each(column, of, to, |to, value| {
                to.text(value.map(of_julian_day).as_deref());
            }),
            ColumnReader::FloatColumnReader(column) => {
                each(column, of, to, |to, value| to.number(value.map(|&value| value.into())))
            }
            ColumnReader::DoubleColumnReader(column) => each(column, of, to, |to, value| to.number(value.copied())),
            ColumnReader::ByteArrayColumnReader(column) => {
                each(column, of, to, |to, value| self.bytes(to, value.map(|value| value.data())))
            }
            ColumnReader::FixedLenByteArrayColumnReader(column) => {
                each(column, of, to, |to, value| self.bytes(to, value.map(|value| value.data())))
            }
        }
    }

    fn integer(self, to: &mut Builder, value: Option<i64>) {
        match self {
            Self::Decimal(scale) => to.number(value.map(|value| decimal(value.into(), scale))),
            Self::Date => to.text(value.map(date_of_day).as_deref()),
            Self::Timestamp(per_second) => to.text(value.map(|value| timestamp(value, per_second)).as_deref()),
            Self::TimeOfDay(per_second) => to.number(value.map(|value| value as f64 / per_second as f64)),
            _ => to.number(value.map(|value| value as f64)),
        }
    }

    fn bytes(self, to: &mut Builder, value: Option<&[u8]>) {
        match (self, value) {
            (Self::Decimal(scale), value) => {
                to.number(value.map(|bytes| big_endian(bytes).map_or(f64::NAN, |value| decimal(value, scale))))
            }
            (Self::Half, Some(&[low, high])) => to.number(Some(half(u16::from_le_bytes([low, high])))),
            (Self::Half, _) => to.number(None),
            (_, value) => to.bytes(value),
        }
    }
}

/// Calls `add` with each value of a column, none where it is missing.
fn each<T: DataType>(
    mut column: ColumnReaderImpl<T>,
    of: &ColumnDescriptor,
    to: &mut Builder,
    mut add: impl FnMut(&mut Builder, Option<&T::T>),
) -> Read {
    const ROWS: usize = 8192;
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        values.clear();
        definitions.clear();
        repetitions.clear();
        let (_, _, levels) = column.read_records(ROWS, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
        if levels == 0 {
            return Ok(());
        }
        let mut values = values.iter();
        for i in 0..levels {
            to.begin(of.max_rep_level() > 0, repetitions.get(i).is_none_or(|&level| level == 0));
            let known = definitions.get(i).is_none_or(|&level| level == of.max_def_level());
            add(to, if known { values.next() } else { None });
        }
    }
}

/// A number by its digits, of which `scale` are behind the point.
pub(super) fn decimal(digits: i128, scale: i32) -> f64 {
    format!("{digits}e{}", -scale).parse().unwrap_or(f64::NAN)
}

/// The integer in two's complement; none if it is too large.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|&byte| byte >= 128);
    let mut value = [if negative { 255 } else { 0 }; 16];
    value.get_mut(16_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(i128::from_be_bytes(value))
}

/// The time in units since the beginning of 1970, of which a second has `per_second`.
pub(super) fn timestamp(units: i64, per_second: i64) -> String {
    let nanoseconds = units.rem_euclid(per_second) * (1_000_000_000 / per_second);
    date_of_second(units.div_euclid(per_second), nanoseconds as u32)
}

/// The time that older programs write as nanoseconds of a Julian day.
fn of_julian_day(value: &Int96) -> String {
    let [low, high, day] = [0, 1, 2].map(|i| value.data().get(i).copied().unwrap_or(0));
    let nanoseconds = u64::from(high) << 32 | u64::from(low);
    let seconds = (i64::from(day) - 2_440_588) * 86_400 + (nanoseconds / 1_000_000_000) as i64;
    date_of_second(seconds, (nanoseconds % 1_000_000_000) as u32)
}
