//! Images in parts for training, validation and test.

use super::Images;
use super::names::PARTS;
use crate::data::hash::Hash;
use crate::text::some_of;
use crate::{Error, Result};
use std::collections::HashSet;

/// Images in three parts.
#[derive(Clone, Debug)]
pub struct Splits {
    /// For training.
    pub train: Images,
    /// For choosing the best weights.
    pub validation: Images,
    /// For testing.
    pub test: Images,
    /// Whether the test images were held out, although the source has some for validation.
    pub test_held_out: bool,
}

impl Splits {
    fn parts(&self) -> [&Images; 3] {
        [&self.train, &self.validation, &self.test]
    }

    /// The number of images of all parts.
    pub fn count(&self) -> usize {
        self.parts().map(Images::len).iter().sum()
    }

    /// A hash of the values and the classes of all images in their order, the same on every machine.
    pub fn hash(&self) -> u64 {
        let mut hash = Hash::NEW;
        for images in self.parts() {
            images.shape.iter().for_each(|side| hash.bits(*side as u64));
            (0..images.len()).for_each(|i| hash.bits(images.hash(i)));
            images.classes.iter().for_each(|class| hash.text(class));
            images.labels.iter().flatten().for_each(|label| hash.bits((*label).into()));
        }
        hash.value()
    }

    /// The bits of the values of 16 bits, if the images have such.
    pub fn depth(&self) -> Option<u32> {
        self.parts().iter().find_map(|images| images.depth)
    }

    /// What was noted in reading the images, and what is odd in them.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.train.notes.clone();
        for (images, part) in [&self.validation, &self.test].into_iter().zip(&PARTS[1..]) {
            let others = images.notes.iter().filter(|note| !self.train.notes.contains(note));
            notes.extend(others.map(|note| format!("{part}: {note}")));
        }
        let known: HashSet<u64> = (0..self.train.len()).map(|i| self.train.hash(i)).collect();
        for (images, part) in [&self.validation, &self.test].into_iter().zip(&PARTS[1..]) {
            let again = (0..images.len()).filter(|i| known.contains(&images.hash(*i))).count();
            if 100 * again > images.len() {
                let verbs = ["is a training image", "are training images"];
                let again = some_of(again, images.len(), &format!("{part} image"), verbs);
                notes.push(format!("{again} as well, so that their likelihood is too high: keep each once"));
            }
        }
        notes
    }
}

impl Images {
    /// A hash of the values of an image.
    fn hash(&self, index: usize) -> u64 {
        let mut hash = Hash::NEW;
        for values in self.image(index).chunks(8) {
            let mut bytes = [0; 8];
            bytes[..values.len()].copy_from_slice(values);
            hash.bits(u64::from_le_bytes(bytes));
        }
        hash.value()
    }
}

/// Parts in the classes of the first, the one to train on, and in colour if one of them is.
///
/// # Errors
/// When images of two parts have other sizes, or a part has a class that the first lacks.
pub(super) fn agree(parts: [Option<Images>; 3]) -> Result<[Option<Images>; 3]> {
    let channels = parts.iter().flatten().map(|images| images.shape[0]).max().unwrap_or(1);
    let mut agreed = [None, None, None];
    for (i, images) in parts.into_iter().enumerate() {
        let Some(mut images) = images else { continue };
        if channels == 3 && images.shape[0] == 1 {
            images = images.in_colour();
            images.notes.push(format!(
                "the {} images are grey and are given three equal channels, as those of another part have colours: --grey \
                 makes all grey, and --colour all coloured",
                PARTS[i]
            ));
        }
        if let Some(train) = &agreed[0] {
            images = alike(train, images, PARTS[i])?;
        }
        agreed[i] = Some(images);
    }
    Ok(agreed)
}

/// Images of a part with the classes of those to train on.
fn alike(train: &Images, images: Images, part: &str) -> Result<Images> {
    if train.shape != images.shape {
        let [[_, height, width], [_, h, w]] = [images.shape, train.shape];
        return Err(Error::Data(format!(
            "the {part} images have {height} x {width} pixels, but the {} images {h} x {w}: set a common size by --size H,W",
            PARTS[0]
        )));
    }
    if let Some(lacking) = images.classes.iter().find(|class| train.labels.is_some() && !train.classes.contains(class))
    {
        let known = train.classes.join("`, `");
        return Err(Error::Data(format!(
            "the {part} images have a class `{lacking}`, which the {} images lack: they have `{known}`; rename or remove it, or \
             add images of it to train on",
            PARTS[0]
        )));
    }
    match (train.labels.is_some(), images.labels.is_some()) {
        (true, true) => images.named(&train.classes),
        (false, true) => {
            let mut images = Images { labels: None, classes: Vec::new(), ..images };
            images.notes.push(format!("their classes are not read, as the {} images have none", PARTS[0]));
            Ok(images)
        }
        _ => Ok(images),
    }
}
