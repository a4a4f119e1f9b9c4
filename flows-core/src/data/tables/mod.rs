//! Formats of tables that need crates of their own.

mod cells;
pub(super) mod parquet;

#[cfg(test)]
mod tests;
