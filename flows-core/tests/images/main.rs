//! Images and the files they come from.

mod bad;
mod files;
mod layouts;
mod parquet;
mod sources;
