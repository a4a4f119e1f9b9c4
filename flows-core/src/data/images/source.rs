//! Sources of images, as named on the command line.

use super::collect::Skip;
use super::layout::{Layout, holds_images};
use super::splits::{Splits, agree};
use super::{Fit, Images, drawn_digits, hub, uci_digits};
use crate::hub::{Address, SCHEME};
use crate::{Error, Result, Rng};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::{fmt, str::FromStr};

/// The side of a synthetic digit.
const SIDE: usize = 16;

/// The name of the handwritten digits.
const UCI_DIGITS: &str = "uci-digits";

/// Numbers of synthetic digits for training, validation and test.
const DIGITS: [usize; 3] = [20_000, 500, 2_000];

/// Of how many images one is held out for testing, and at most how many.
const TEST: (usize, usize) = (10, 1000);

/// Likewise for validation.
const VALIDATION: (usize, usize) = (20, 500);

const ONE_PART: &str = "name the file or the folder of a part";

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageSource {
    /// Synthetic digits, [`drawn_digits`](super::drawn_digits).
    Digits,
    /// Handwritten digits, [`uci_digits`].
    UciDigits,
    /// A folder of images, each folder in which is a class; of parts, which are named train, val (or valid, validation) and
    /// test; of the files of MNIST or EMNIST; of arrays `train_images.npy`, `train_labels.npy` and so on; or of Parquet
    /// files. Or a single `.npy`, `.npz`, IDX, `.csv` or `.parquet` file, of which `...-00000-of-00003.parquet` stands for all three.
    Path(PathBuf),
    /// `hf://owner/repo/path[@revision]` of such a file, or of a folder of Parquet files.
    Hub(Address),
}

impl ImageSource {
    /// The source that `word` names if it can only be one of images: digits, a Parquet or IDX file, a `.npy` file of
    /// images, or a folder of such files or of images. For addresses on the Hub the name decides.
    pub fn of(word: &str) -> Option<Self> {
        let source: Self = word.parse().ok()?;
        let images = match &source {
            Self::Digits | Self::UciDigits => true,
            Self::Path(path) => holds_images(path),
            Self::Hub(address) => hub::may_be_images(address),
        };
        images.then_some(source)
    }

    /// Loads the images in three parts: the source's own, or held out at random. Of a source without test images these are
    /// one in ten but at most 1,000, and without validation images one in twenty of the others but at most 500.
    ///
    /// # Errors
    /// When the images cannot be read or are too few, or those of the parts have other shapes or classes than those to train
    /// on.
    pub fn load(&self, fit: &Fit, skip: Option<&mut dyn FnMut(Error)>, rng: &mut Rng) -> Result<Splits> {
        if *self == Self::Digits {
            let [train, validation, test] = DIGITS.map(|count| drawn_digits(count, SIDE, rng)?.fitted(fit));
            return Ok(Splits { train: train?, validation: validation?, test: test?, test_held_out: false });
        }
        if *self == Self::UciDigits {
            let (images, test) = self.held_out(uci_digits()?.fitted(fit)?, TEST, rng)?;
            let (train, validation) = self.held_out(images, VALIDATION, rng)?;
            return Ok(Splits { train, validation, test, test_held_out: false });
        }
        let mut layout = self.layout()?;
        let [train, validation, test] = self.parts(&mut layout, fit, skip)?;
        let Some(mut train) = train else {
            return Err(Error::Data(format!(
                "{self} has no images to train on: give some the name train, or {ONE_PART}"
            )));
        };
        let mut notes = layout.notes;
        notes.append(&mut train.notes);
        let test_held_out = validation.is_some() && test.is_none();
        let (train, test) = match test {
            Some(test) => (train, test),
            None => self.held_out(train, TEST, rng)?,
        };
        let (mut train, validation) = match validation {
            Some(validation) => (train, validation),
            None => self.held_out(train, VALIDATION, rng)?,
        };
        train.notes = notes;
        Ok(Splits { train, validation, test, test_held_out })
    }

    /// The images of each part, in the shape and the classes of the first.
    fn parts(&self, layout: &mut Layout, fit: &Fit, mut skip: Skip) -> Result<[Option<Images>; 3]> {
        let mut parts = [None, None, None];
        let mut fit = fit.clone();
        for (i, place) in parts.iter_mut().enumerate() {
            *place = layout.read(i, &fit, skip.as_mut().map(|skip| &mut **skip as _))?;
            fit.depth = fit.depth.or(place.as_ref().and_then(|images: &Images| images.depth));
        }
        agree(parts).map_err(|e| Error::Data(format!("{self}: {e}")))
    }

    /// Loads the test images of the source, those for validation if it has no others, or all images if it has no parts.
    ///
    /// # Errors
    /// When the images cannot be read.
    pub fn test(&self, fit: &Fit, skip: Option<&mut dyn FnMut(Error)>) -> Result<Images> {
        match self {
            Self::Digits => Ok(self.load(fit, None, &mut Rng::seed(0))?.test),
            Self::UciDigits => uci_digits()?.fitted(fit),
            _ => {
                let mut layout = self.layout()?;
                let part = layout.to_test().unwrap_or(0);
                if part == 1 {
                    layout.notes.push(format!("{self} has no test images: those for validation take their place"));
                }
                let images = layout.read(part, fit, skip)?;
                let mut images = images.ok_or_else(|| Error::Data(format!("{self} has no images: {ONE_PART}")))?;
                images.notes.splice(0..0, layout.notes);
                Ok(images)
            }
        }
    }

    fn layout(&self) -> Result<Layout> {
        match self {
            Self::Hub(address) => hub::layout(address),
            Self::Path(path) => Layout::of(path),
            Self::Digits | Self::UciDigits => Err(Error::Config(format!("{self} is not a file"))),
        }
    }

    /// One image in `share` but at most `most`, chosen at random, as the second, and the others as the first.
    fn held_out(&self, images: Images, (share, most): (usize, usize), rng: &mut Rng) -> Result<(Images, Images)> {
        let count = images.len();
        if count < 2 {
            let message = "has too few images for training, validation and test; give at least 3";
            return Err(Error::Data(format!("{self} {message}")));
        }
        let order = rng.permutation(count);
        let (out, rest) = order.split_at((count / share).clamp(1, most));
        Ok((images.select(rest), images.select(out)))
    }

    /// Makes a path absolute, so that it does not depend on the current folder.
    ///
    /// # Errors
    /// When the current folder is unknown.
    pub fn absolute(self) -> Result<Self> {
        Ok(match self {
            Self::Path(path) => Self::Path(std::path::absolute(&path).map_err(|e| Error::file(path, e))?),
            other => other,
        })
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digits => f.write_str("digits"),
            Self::UciDigits => f.write_str(UCI_DIGITS),
            Self::Path(path) => path.display().fmt(f),
            Self::Hub(address) => address.fmt(f),
        }
    }
}

impl FromStr for ImageSource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "digits" => Ok(Self::Digits),
            UCI_DIGITS => Ok(Self::UciDigits),
            "" => Err(Error::Config("no data is named: give digits, a folder, a file or hf://owner/repo/path".into())),
            text if text.starts_with(SCHEME) => Ok(Self::Hub(text.parse()?)),
            text => Ok(Self::Path(text.into())),
        }
    }
}

impl TryFrom<String> for ImageSource {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ImageSource> for String {
    fn from(source: ImageSource) -> Self {
        source.to_string()
    }
}
