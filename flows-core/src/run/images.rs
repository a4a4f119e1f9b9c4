//! Runs on images.

use super::{Rows, Saved, Settings, stream};
use crate::cli::{OutputArgs, SkipArgs, count};
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
    /// The images when the run began, if they come from files.
    pub images: Option<&'a Rows>,
    /// The seed of the run.
    pub seed: u64,
}

/// The settings of a run on images.
pub trait ImageSettings: Settings {
    /// The settings that determine the images.
    fn image_data(&self) -> ImageData<'_>;

    /// The settings that the images decide: what is remembered of them, and their depth.
    fn decided(&mut self) -> (&mut Option<Rows>, &mut Fit);

    /// The generator of a stream.
    fn rng(&self, of: ImageStream) -> Rng {
        stream(self.image_data().seed, of as usize)
    }

    /// Loads the images in three parts, the same at every call, and remembers them; `skip` is called with the errors of
    /// skipped files.
    ///
    /// # Errors
    /// When they cannot be read, or are not those of when the run began.
    fn load(&mut self, skip: Option<&mut dyn FnMut(Error)>) -> Result<Splits> {
        let ImageData { source, fit, images, .. } = self.image_data();
        let mut splits = source.load(fit, skip, &mut self.rng(ImageStream::Data))?;
        let known = Rows::of_images(&splits, source, images.cloned())?;
        if let (Some(Rows::Count(_)), true) = (&known, splits.test_held_out) {
            splits.train.notes.push(format!(
                "the run was begun by a version that used the `val` images for testing; they now serve for validation, and \
                 {} of the training images are held out for testing",
                count(splits.test.len())
            ));
        }
        let (images, fit) = self.decided();
        *images = known;
        fit.depth = fit.depth.or(splits.depth());
        Ok(splits)
    }
}

/// Images to use with a saved model.
#[derive(Debug)]
pub struct FoundImages {
    /// The images, of the model's shape.
    pub images: Images,
    /// Their name for messages.
    pub name: String,
}

impl<M> Saved<M> {
    /// The conversion of images to a model's `shape` (C, H, W), framed and read as in the run that trained it.
    ///
    /// # Errors
    /// Same as [`Self::settings`].
    pub fn fit<S: ImageSettings>(&self, shape: [usize; 3]) -> Result<Fit> {
        let own = Fit::to(shape, Framing::Crop);
        Ok(match self.settings::<S>()? {
            Some(run) => {
                let Fit { framing, background, depth, transpose, .. } = *run.image_data().fit;
                Fit { framing, background, depth, transpose, ..own }
            }
            None => own,
        })
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
            return self.of_run("test images", "--data", |mut run: S| {
                let splits = skip.reading(output, |skip| run.load(skip))?;
                skip.tell(output, &splits.notes())?;
                Ok(FoundImages { images: splits.test, name: format!("{} (test)", run.image_data().source) })
            });
        };
        let (source, fit): (ImageSource, _) = (text.parse()?, self.fit::<S>(shape)?);
        let images = skip.reading(output, |skip| source.test(&fit, skip))?;
        skip.tell(output, &images.notes)?;
        Ok(FoundImages { images, name: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Run {
        data: ImageSource,
        images: Option<Rows>,
        fit: Fit,
    }

    impl Settings for Run {}

    impl ImageSettings for Run {
        fn image_data(&self) -> ImageData<'_> {
            ImageData { source: &self.data, fit: &self.fit, images: self.images.as_ref(), seed: 0 }
        }

        fn decided(&mut self) -> (&mut Option<Rows>, &mut Fit) {
            (&mut self.images, &mut self.fit)
        }
    }

    #[test]
    fn old_runs_tell_that_they_tested_with_what_is_for_validation() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        for (part, count) in [("train", 20), ("val", 4), ("test", 4)] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
            for i in 0..count {
                let path = folder.path().join(part).join(format!("{i}.png"));
                image::GrayImage::from_pixel(2, 2, image::Luma([i])).save(path).unwrap();
            }
        }
        let notes = |images: Option<Rows>| -> Result<String> {
            let data = folder.path().to_string_lossy().parse()?;
            Ok(Run { data, images, fit: Fit::default() }.load(None)?.notes().join("; "))
        };
        let is_told = |notes: String| notes.contains("2 of the training images are held out for testing");
        assert!(!is_told(notes(Some(Rows::Count(28)))?));
        std::fs::remove_dir_all(folder.path().join("test")).unwrap();
        assert!(is_told(notes(Some(Rows::Count(24)))?) && !is_told(notes(None)?));
        Ok(())
    }
}
