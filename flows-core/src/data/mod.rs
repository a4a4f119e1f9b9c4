//! What a model learns from: 2-D densities, tables of numbers, splits and minibatches.

mod csv;
mod density;
mod files;
mod npy;
mod table;
mod toy;

pub use files::write_atomically;
pub use table::{Table, read_table, write_table};
pub use toy::Toy;
