//! Sources of images, as named on the command line.

use super::{Fit, Framing, Images, drawn_digits, folder, idx, npy, parquet, uci_digits};
use crate::data::parts::shards;
use crate::hub::{self, Address};
use crate::{Error, Result, Rng};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::{fmt, str::FromStr};

/// The side of a synthetic digit.
const SIDE: usize = 16;

/// The name of the handwritten digits.
const UCI_DIGITS: &str = "uci-digits";

/// Numbers of synthetic digits for training, validation and test.
const DIGITS: [usize; 3] = [20_000, 500, 2_000];

/// The largest number of images held out for validation.
const VALIDATION: usize = 500;

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageSource {
    /// Synthetic digits, [`drawn_digits`](super::drawn_digits).
    Digits,
    /// Handwritten digits, [`uci_digits`].
    UciDigits,
    /// A `.npy`, IDX or `.parquet` file, or a folder of images, of two such files or folders `train...` and `test...`,
    /// or of MNIST's four files. A Parquet file `...-00000-of-00003.parquet` stands for all three shards.
    Path(PathBuf),
    /// `hf://owner/repo/path[@revision]` of such a file.
    Hub(Address),
}

/// Images in three parts.
#[derive(Clone, Debug)]
pub struct Splits {
    /// For training.
    pub train: Images,
    /// For choosing the best weights.
    pub validation: Images,
    /// For testing.
    pub test: Images,
}

impl Splits {
    /// The number of images of all parts.
    pub fn count(&self) -> usize {
        [&self.train, &self.validation, &self.test].map(Images::len).iter().sum()
    }
}

impl ImageSource {
    /// The source that `word` names if it can only be one of images: digits, a Parquet or IDX file, a `.npy` file of
    /// images, or a folder of such files or of images. For addresses on the Hub the name decides.
    pub fn of(word: &str) -> Option<Self> {
        let source: Self = word.parse().ok()?;
        let images = match &source {
            Self::Digits | Self::UciDigits => true,
            Self::Path(path) => holds_images(path),
            Self::Hub(address) => is_parquet(address.path().as_ref()) || is_idx_images(address.path().as_ref()),
        };
        images.then_some(source)
    }

    /// Loads the images in three parts. The test images are the source's own, or one in ten but at most
    /// 1,000; the validation images are one in twenty of the others but at most 500.
    ///
    /// # Errors
    /// When the images cannot be read or are too few.
    pub fn load(&self, fit: &Fit, skip: Option<&mut dyn FnMut(Error)>, rng: &mut Rng) -> Result<Splits> {
        if *self == Self::Digits {
            let [train, validation, test] = DIGITS.map(|count| drawn_digits(count, SIDE, rng)?.fitted(fit));
            return Ok(Splits { train: train?, validation: validation?, test: test? });
        }
        if *self == Self::UciDigits {
            return divided(UCI_DIGITS.as_ref(), uci_digits()?.fitted(fit)?, rng);
        }
        let path = self.path()?;
        if let Some([train, test]) = parts(&path)? {
            let mut skip = skip;
            let train = read(&train, fit, skip.as_mut().map(|skip| &mut **skip as _))?;
            let test = read(&test, fit, skip)?;
            if train.shape() != test.shape() || train.classes != test.classes {
                return Err(Error::file(path, "has training and test images of different shapes or classes"));
            }
            let (validation, train) = held_out(&path, train, 20, VALIDATION, rng)?;
            return Ok(Splits { train, validation, test });
        }
        divided(&path, read(&path, fit, skip)?, rng)
    }

    /// Loads the test images of the source, or all images if it has no test part.
    ///
    /// # Errors
    /// When the images cannot be read.
    pub fn test(&self, fit: &Fit, skip: Option<&mut dyn FnMut(Error)>) -> Result<Images> {
        match self {
            Self::Digits => Ok(self.load(fit, None, &mut Rng::seed(0))?.test),
            Self::UciDigits => uci_digits()?.fitted(fit),
            _ => {
                let path = self.path()?;
                read(&parts(&path)?.map_or(path, |[_, test]| test), fit, skip)
            }
        }
    }

    /// The number of values that each image of an array or IDX file has before `fit` pads it; none if it does not.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn unpadded(&self, fit: &Fit) -> Result<Option<usize>> {
        if fit.framing != Framing::Pad || fit.size.is_none() || *self == Self::Digits {
            return Ok(None);
        }
        if *self == Self::UciDigits {
            return Ok(Some(uci_digits()?.each()));
        }
        let path = self.path()?;
        let path = parts(&path)?.map_or(path, |[_, test]| test);
        if path.is_dir() {
            return Ok(None);
        }
        let [channels, height, width] = match read(&path, &Fit::default(), None) {
            Ok(images) => images.shape(),
            // Their sizes may differ.
            Err(_) if is_parquet(&path) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(height * width * if fit.grey { 1 } else { channels }))
    }

    fn path(&self) -> Result<PathBuf> {
        match self {
            Self::Hub(address) => {
                // Fetch the other shards to the same folder.
                for path in shards(address.path()).iter().skip(1) {
                    address.to_string().replacen(address.path(), path, 1).parse::<Address>()?.fetch()?;
                }
                address.fetch()
            }
            Self::Path(path) if path.exists() => Ok(path.clone()),
            Self::Path(path) => Err(Error::file(path, "does not exist; check the path")),
            Self::Digits | Self::UciDigits => Err(Error::Config(format!("{self} is not a file"))),
        }
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

/// Splits the images of a source without a test part.
fn divided(path: &Path, images: Images, rng: &mut Rng) -> Result<Splits> {
    let (test, rest) = held_out(path, images, 10, 1000, rng)?;
    let (validation, train) = held_out(path, rest, 20, VALIDATION, rng)?;
    Ok(Splits { train, validation, test })
}

/// One image in `share` but at most `most`, chosen at random, and the remaining images.
fn held_out(path: &Path, images: Images, share: usize, most: usize, rng: &mut Rng) -> Result<(Images, Images)> {
    let count = images.len();
    if count < 2 {
        return Err(Error::file(path, "has too few images for training, validation and test; give at least 3"));
    }
    let order = rng.permutation(count);
    let (out, rest) = order.split_at((count / share).clamp(1, most));
    Ok((images.select(out), images.select(rest)))
}

/// The training and the test part of a folder that has both.
fn parts(path: &Path) -> Result<Option<[PathBuf; 2]>> {
    if !path.is_dir() {
        return Ok(None);
    }
    let entries = std::fs::read_dir(path).map_err(|e| Error::file(path, format!("cannot be read ({e})")))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let usable = |path: &&PathBuf| path.is_dir() || is_npy(path) || is_parquet(path) || is_idx_images(path);
    let find = |prefixes: &[&str]| {
        let named = |path: &&PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        };
        paths.iter().filter(usable).find(named).cloned()
    };
    Ok(find(&["train"]).zip(find(&["test", "t10k", "val"])).map(|(train, test)| [train, test]))
}

fn read(path: &Path, fit: &Fit, skip: Option<&mut dyn FnMut(Error)>) -> Result<Images> {
    if path.is_dir() {
        return folder::images(path, fit, skip);
    }
    if is_npy(path) {
        return npy::images(path)?.fitted(fit);
    }
    if is_parquet(path) {
        return parquet::images(path, fit, skip);
    }
    if !is_idx_images(path) {
        return Err(Error::file(path, "is neither a .npy, .parquet or IDX file of images nor a folder of images"));
    }
    let images = idx::images(path)?;
    // MNIST's labels lie beside its images.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let labels = path.with_file_name(name.replace("images", "labels").replace("idx3", "idx1"));
    let images = match labels != path && labels.exists() {
        true => {
            let labels = idx::labels(&labels)?;
            let classes = labels.iter().max().map_or(0, |most| most + 1);
            images.with_labels(labels, (0..classes).map(|class| class.to_string()).collect())?
        }
        false => images,
    };
    images.fitted(fit)
}

fn holds_images(path: &Path) -> bool {
    if !path.is_dir() {
        return (is_parquet(path) && parquet::may_be_images(path))
            || is_idx_images(path)
            || (is_npy(path) && npy::is_images(path));
    }
    match parts(path) {
        Ok(Some([train, _])) => holds_images(&train),
        _ => folder::has_images(path),
    }
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "npy")
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "parquet")
}

fn is_idx_images(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.contains("idx3") || name.contains("idx4") || name.ends_with(".idx") || name.ends_with(".idx.gz")
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
            text if text.starts_with(hub::SCHEME) => Ok(Self::Hub(text.parse()?)),
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
