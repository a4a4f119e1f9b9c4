//! Data: 2-D densities, tables of numbers, images, splits and minibatches.

mod archive;
mod coding;
mod colours;
mod dataset;
mod date;
mod density;
mod energy;
mod examples;
mod format;
mod frame;
mod hash;
#[cfg(feature = "images")]
pub mod images;
mod kinds;
mod npy;
mod odd;
mod parts;
mod schema;
mod shards;
mod shuffle;
mod source;
mod table;
#[cfg(feature = "tables")]
mod tables;
mod text;
mod toy;
mod words;

pub(crate) use coding::product;
pub use colours::{dequantize, quantize, whole_colours};
pub use dataset::{Dataset, Proportions};
pub use date::{date, days};
pub use energy::Energy;
pub use examples::Examples;
pub(crate) use examples::columns;
pub use frame::{Cells, Column, Frame};
pub use hash::Hash;
pub use kinds::{Kinds, Missing};
#[cfg(feature = "cli")]
pub(crate) use odd::short;
pub use parts::Frames;
#[cfg(feature = "hub")]
pub(crate) use parts::names;
pub use schema::{ColumnKind, ColumnSchema, Schema};
pub use shuffle::Shuffle;
pub use source::Source;
#[cfg(feature = "cli")]
pub(crate) use table::is_array;
pub use table::{Table, read_frame, read_frames, read_table, write_frame, write_table};
pub use toy::Toy;
