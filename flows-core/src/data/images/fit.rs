//! Conversion of images to the size and channels of a model.

use super::depth::DEPTHS;
use crate::{Error, Result};
use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma};
use serde::{Deserialize, Serialize};

/// The largest number of pixels that an image is scaled to before cropping.
const MOST: u64 = 1 << 26;

/// How an image of another size is brought to the target size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// Scaled to cover the frame, then cropped to its centre.
    #[default]
    Crop,
    /// Centred on black; a larger image is refused.
    Pad,
}

/// What is behind transparent pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Background {
    /// White, as paper.
    White,
    /// Black.
    Black,
}

impl Background {
    /// Its colour.
    pub(super) fn value(self) -> u8 {
        if self == Self::White { 255 } else { 0 }
    }
}

/// The size and channels that images are converted to, and how their values are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fit {
    /// Height and width; unchanged if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// How images are brought to that size.
    pub framing: Framing,
    /// Whether colours are converted to one grey channel.
    pub grey: bool,
    /// Whether grey images are given three channels, as they are anyway among images in colour.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub colour: bool,
    /// What is behind transparent pixels; white if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<Background>,
    /// The bits that values of 16 bits use: 8, 10, 12, 14 or 16; by default as many as the images need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
    /// Whether rows and columns are exchanged; by default only those of EMNIST's files are, which hold them so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transpose: Option<bool>,
}

impl Fit {
    /// The conversion to a model's shape (C, H, W).
    pub fn to([channels, height, width]: [usize; 3], framing: Framing) -> Self {
        Self { size: Some([height, width]), framing, grey: channels == 1, colour: channels == 3, ..Self::default() }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// When a side is 0 or above 8,192, images are to be both grey and in colour, or the depth is none.
    pub fn check(&self) -> Result<()> {
        if self.grey && self.colour {
            return Err(Error::Config("images are to be both `grey` and in `colour`: omit one".into()));
        }
        if let Some(depth) = self.depth.filter(|depth| !DEPTHS.contains(depth)) {
            return Err(Error::Config(format!("a `depth` of {depth} bits: give 8, 10, 12, 14 or 16")));
        }
        match self.size {
            Some([height, width]) if ![height, width].iter().all(|side| (1..=8192).contains(side)) => {
                Err(Error::Config(format!("a `size` of {height} x {width} for images: give sides of 1 to 8192")))
            }
            _ => Ok(()),
        }
    }

    /// Converts the `values` of an image of this `shape` (C, H, W), and returns the new shape and values.
    ///
    /// # Errors
    /// When the image is too large to pad or too elongated to crop.
    pub fn apply(&self, shape: [usize; 3], values: Vec<u8>) -> Result<([usize; 3], Vec<u8>)> {
        let (shape, values) = match self.transpose {
            Some(true) => transposed(shape, &values),
            _ => (shape, values),
        };
        let [channels, height, width] = shape;
        let (channels, values) = match channels {
            3 if self.grey => (1, grey(&values)),
            1 if self.colour => (3, values.repeat(3)),
            _ => (channels, values),
        };
        let to = match self.size {
            Some(to) if to != [height, width] => to,
            _ => return Ok(([channels, height, width], values)),
        };
        let values = match self.framing {
            Framing::Pad => pad([channels, height, width], &values, to)?,
            Framing::Crop => crop([channels, height, width], &values, to)?,
        };
        Ok(([channels, to[0], to[1]], values))
    }
}

/// An image with rows and columns exchanged.
pub(super) fn transposed([channels, height, width]: [usize; 3], values: &[u8]) -> ([usize; 3], Vec<u8>) {
    let plane =
        |plane: &[u8]| -> Vec<u8> { (0..width).flat_map(|x| plane[x..].iter().step_by(width).copied()).collect() };
    let values = values.chunks((height * width).max(1)).flat_map(plane).collect();
    ([channels, width, height], values)
}

/// The luminance of red, green and blue planes (ITU-R BT.709).
fn grey(values: &[u8]) -> Vec<u8> {
    let plane = values.len() / 3;
    let light = |i: usize| {
        let [r, g, b] = [values[i], values[plane + i], values[2 * plane + i]].map(f64::from);
        (0.2126 * r + 0.7152 * g + 0.0722 * b).round() as u8
    };
    (0..plane).map(light).collect()
}

fn pad([channels, height, width]: [usize; 3], values: &[u8], to: [usize; 2]) -> Result<Vec<u8>> {
    if height > to[0] || width > to[1] {
        return Err(Error::Data(format!(
            "an image of {height} x {width} does not fit into {} x {}: choose a larger `size`, or the framing `crop`",
            to[0], to[1]
        )));
    }
    let (top, left) = ((to[0] - height) / 2, (to[1] - width) / 2);
    let mut framed = vec![0; channels * to[0] * to[1]];
    for (i, row) in values.chunks(width).enumerate() {
        let start = (i / height * to[0] + top + i % height) * to[1] + left;
        framed[start..start + width].copy_from_slice(row);
    }
    Ok(framed)
}

fn crop(shape: [usize; 3], values: &[u8], to: [usize; 2]) -> Result<Vec<u8>> {
    let [channels, height, width] = shape;
    let scale = (to[0] as f64 / height as f64).max(to[1] as f64 / width as f64);
    let scaled = [height, width].map(|side| (side as f64 * scale).round() as u32);
    let scaled = [scaled[0].max(to[0] as u32), scaled[1].max(to[1] as u32)];
    if u64::from(scaled[0]) * u64::from(scaled[1]) > MOST {
        let message = format!("an image of {height} x {width} is too elongated to fill {} x {}", to[0], to[1]);
        return Err(Error::Data(format!("{message}: crop it or remove it")));
    }
    let (top, left) = ((scaled[0] as usize - to[0]) / 2, (scaled[1] as usize - to[1]) / 2);
    let mut cropped = Vec::with_capacity(channels * to[0] * to[1]);
    for plane in values.chunks(height * width) {
        let plane = ImageBuffer::<Luma<u8>, _>::from_raw(width as u32, height as u32, plane.to_vec());
        let plane =
            plane.ok_or_else(|| Error::Data(format!("{} values do not make an image of {shape:?}", values.len())))?;
        let plane = resize(&plane, scaled[1], scaled[0], FilterType::Lanczos3).into_raw();
        let rows = plane.chunks(scaled[1] as usize).skip(top).take(to[0]);
        rows.for_each(|row| cropped.extend_from_slice(&row[left..left + to[1]]));
    }
    Ok(cropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_brought_to_size() -> Result<()> {
        let fit = |size, framing, grey| Fit { size: Some(size), framing, grey, ..Fit::default() };
        let image: Vec<u8> = vec![10, 20, 30, 40, 50, 60];
        let (shape, padded) = fit([4, 5], Framing::Pad, false).apply([1, 2, 3], image.clone())?;
        assert_eq!(shape, [1, 4, 5]);
        assert_eq!(padded[6..9], [10, 20, 30]);
        assert_eq!(padded[11..14], [40, 50, 60]);
        assert_eq!(padded.iter().map(|v| usize::from(*v)).sum::<usize>(), 210);
        assert!(fit([1, 5], Framing::Pad, false).apply([1, 2, 3], image.clone()).is_err());
        // The centre of a wide image, in each plane.
        let (shape, cropped) =
            fit([2, 1], Framing::Crop, false).apply([2, 2, 3], [image.clone(), vec![7; 6]].concat())?;
        assert_eq!((shape, cropped), ([2, 2, 1], vec![20, 50, 7, 7]));
        let (_, grey) = fit([2, 1], Framing::Crop, true).apply([3, 2, 1], vec![255, 0, 255, 0, 255, 100])?;
        assert_eq!(grey, [255, 7]);
        let turned = Fit { transpose: Some(true), ..Fit::default() }.apply([1, 2, 3], image.clone())?;
        assert_eq!(turned, ([1, 3, 2], vec![10, 40, 20, 50, 30, 60]));
        assert_eq!(fit([8, 8], Framing::Crop, false).apply([1, 2, 3], vec![9; 6])?, ([1, 8, 8], vec![9; 64]));
        let long = fit([32, 32], Framing::Crop, false).apply([1, 1, 100_000], vec![9; 100_000]);
        assert!(long.unwrap_err().to_string().contains("crop it"));
        Ok(())
    }
}
