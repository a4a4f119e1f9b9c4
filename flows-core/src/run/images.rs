//! Runs on images.

use super::{Saved, Settings, check_count, stream};
use crate::cli::{OutputArgs, SkipArgs};
use crate::data::images::{Fit, Framing, ImageSource, Images, Splits};
use crate::{Error, Result, Rng};

/// The random streams of a run on images, in the order in which they fork from its seed.
#[derive(Clone, Copy, Debug)]
pub enum ImageStream {
    /// The split of the images into parts.
    Data,
    /// The weights.
    Weights,
    /// The images that the model's statistics are fitted to, and their noise.
    First,
    /// The draws of the loss.
    Training,
    /// The samples in the picture.
    Picture,
    /// The noise of the images that are evaluated.
    Evaluation,
}

/// The settings of a run that determine its images.
#[derive(Clone, Copy, Debug)]
pub struct ImageData<'a> {
    /// Where they come from.
    pub source: &'a ImageSource,
    /// Their conversion to the model's size and channels.
    pub fit: &'a Fit,
    /// The number of images of all parts when the run began, if they come from files.
    pub count: Option<usize>,
    /// The seed of the run.
    pub seed: u64,
}

/// The settings of a run on images.
pub trait ImageSettings: Settings {
    /// The settings that determine the images.
    fn image_data(&self) -> ImageData<'_>;

    /// The generator of a stream.
    fn rng(&self, of: ImageStream) -> Rng {
        stream(self.image_data().seed, of as usize)
    }

    /// Loads the images in three parts, the same at every call; `skip` is called with the errors of skipped files.
    ///
    /// # Errors
    /// When they cannot be read, or their number has changed since the run began.
    fn load(&self, skip: Option<&mut dyn FnMut(Error)>) -> Result<Splits> {
        let ImageData { source, fit, count, .. } = self.image_data();
        let splits = source.load(fit, skip, &mut self.rng(ImageStream::Data))?;
        check_count(count, splits.count(), "image", source)?;
        Ok(splits)
    }

    /// The number of values of each test image before padding, see [`ImageSource::unpadded`].
    ///
    /// # Errors
    /// When the images cannot be read.
    fn unpadded(&self) -> Result<Option<usize>> {
        let ImageData { source, fit, .. } = self.image_data();
        source.unpadded(fit)
    }
}

/// Images to use with a saved model.
#[derive(Debug)]
pub struct FoundImages {
    /// The images, of the model's shape.
    pub images: Images,
    /// Their name for messages.
    pub name: String,
    /// The number of values of each before padding, see [`ImageSource::unpadded`].
    pub unpadded: Option<usize>,
}

impl<M> Saved<M> {
    /// The conversion of images to a model's `shape` (C, H, W), framed as in the run that trained it.
    ///
    /// # Errors
    /// Same as [`Self::settings`].
    pub fn fit<S: ImageSettings>(&self, shape: [usize; 3]) -> Result<Fit> {
        let framing = self.settings()?.map_or(Framing::Crop, |run: S| run.image_data().fit.framing);
        Ok(Fit::to(shape, framing))
    }

    /// The images that `data` names, converted to the model's `shape` (C, H, W), or the test images of the run that
    /// trained the model.
    ///
    /// # Errors
    /// When the images cannot be read, or none are named and the settings of the run are missing.
    pub fn images<S: ImageSettings>(
        &self,
        shape: [usize; 3],
        data: Option<&str>,
        skip: SkipArgs,
        output: OutputArgs,
    ) -> Result<FoundImages> {
        let Some(text) = data else {
            return self.of_run("test images", "--data", |run: S| {
                let images = skip.reading(output, |skip| run.load(skip))?.test;
                let name = format!("{} (test)", run.image_data().source);
                Ok(FoundImages { images, name, unpadded: run.unpadded()? })
            });
        };
        let (source, fit): (ImageSource, _) = (text.parse()?, self.fit::<S>(shape)?);
        let unpadded = source.unpadded(&fit)?;
        let images = skip.reading(output, |skip| source.test(&fit, skip))?;
        Ok(FoundImages { images, name: text.into(), unpadded })
    }
}
