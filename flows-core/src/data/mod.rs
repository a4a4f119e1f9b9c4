//! What a model learns from: 2-D densities, tables of numbers, splits and minibatches.

mod batches;
mod csv;
mod dataset;
mod density;
mod energy;
mod npy;
mod scaling;
mod source;
mod table;
mod toy;

pub use batches::{Batches, Position};
pub use dataset::{Dataset, Examples, Proportions};
pub use energy::Energy;
pub use scaling::Scaling;
pub use source::Source;
pub use table::{Table, read_table, write_table};
pub use toy::Toy;
