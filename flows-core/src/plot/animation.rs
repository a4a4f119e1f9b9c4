//! Animated GIF files.

use crate::files::write_atomically;
use crate::{Error, Result};
use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, DynamicImage, Frame, ImageError, RgbImage};
use std::io::BufWriter;
use std::path::Path;
use std::time::Duration;

/// Writes frames, each with its duration, as an endlessly looping GIF file, atomically.
///
/// # Errors
/// When a frame is an error, or the file cannot be written.
pub fn write_gif(frames: impl IntoIterator<Item = Result<(RgbImage, Duration)>>, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    write_atomically(path, |file| {
        let cannot = |e: ImageError| Error::unwritten(path, e);
        let mut encoder = GifEncoder::new_with_speed(BufWriter::new(file), 10);
        encoder.set_repeat(Repeat::Infinite).map_err(cannot)?;
        for frame in frames {
            let (image, shown) = frame?;
            let image = DynamicImage::ImageRgb8(image).into_rgba8();
            let delay = Delay::from_saturating_duration(shown);
            encoder.encode_frame(Frame::from_parts(image, 0, 0, delay)).map_err(cannot)?;
        }
        Ok(())
    })
}
