//! Data: 2-D densities, tables of numbers, images, splits and minibatches.

mod colours;
mod dataset;
mod density;
mod energy;
mod examples;
mod frame;
#[cfg(feature = "images")]
pub mod images;
mod npy;
mod schema;
mod shuffle;
mod source;
mod table;
mod text;
mod toy;

pub use colours::{dequantize, quantize, whole_colours};
pub use dataset::{Dataset, Proportions};
pub use energy::Energy;
pub use examples::Examples;
pub use frame::{Cells, Column, Frame};
pub use schema::{ColumnKind, ColumnSchema, Schema};
pub use shuffle::Shuffle;
pub use source::Source;
pub use table::{Table, read_frame, read_table, write_table};
pub use toy::Toy;
