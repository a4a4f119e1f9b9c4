//! Decoding of image files.

use super::depth::{eight_bits, scaled};
use super::fit::{Background, Fit};
use super::jpeg;
use crate::{Error, Result};
use image::codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder};
use image::{AnimationDecoder, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::catch_unwind;
use std::path::Path;

/// The largest file that is read, and the largest image in memory, in bytes.
const MOST: u64 = 512 << 20;

/// Files of images that are read, by their extensions.
const READ: [&str; 17] = [
    "png", "apng", "jpg", "jpeg", "jpe", "jfif", "bmp", "dib", "gif", "webp", "pgm", "ppm", "pnm", "pbm", "tga", "tif",
    "tiff",
];

/// And those that are not.
const UNREAD: [&str; 18] = [
    "avif", "cr2", "dds", "dng", "exr", "hdr", "heic", "heif", "ico", "j2k", "jp2", "jxl", "nef", "pcx", "psd", "qoi",
    "raw", "svg",
];

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| extensions.contains(&extension.as_str()))
}

/// Whether a file is an image by its extension.
pub fn is_image(path: &Path) -> bool {
    has_extension(path, &READ)
}

/// Whether a file is an image of a format that is not read.
pub(super) fn is_unread(path: &Path) -> bool {
    has_extension(path, &UNREAD)
}

/// The extensions of images that are read, in words.
pub(super) fn extensions() -> String {
    READ.join(", ")
}

/// The pixels of one image, and what was done to get them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Decoded {
    /// Channels, height and width: 1 channel for grey, 3 for colours.
    pub shape: [usize; 3],
    /// The pixel values (C, H, W).
    pub values: Vec<u8>,
    /// The greatest value, if values have 16 bits.
    pub deepest: Option<u16>,
    /// Whether transparent pixels were blended with the background.
    pub transparent: bool,
    /// Whether the file has more images than this one, its first.
    pub several: bool,
    /// Whether it is a JPEG file that lacks the end-of-image marker, but whose image is complete.
    pub unended: bool,
}

/// Reads an image file as pixel values (C, H, W) and their shape, where C is 1 for grey files and 3 otherwise. The
/// image is turned upright as its EXIF orientation says, 16 bits are reduced to 8, transparent pixels are blended with
/// white, and of an animation or of several pages the first is read.
///
/// # Errors
/// When the file is missing, not an image, damaged, or would take more than 512 MiB.
pub fn read_image(path: &Path) -> Result<([usize; 3], Vec<u8>)> {
    let Decoded { shape, values, .. } = read(path, &Fit::default())?;
    Ok((shape, values))
}

/// Reads an image file with the depth and the background of `fit`.
pub(super) fn read(path: &Path, fit: &Fit) -> Result<Decoded> {
    if is_unread(path) {
        return Err(Error::file(path, "is of a format that is not read; save it as PNG or JPEG"));
    }
    let unreadable = |e: std::io::Error| match std::fs::read_link(path) {
        Ok(target) if e.kind() == std::io::ErrorKind::NotFound => {
            let target = target.display();
            Error::file(path, format!("is a link to `{target}`, which does not exist; restore it or remove the link"))
        }
        _ => Error::file(path, format!("cannot be read ({e}); restore or remove it")),
    };
    // To open a pipe would wait for whoever writes to it.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Error::file(path, "is no file; remove it"));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > MOST {
        return Err(Error::file(path, "is too large an image (over 512 MiB); scale it down or remove it"));
    }
    decode(path, &bytes, fit)
}

/// Decodes an image as [`read`] does; errors name `path`.
pub(super) fn decode(path: &Path, bytes: &[u8], fit: &Fit) -> Result<Decoded> {
    let decoded =
        catch_unwind(|| upright(path, bytes)).unwrap_or_else(|_| Err("its parts contradict each other".into()));
    let (image, found) = decoded.map_err(|what| match what {
        What::Large(e) => Error::file(path, format!("is too large an image ({e}); scale it down or remove it")),
        What::Damage(e) => Error::file(path, format!("cannot be read as an image ({e}); restore or remove it")),
    })?;
    let size = [image.height() as usize, image.width() as usize];
    if size.contains(&0) {
        return Err(Error::file(path, "is an image without pixels; restore or remove it"));
    }
    let mut decoded = found;
    let (channels, values) = samples(path, image, fit, &mut decoded)?;
    let (colours, values) = match channels {
        2 | 4 => (channels - 1, decoded.opaque(channels, &values, fit)),
        _ => (channels, values),
    };
    decoded.shape = [colours, size[0], size[1]];
    decoded.values = planes(colours, &values);
    Ok(decoded)
}

/// What is wrong with a file.
enum What {
    Large(String),
    Damage(String),
}

impl From<&str> for What {
    fn from(text: &str) -> Self {
        Self::Damage(text.into())
    }
}

impl From<ImageError> for What {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Limits(e) => Self::Large(e.to_string()),
            e => Self::Damage(e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")),
        }
    }
}

/// The image in these bytes, turned as its orientation says, and what was found besides.
fn upright(path: &Path, bytes: &[u8]) -> std::result::Result<(DynamicImage, Decoded), What> {
    let mut reader = ImageReader::new(Cursor::new(bytes));
    if let Ok(format) = ImageFormat::from_path(path) {
        reader.set_format(format);
    }
    // By its content: the extension may be wrong.
    let reader = reader.with_guessed_format().map_err(|e| What::Damage(e.to_string()))?;
    let format = reader.format();
    if format == Some(ImageFormat::Jpeg) {
        if let Some(fault) = jpeg::fault(bytes) {
            return Err(fault.into());
        }
        if !jpeg::has_end(bytes) {
            return match jpeg::with_ends(bytes).map(|both| both.map(|bytes| upright(path, &bytes))) {
                Some([Ok((image, found)), Ok((same, _))]) if image == same && !jpeg::has_filled_edge(&image) => {
                    Ok((image, Decoded { unended: true, ..found }))
                }
                _ => Err("it is cut short".into()),
            };
        }
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST);
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    let several = format.is_some_and(|format| has_several(format, bytes));
    Ok((image, Decoded { several, ..Decoded::default() }))
}

/// Whether a file of this format is an animation or has several pages.
fn has_several(format: ImageFormat, bytes: &[u8]) -> bool {
    let bytes = Cursor::new(bytes);
    match format {
        ImageFormat::Gif => GifDecoder::new(bytes).is_ok_and(|gif| gif.into_frames().nth(1).is_some()),
        ImageFormat::Png => PngDecoder::new(bytes).and_then(|png| png.is_apng()).unwrap_or(false),
        ImageFormat::WebP => WebPDecoder::new(bytes).is_ok_and(|webp| webp.has_animation()),
        ImageFormat::Tiff => second_page(bytes.into_inner()).unwrap_or(false),
        _ => false,
    }
}

/// Whether the first directory of a TIFF file names another (TIFF 6.0, section 2).
fn second_page(bytes: &[u8]) -> Option<bool> {
    let little = bytes.starts_with(b"II");
    let number = |at: usize, length: usize| {
        let digits = bytes.get(at..at.checked_add(length)?)?.iter();
        let add = |sum: usize, digit: &u8| sum << 8 | usize::from(*digit);
        Some(if little { digits.rev().fold(0, add) } else { digits.fold(0, add) })
    };
    // BigTIFF, which is of version 43, has longer numbers.
    if number(2, 2)? != 42 {
        return None;
    }
    let directory = number(4, 4)?;
    Some(number(directory + 2 + 12 * number(directory, 2)?, 4)? != 0)
}

/// The number of channels, alpha included, and the values of interleaved pixels in 8 bits.
fn samples(path: &Path, image: DynamicImage, fit: &Fit, decoded: &mut Decoded) -> Result<(usize, Vec<u8>)> {
    use DynamicImage as Of;
    let channels = usize::from(image.color().channel_count());
    let alpha = channels.is_multiple_of(2);
    let deep = match image {
        Of::ImageLuma8(image) => return Ok((channels, image.into_raw())),
        Of::ImageLumaA8(image) => return Ok((channels, image.into_raw())),
        Of::ImageRgb8(image) => return Ok((channels, image.into_raw())),
        Of::ImageRgba8(image) => return Ok((channels, image.into_raw())),
        Of::ImageLuma16(image) => image.into_raw(),
        Of::ImageLumaA16(image) => image.into_raw(),
        Of::ImageRgb16(image) => image.into_raw(),
        Of::ImageRgba16(image) => image.into_raw(),
        Of::ImageRgb32F(image) => return Ok((channels, unit(path, &image.into_raw())?)),
        Of::ImageRgba32F(image) => return Ok((channels, unit(path, &image.into_raw())?)),
        other => return Err(Error::file(path, format!("has pixels of {:?}, which are not read", other.color()))),
    };
    let is_alpha = |i: usize| alpha && i % channels == channels - 1;
    let colours = deep.iter().enumerate().filter(|(i, _)| !is_alpha(*i)).map(|(_, value)| *value);
    let greatest = colours.max().unwrap_or(0);
    decoded.deepest = Some(greatest);
    let bits = fit.depth.unwrap_or(16);
    scaled(greatest.into(), bits).map_err(|e| Error::file(path, e))?;
    let value = |(i, value): (usize, &u16)| eight_bits((*value).into(), if is_alpha(i) { 16 } else { bits });
    Ok((channels, deep.iter().enumerate().map(value).collect()))
}

/// Values of 0 to 1 in 8 bits.
fn unit(path: &Path, values: &[f32]) -> Result<Vec<u8>> {
    match values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
        Some(value) => {
            Err(Error::file(path, format!("has a colour of {value}; scale its floating-point colours to 0 to 1")))
        }
        None => Ok(values.iter().map(|value| (255.0 * value).round() as u8).collect()),
    }
}

impl Decoded {
    /// Interleaved pixels, whose last channel is the opacity, before the background.
    pub(super) fn opaque(&mut self, channels: usize, values: &[u8], fit: &Fit) -> Vec<u8> {
        let behind = u32::from(fit.background.unwrap_or(Background::White).value());
        let mut blended = Vec::with_capacity(values.len() / channels * (channels - 1));
        for pixel in values.chunks_exact(channels) {
            let alpha = u32::from(pixel[channels - 1]);
            self.transparent |= alpha < 255;
            let blend = |colour: &u8| ((u32::from(*colour) * alpha + behind * (255 - alpha) + 127) / 255) as u8;
            blended.extend(pixel[..channels - 1].iter().map(blend));
        }
        blended
    }
}

/// Converts interleaved pixels to planes.
pub(super) fn planes(channels: usize, values: &[u8]) -> Vec<u8> {
    (0..channels).flat_map(|channel| values[channel..].iter().step_by(channels).copied()).collect()
}
