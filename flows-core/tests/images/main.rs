//! Images and the files they come from.

mod bad;
mod parquet;
mod sources;
