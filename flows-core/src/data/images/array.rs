//! Arrays of numbers, as NumPy and MNIST's files hold them, as images and as classes.

use super::decode::{Decoded, planes};
use super::depth::{DARK, depth_of, eight_bits, scaled};
use super::labels::counted;
use super::{Fit, Images};
use crate::data::{Cells, npy};
use crate::{Error, Result};
use std::fmt::Display;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

const WANTED: &str = "save unsigned bytes of shape (N, H, W), (N, H, W, C) or (N, C, H, W), C being 1, 3 or 4 with opacity: \
                      np.save(path, images.astype(\"u1\"))";

/// An array.
#[derive(Clone)]
pub(super) struct Array {
    /// The file, for messages.
    pub path: PathBuf,
    /// The type of the numbers, as in NumPy: `|u1`.
    pub dtype: String,
    pub shape: Vec<usize>,
    /// Whether the first index varies fastest.
    pub fortran: bool,
    pub bytes: Vec<u8>,
}

/// The shape of the array in a `.npy` file.
pub(super) fn shape_of(path: &Path) -> Result<Vec<usize>> {
    let mut file = std::fs::File::open(path).map_err(|e| Error::file(path, format!("cannot be read ({e})")))?;
    Ok(npy::header(path, &mut file)?.0.shape)
}

/// Whether an array of this shape can only be one of images.
pub(super) fn is_of_images(shape: &[usize]) -> bool {
    layout(shape).is_some_and(|layout| layout != Layout::Flat)
}

/// The meaning of the dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// (N, H W) of squares.
    Flat,
    /// (N, H, W).
    Grey,
    /// (N, H, W, C).
    Last,
    /// (N, C, H, W).
    First,
}

fn layout(shape: &[usize]) -> Option<Layout> {
    match *shape {
        [_, pixels] if pixels > 1 && pixels.isqrt().pow(2) == pixels => Some(Layout::Flat),
        // One image in colours.
        [_, width, 3 | 4] if width > 4 => None,
        [_, _, _] => Some(Layout::Grey),
        [_, _, _, 1 | 3 | 4] => Some(Layout::Last),
        [_, 1 | 3 | 4, _, _] => Some(Layout::First),
        _ => None,
    }
}

impl Array {
    /// Reads the array in a `.npy` file of `length` bytes. Errors name `path`.
    pub fn of_npy(path: &Path, mut file: impl Read + Seek, length: u64) -> Result<Self> {
        let (header, start) = npy::header(path, &mut file)?;
        let unread = || bad(path, format!("holds numbers of type `{}`", header.dtype));
        let size = npy::size(&header.dtype).ok_or_else(unread)?;
        let size = header.count().checked_mul(size).filter(|&size| size as u64 <= length.saturating_sub(start));
        let mut bytes = vec![0; size.ok_or_else(|| bad(path, "is cut short"))?];
        file.read_exact(&mut bytes).map_err(|e| bad(path, format!("is cut short or damaged ({e})")))?;
        Ok(Self { path: path.into(), dtype: header.dtype, shape: header.shape, fortran: header.fortran, bytes })
    }

    /// Whether both hold the same numbers.
    pub fn is_same(&self, other: &Self) -> bool {
        let of = |array: &Self| (array.dtype.clone(), array.shape.clone(), array.fortran);
        of(self) == of(other) && self.bytes == other.bytes
    }

    /// The images, read with the depth and the background of `fit`, but not yet converted to its size.
    pub fn images(mut self, fit: &Fit) -> Result<Images> {
        let path = self.path.clone();
        if self.shape.contains(&0) {
            return Err(bad(&path, format!("has shape {:?}, of no images", self.shape)));
        }
        let layout = layout(&self.shape).ok_or_else(|| bad(&path, format!("has shape {:?}", self.shape)))?;
        let (values, mut notes, depth) = self.colours(fit)?;
        let values = if self.fortran { by_last(&self.shape, &values) } else { values };
        let (channels, height, width) = match (layout, &self.shape[..]) {
            (Layout::Flat, &[_, pixels, ..]) => {
                let side = pixels.isqrt();
                notes.push(format!(
                    "{}: rows of {pixels} numbers are read as images of {side} x {side}; if they are of another shape, save \
                     it: array.reshape(-1, H, W)",
                    path.display()
                ));
                (1, side, side)
            }
            (Layout::Grey, &[_, height, width, ..]) => (1, height, width),
            (Layout::Last, &[_, height, width, channels, ..]) => (channels, height, width),
            (_, &[_, channels, height, width, ..]) => (channels, height, width),
            _ => return Err(bad(&path, format!("has shape {:?}", self.shape))),
        };
        let each = (channels * height * width).max(1);
        let mut blended = Decoded::default();
        let (colours, values): (usize, Vec<u8>) = match (layout, channels) {
            (Layout::First, 4) => {
                // Interleaved, which is what this is in planes of pixels.
                let pixels = |image: &[u8]| blended.opaque(4, &planes(height * width, image), fit);
                (3, values.chunks(each).map(pixels).flat_map(|image| planes(3, &image)).collect())
            }
            (Layout::Last, 4) => {
                let pixels = |image: &[u8]| blended.opaque(4, image, fit);
                (3, values.chunks(each).map(pixels).flat_map(|image| planes(3, &image)).collect())
            }
            (Layout::Last, 3) => (3, values.chunks(each).flat_map(|image| planes(3, image)).collect()),
            _ => (channels, values),
        };
        if blended.transparent && fit.background.is_none() {
            notes.push(format!(
                "{}: images are transparent in places, where they are given a background: --background white or black \
                 decides which",
                path.display()
            ));
        }
        let images = Images::new([colours, height, width], values).map_err(|e| Error::file(&path, e))?;
        Ok(Images { notes, depth, size: Some([height, width]), ..images })
    }

    /// The colours in 8 bits, in the order of the file; what was assumed; and the depth of numbers wider than a byte.
    fn colours(&mut self, fit: &Fit) -> Result<(Vec<u8>, Vec<String>, Option<u32>)> {
        let (path, mut notes) = (self.path.clone(), Vec::new());
        let black = |greatest: f64| {
            (greatest == 1.0).then(|| {
                format!(
                    "{}: all colours are 0 or 1 of 255, nearly black; if they stand for black and white, save booleans: \
                     array.astype(bool)",
                    path.display()
                )
            })
        };
        let kind = self.dtype.trim_start_matches(['|', '<', '>', '=']);
        if kind == "u1" {
            notes.extend(black(self.bytes.iter().copied().max().unwrap_or(0).into()));
            return Ok((std::mem::take(&mut self.bytes), notes, None));
        }
        if kind == "b1" {
            return Ok((self.bytes.iter().map(|byte| if *byte == 0 { 0 } else { 255 }).collect(), notes, None));
        }
        let range = self.range()?;
        let whole = kind.starts_with(['i', 'u']) || (range.whole && range.greatest > 1.0);
        if range.least < 0.0 || range.greatest > 65_535.0 {
            let remedy = match range {
                Range { least: -1.0..0.0, greatest: ..=1.0, .. } => "save ((array + 1) * 127.5).round().astype(\"u1\")",
                _ => "scale them to 0 to 255 and save unsigned bytes: array.astype(\"u1\")",
            };
            let ends = format!("{} to {}", range.least, range.greatest);
            return Err(Error::file(&path, format!("has colours of {ends}; {remedy}")));
        }
        if !whole && range.greatest <= 1.0 {
            return Ok((self.each(|value| (255.0 * value).round() as u8)?, notes, None));
        }
        if !whole && range.greatest > 255.0 {
            let remedy = "scale them to 0 to 1, or save unsigned bytes: array.astype(\"u1\")";
            return Err(Error::file(
                &path,
                format!("has colours of up to {} with fractions; {remedy}", range.greatest),
            ));
        }
        if range.greatest <= 255.0 && fit.depth.is_none_or(|depth| depth == 8) {
            if !whole {
                notes.push(format!("{}: colours with fractions are rounded to whole ones of 0 to 255", path.display()));
            }
            notes.extend(black(range.greatest).filter(|_| whole));
            return Ok((self.each(|value| value.round() as u8)?, notes, Some(8)));
        }
        let greatest = range.greatest as u32;
        let bits = fit.depth.or(depth_of(greatest)).unwrap_or(16);
        scaled(greatest, bits).map_err(|e| Error::file(&path, e))?;
        if fit.depth.is_none() && bits < 16 {
            notes.push(format!(
                "{}: no colour is above {greatest}: they are read as of {bits} bits; {DARK}",
                path.display()
            ));
        }
        Ok((self.each(|value| eight_bits(value as u32, bits))?, notes, Some(bits)))
    }

    fn range(&self) -> Result<Range> {
        let mut range = Range { least: f64::INFINITY, greatest: f64::NEG_INFINITY, whole: true };
        self.numbers(|value| {
            if !value.is_finite() {
                return Err(Error::file(&self.path, format!("has a colour of {value}; save numbers of 0 to 255")));
            }
            range.least = range.least.min(value);
            range.greatest = range.greatest.max(value);
            range.whole &= value.fract() == 0.0;
            Ok(())
        })?;
        Ok(range)
    }

    fn each(&self, colour: impl Fn(f64) -> u8) -> Result<Vec<u8>> {
        let mut colours = Vec::with_capacity(self.shape.iter().product());
        self.numbers(|value| {
            colours.push(colour(value));
            Ok(())
        })?;
        Ok(colours)
    }

    /// Calls `take` with each number.
    fn numbers(&self, mut take: impl FnMut(f64) -> Result<()>) -> Result<()> {
        let unread = || bad(&self.path, format!("holds numbers of type `{}`", self.dtype));
        let size = npy::size(&self.dtype).ok_or_else(unread)?;
        // In pieces, as they take eight times the room of bytes.
        for bytes in self.bytes.chunks(size << 16) {
            let Some(Cells::Numbers(values)) = npy::cells(&self.dtype, bytes) else { return Err(unread()) };
            values.into_iter().try_for_each(&mut take)?;
        }
        Ok(())
    }

    /// Gives the images their classes, which are numbers or words, one for each.
    pub fn label(&self, images: Images, names: Option<Vec<(u32, String)>>) -> Result<Images> {
        let remedy = "give a class for each image, in their order";
        let count = match self.shape[..] {
            [count] | [count, 1] => count,
            ref shape => {
                let path = self.path.display();
                let mut images = images;
                images.notes.push(format!("{path}: labels of shape {shape:?} are no classes, and are not read"));
                return Ok(images);
            }
        };
        if count != images.len() {
            let message = format!("has {count} labels for {} images; {remedy}", images.len());
            return Err(Error::file(&self.path, message));
        }
        match npy::cells(&self.dtype, &self.bytes) {
            Some(Cells::Numbers(numbers)) => {
                let whole = |value: f64| match value {
                    0.0..65_536.0 if value.fract() == 0.0 => Ok(Some(value as u32)),
                    // Unknown.
                    -1.0 => Ok(None),
                    value => Err(Error::file(&self.path, format!("has a label of {value}; {remedy}: 0, 1, 2, ..."))),
                };
                images.numbered(&numbers.into_iter().map(whole).collect::<Result<Vec<_>>>()?, names)
            }
            Some(Cells::Words { words, codes, .. }) => {
                let mut classes: Vec<String> = words.clone();
                classes.sort();
                let place = |code: Option<u32>| {
                    let word = code.map(|code| &words[code as usize]);
                    word.and_then(|word| classes.binary_search(word).ok()).map(|place| place as u32)
                };
                images.numbered(&codes.into_iter().map(place).collect::<Vec<_>>(), Some(counted(classes.clone())))
            }
            None => Err(Error::file(&self.path, format!("holds labels of type `{}`; {remedy}", self.dtype))),
        }
    }
}

/// The range of numbers, and whether all are whole.
struct Range {
    least: f64,
    greatest: f64,
    whole: bool,
}

/// The values of an array whose first index varies fastest, in the order in which the last does.
fn by_last(shape: &[usize], values: &[u8]) -> Vec<u8> {
    let mut index = vec![0; shape.len()];
    let mut ordered = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        let place = |(place, stride), (at, length): (&usize, &usize)| (place + at * stride, stride * length);
        ordered.push(values[index.iter().zip(shape).fold((0, 1), place).0]);
        for (at, length) in index.iter_mut().zip(shape).rev() {
            *at = (*at + 1) % length;
            if *at > 0 {
                break;
            }
        }
    }
    ordered
}

fn bad(path: &Path, what: impl Display) -> Error {
    Error::file(path, format!("{what}; {WANTED}"))
}
