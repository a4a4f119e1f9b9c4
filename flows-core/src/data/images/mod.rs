//! Images to learn from: digits drawn and written by hand, folders, IDX files, NumPy arrays and Parquet files.

mod decode;
mod digits;
mod files;
mod fit;
mod folder;
mod idx;
mod npy;
mod parquet;
mod scale;
mod source;
mod uci_digits;
mod warp;

pub use decode::read_image;
pub use digits::drawn_digits;
pub use files::{image_files, read_fitted};
pub use fit::{Fit, Framing};
pub use folder::is_image;
pub use scale::{Enlarging, enlarge, shrink};
pub use source::{ImageSource, Splits};
pub use uci_digits::uci_digits;
pub use warp::Warp;

use crate::{Error, Result, Rng};
use candle_core::{Device, Tensor};

/// Images of one shape as whole colours 0 to 255, with their classes if they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    shape: [usize; 3],
    values: Vec<u8>,
    labels: Option<Vec<u32>>,
    /// The names of the classes.
    pub classes: Vec<String>,
    /// The names of the files, if each image has its own.
    names: Option<Vec<String>>,
}

impl Images {
    /// Images of `shape` (C, H, W), one after another in `values`, without classes.
    ///
    /// # Errors
    /// When the values are not those of at least one whole image.
    pub fn new(shape: [usize; 3], values: Vec<u8>) -> Result<Self> {
        let each: usize = shape.iter().product();
        if each == 0 || values.is_empty() || !values.len().is_multiple_of(each) {
            return Err(Error::Data(format!("{} colours are no images of {shape:?}: give at least one", values.len())));
        }
        Ok(Self { shape, values, labels: None, classes: Vec::new(), names: None })
    }

    /// The same with a class for each image.
    ///
    /// # Errors
    /// When there are not as many, or one has no name.
    pub fn with_labels(self, labels: Vec<u32>, classes: Vec<String>) -> Result<Self> {
        if labels.len() != self.len() || labels.iter().any(|label| *label as usize >= classes.len()) {
            let message = format!("{} labels of {} classes for {} images", labels.len(), classes.len(), self.len());
            return Err(Error::Data(format!("{message}: give one of the classes for each")));
        }
        Ok(Self { labels: Some(labels), classes, ..self })
    }

    /// What to call an image: its file, or its number from 0.
    pub fn name(&self, index: usize) -> String {
        self.names.as_ref().and_then(|names| names.get(index).cloned()).unwrap_or_else(|| index.to_string())
    }

    /// Channels, height and width.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.each()
    }

    /// Whether there are none, which is never so.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The class of each image, if it is known.
    pub fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    fn each(&self) -> usize {
        self.shape.iter().product()
    }

    /// The colours of image `index`, (C, H, W).
    pub fn image(&self, index: usize) -> &[u8] {
        &self.values[index * self.each()..(index + 1) * self.each()]
    }

    /// These images, (B, C, H, W) as u8, those that `flipped` says mirrored.
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

    /// These images for a step of training, (B, C, H, W) as u8: mirrored at random if `flip`, then each warped by a
    /// map of its own.
    ///
    /// # Errors
    /// Same as [`Self::tensor`].
    pub fn augmented(&self, indices: &[u32], flip: bool, warp: &Warp, rng: &mut Rng) -> Result<Tensor> {
        let images = self.tensor(indices, || flip && rng.uniform() < 0.5)?;
        if warp.is_identity() {
            return Ok(images);
        }
        let values = images.flatten_all()?.to_vec1::<u8>()?;
        let warped: Vec<u8> = values.chunks(self.each()).flat_map(|image| warp.apply(self.shape, image, rng)).collect();
        Ok(Tensor::from_vec(warped, images.shape(), &Device::Cpu)?)
    }

    /// The same with the numbers that these classes have in `names`; as they are without classes.
    ///
    /// # Errors
    /// When a class is not among them.
    pub fn named(self, names: &[String]) -> Result<Self> {
        let Some(labels) = self.labels.as_ref().filter(|_| self.classes != names) else { return Ok(self) };
        let place = |class: &String| {
            names.iter().position(|name| name == class).map(|place| place as u32).ok_or_else(|| {
                let (got, known) = (self.classes.join("`, `"), names.join("`, `"));
                Error::Data(format!("the images are of the classes `{got}`, but the model knows `{known}`"))
            })
        };
        let places = self.classes.iter().map(place).collect::<Result<Vec<_>>>()?;
        let labels = labels.iter().map(|&label| places[label as usize]).collect();
        Ok(Self { labels: Some(labels), classes: names.to_vec(), ..self })
    }

    /// The classes of these images as a context, (B, 1) of u32.
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

    /// Some of them, in this order.
    fn select(&self, indices: &[u32]) -> Self {
        let values = indices.iter().flat_map(|&i| self.image(i as usize)).copied().collect();
        let labels = self.labels.as_ref().map(|labels| indices.iter().map(|&i| labels[i as usize]).collect());
        let names = self.names.as_ref().map(|names| indices.iter().map(|&i| names[i as usize].clone()).collect());
        Self { shape: self.shape, values, labels, classes: self.classes.clone(), names }
    }

    /// Every image, as `fit` wants it.
    fn fitted(self, fit: &Fit) -> Result<Self> {
        let mut shape = self.shape;
        let mut values = Vec::new();
        for i in 0..self.len() {
            let (to, image) = fit.apply(self.shape, self.image(i).to_vec())?;
            shape = to;
            values.extend(image);
        }
        Ok(Self { shape, values, ..self })
    }
}
