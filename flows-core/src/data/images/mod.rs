//! Image data: synthetic and handwritten digits, folders, IDX files, NumPy arrays, CSV and Parquet files.
//!
//! [`ImageSource`] names data, and holds out the parts that it lacks. Its layout says where the images of each part are:
//! by the names of files and folders, image files are sorted into parts and classes, arrays into parts with their labels,
//! and Parquet files into the shards of parts. Files are decoded and collected to images of one shape, arrays are scaled to
//! colours, and [`Splits`] makes the parts agree. Whatever is assumed or left unread on the way becomes a note.

mod array;
mod augmented;
mod collect;
mod columns;
mod csv;
mod decode;
mod depth;
mod digits;
mod files;
mod fit;
mod folder;
mod hub;
mod idx;
mod jpeg;
mod labels;
mod layout;
mod names;
mod parquet;
mod scale;
mod sets;
mod shards;
mod source;
mod splits;
mod tree;
mod uci_digits;
mod warp;

pub use augmented::Augmented;
pub use decode::{is_image, read_image};
pub use digits::drawn_digits;
pub use files::{image_files, read_files};
pub use fit::{Background, Fit, Framing};
pub use scale::{Enlarging, enlarge, shrink};
pub use source::ImageSource;
pub use splits::Splits;
pub use uci_digits::uci_digits;
pub use warp::Warp;

use crate::{Error, Result, Rng};
use candle_core::{Device, Tensor};

/// Images of one shape with integer values 0 to 255, and their classes if known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    shape: [usize; 3],
    values: Vec<u8>,
    labels: Option<Vec<u32>>,
    /// The names of the classes.
    pub classes: Vec<String>,
    /// The names of the files, if each image has its own.
    names: Option<Vec<String>>,
    /// What was assumed in reading them, and what was not read.
    pub notes: Vec<String>,
    /// The bits of the values, if they had more than 8 each in their files.
    depth: Option<u32>,
    /// Height and width of each in its file, if all are of one.
    size: Option<[usize; 2]>,
    /// The number of values of each before it was padded, if all had as many.
    unpadded: Option<usize>,
}

impl Images {
    /// Images of `shape` (C, H, W), concatenated in `values`, without classes.
    ///
    /// # Errors
    /// When `values` does not consist of at least one whole image.
    pub fn new(shape: [usize; 3], values: Vec<u8>) -> Result<Self> {
        let each = shape.iter().try_fold(1, |each: usize, side| each.checked_mul(*side)).unwrap_or(0);
        if each == 0 || values.is_empty() || !values.len().is_multiple_of(each) {
            let message =
                format!("{} values do not make images of {shape:?}: give at least one whole image", values.len());
            return Err(Error::Data(message));
        }
        let size = Some([shape[1], shape[2]]);
        let (classes, notes) = (Vec::new(), Vec::new());
        Ok(Self { shape, values, labels: None, classes, names: None, notes, depth: None, size, unpadded: None })
    }

    /// Sets the class of each image, an index into `classes`.
    ///
    /// # Errors
    /// When the number of labels is not that of the images, or a label is not an index into `classes`.
    pub fn with_labels(self, labels: Vec<u32>, classes: Vec<String>) -> Result<Self> {
        if labels.len() != self.len() || labels.iter().any(|label| *label as usize >= classes.len()) {
            let message = format!("{} labels of {} classes for {} images", labels.len(), classes.len(), self.len());
            return Err(Error::Data(format!("{message}: give one of the classes for each")));
        }
        Ok(Self { labels: Some(labels), classes, ..self })
    }

    /// The name of an image: its file, or its index from 0.
    pub fn name(&self, index: usize) -> String {
        self.names.as_ref().and_then(|names| names.get(index).cloned()).unwrap_or_else(|| index.to_string())
    }

    /// Channels, height and width.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.values.len() / self.each()
    }

    /// Whether there are no images, which is never the case.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The class of each image, if known.
    pub fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    /// The number of values that each image had before it was padded; none if they were not padded, or differ in it.
    pub fn unpadded(&self) -> Option<usize> {
        self.unpadded
    }

    fn each(&self) -> usize {
        self.shape.iter().product()
    }

    /// The values of image `index`, (C, H, W).
    pub fn image(&self, index: usize) -> &[u8] {
        &self.values[index * self.each()..(index + 1) * self.each()]
    }

    /// The images at `indices`, (B, C, H, W) as u8; `flipped` is called for each and says whether to mirror it.
    ///
    /// # Errors
    /// When an index is out of range.
    pub fn tensor(&self, indices: &[u32], mut flipped: impl FnMut() -> bool) -> Result<Tensor> {
        let mut values = Vec::with_capacity(indices.len() * self.each());
        for &index in indices {
            if index as usize >= self.len() {
                return Err(Error::Data(format!("there is no image {index} of {}", self.len())));
            }
            let image = self.image(index as usize);
            if flipped() {
                image.chunks(self.shape[2]).for_each(|row| values.extend(row.iter().rev()));
            } else {
                values.extend_from_slice(image);
            }
        }
        let [channels, height, width] = self.shape;
        Ok(Tensor::from_vec(values, (indices.len(), channels, height, width), &Device::Cpu)?)
    }

    /// The images at `indices`, augmented for a training step: mirrored at random if `flip`, then warped at random.
    pub fn augmented<'a>(&'a self, indices: &'a [u32], flip: bool, warp: &Warp, rng: &mut Rng) -> Augmented<'a> {
        let mirrored = indices.iter().map(|_| flip && rng.uniform() < 0.5).collect();
        let maps = if warp.is_identity() { Vec::new() } else { indices.iter().map(|_| warp.draw(rng)).collect() };
        Augmented { images: self, indices, mirrored, maps }
    }

    /// The indices of images drawn at random, to fit the statistics of a model to: `count` images of up to 32 x 32
    /// pixels, fewer of larger ones but at least 16; all images if there are not so many.
    pub fn subset(&self, count: usize, rng: &mut Rng) -> Vec<u32> {
        let [_, height, width] = self.shape;
        let count = (count * 1024 / (height * width)).clamp(16, count.max(16));
        rng.permutation(self.len()).into_iter().take(count).collect()
    }

    /// Renumbers the classes by their position in `names`; images without classes are unchanged.
    ///
    /// # Errors
    /// When a class is not in `names`.
    pub fn named(self, names: &[String]) -> Result<Self> {
        let Some(labels) = self.labels.as_ref().filter(|_| self.classes != names) else { return Ok(self) };
        let place = |class: &String| {
            names.iter().position(|name| name == class).map(|place| place as u32).ok_or_else(|| {
                let (got, known) = (self.classes.join("`, `"), names.join("`, `"));
                Error::Data(format!("the images have the classes `{got}`, but the model knows `{known}`"))
            })
        };
        let places = self.classes.iter().map(place).collect::<Result<Vec<_>>>()?;
        let labels = labels.iter().map(|&label| places[label as usize]).collect();
        Ok(Self { labels: Some(labels), classes: names.to_vec(), ..self })
    }

    /// The classes of the images at `indices` as a context, (B, 1) of u32.
    ///
    /// # Errors
    /// When they are not known.
    pub fn context(&self, indices: &[u32]) -> Result<Tensor> {
        let Some(labels) = &self.labels else {
            return Err(Error::Data("the images have no classes: give a folder with a sub-folder for each".into()));
        };
        let classes: Vec<u32> = indices.iter().filter_map(|i| labels.get(*i as usize).copied()).collect();
        Ok(Tensor::from_vec(classes, (indices.len(), 1), &Device::Cpu)?)
    }

    /// The images at `indices`, in that order, without notes.
    fn select(&self, indices: &[u32]) -> Self {
        let values = indices.iter().flat_map(|&i| self.image(i as usize)).copied().collect();
        let labels = self.labels.as_ref().map(|labels| indices.iter().map(|&i| labels[i as usize]).collect());
        let names = self.names.as_ref().map(|names| indices.iter().map(|&i| names[i as usize].clone()).collect());
        let (classes, notes) = (self.classes.clone(), Vec::new());
        Self { shape: self.shape, values, labels, classes, names, notes, ..*self }
    }

    /// Grey images with three equal channels.
    fn in_colour(self) -> Self {
        let [_, height, width] = self.shape;
        let values = self.values.chunks(height * width).flat_map(|grey| grey.repeat(3)).collect();
        Self { shape: [3, height, width], values, unpadded: self.unpadded.map(|values| 3 * values), ..self }
    }

    /// Converts every image by `fit`.
    fn fitted(self, fit: &Fit) -> Result<Self> {
        let mut shape = self.shape;
        let mut values = Vec::new();
        for i in 0..self.len() {
            let (to, image) = fit.apply(self.shape, self.image(i).to_vec())?;
            shape = to;
            values.extend(image);
        }
        Ok(Self { shape, values, ..self }.padded_by(fit))
    }

    /// Notes how many values each had, if `fit` has padded it.
    fn padded_by(self, fit: &Fit) -> Self {
        let padded = fit.framing == Framing::Pad && fit.size.is_some();
        let values = self.size.filter(|_| padded).map(|[height, width]| self.shape[0] * height * width);
        Self { unpadded: values, ..self }
    }
}
