//! Audio to train on: clips in three parts, and segments of them.

mod clips;
mod plucks;
mod segments;
mod source;

pub use clips::{Clips, Splits};
pub use plucks::plucks;
pub use segments::Segments;
pub(crate) use segments::with_noise;
pub use source::AudioSource;
