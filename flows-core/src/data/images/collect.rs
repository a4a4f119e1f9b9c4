//! Images of one shape from decoded files.

use super::decode::Decoded;
use super::depth::{DARK, depth_of};
use super::{Fit, Images};
use crate::text::{list, some_of};
use crate::{Error, Result};

/// What is called with the errors of files that are skipped.
pub(super) type Skip<'a> = Option<&'a mut dyn FnMut(Error)>;

/// One encoded image of a collection.
pub(super) struct Item {
    /// Its file, or another name for messages.
    pub name: String,
    /// Its class, if it is known.
    pub label: Option<u32>,
    pub image: Result<Decoded>,
}

/// The images that `items` decodes, which must have one shape after `fit`, with the class of each, if it is known. Grey
/// images among images in colour are given three channels, in whatever order they come.
///
/// Values of 16 bits are read with the least depth that has them all, if `fit` names none.
///
/// An image that cannot be read is an error; if `skip` is given, the error is passed to it and the image is skipped.
pub(super) fn collect<I: Iterator<Item = Result<Item>>>(
    mut items: impl FnMut(&Fit) -> Result<I>,
    fit: &Fit,
    skip: Skip,
) -> Result<(Images, Vec<Option<u32>>)> {
    let mut all = Collection::default();
    all.read(items(fit)?, fit, skip)?;
    let deepest = all.deepest.filter(|_| fit.depth.is_none());
    let Some(bits) = deepest.and_then(|value| depth_of(value.into())) else { return all.finish(fit, None) };
    let deep = all.deep;
    if bits < 16 {
        let fit = Fit { depth: Some(bits), ..fit.clone() };
        all = Collection::default();
        // Their errors have been told.
        all.read(items(&fit)?, &fit, Some(&mut |_| ()))?;
    }
    let (mut images, labels) = all.finish(fit, Some(bits))?;
    if bits < 16 {
        images.notes.push(format!(
            "{} values of 16 bits, none above {}: they are read as of {bits} bits; {DARK}",
            some_of(deep, images.len(), "image", ["has", "have"]),
            deepest.unwrap_or(0)
        ));
    }
    Ok((images, labels))
}

/// Images so far.
#[derive(Default)]
struct Collection {
    /// The shape of all images, and the name of the first.
    shape: Option<([usize; 3], String)>,
    values: Vec<u8>,
    labels: Vec<Option<u32>>,
    names: Vec<String>,
    /// Numbers of images: those that are grey in their files, and so on.
    grey: usize,
    transparent: usize,
    several: usize,
    deep: usize,
    /// The names of those that lack the marker of the end.
    unended: Vec<String>,
    /// The greatest value of 16 bits.
    deepest: Option<u16>,
    /// The height and width of all files, if they are one.
    size: Option<Option<[usize; 2]>>,
}

impl Collection {
    fn read(&mut self, items: impl Iterator<Item = Result<Item>>, fit: &Fit, mut skip: Skip) -> Result<()> {
        for item in items {
            let Item { name, label, image } = item?;
            let image = image.and_then(|mut image| {
                let values = std::mem::take(&mut image.values);
                let fitted = fit.apply(image.shape, values).map_err(|e| Error::file(&name, e))?;
                Ok((image, fitted))
            });
            match (image, &mut skip) {
                (Ok((image, fitted)), _) => {
                    self.add(&name, &image, fitted)?;
                    self.labels.push(label);
                    self.names.push(name);
                }
                (Err(error), Some(skip)) => skip(error),
                (Err(error), None) => return Err(Error::Data(format!("{error}, or skip such files with --skip-bad"))),
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, image: &Decoded, (own, mut colours): ([usize; 3], Vec<u8>)) -> Result<()> {
        self.grey += usize::from(own[0] == 1);
        let (common, first) = self.shape.get_or_insert_with(|| (own, name.into()));
        if common[1..] != own[1..] {
            let [[_, height, width], [_, h, w]] = [own, *common];
            return Err(Error::Data(format!(
                "{name} has {height} x {width} pixels, but {first} has {h} x {w}: set a common size by --size H,W"
            )));
        }
        if common[0] == 1 && own[0] == 3 {
            let each = common[1] * common[2];
            self.values = self.values.chunks(each).flat_map(|grey| grey.repeat(3)).collect();
            common[0] = 3;
        } else if common[0] == 3 && own[0] == 1 {
            colours = colours.repeat(3);
        }
        self.values.append(&mut colours);
        self.transparent += usize::from(image.transparent);
        self.several += usize::from(image.several);
        self.unended.extend(image.unended.then(|| name.to_string()));
        self.deep += usize::from(image.deepest.is_some());
        self.deepest = self.deepest.max(image.deepest);
        let [_, height, width] = image.shape;
        let size = self.size.get_or_insert(Some([height, width]));
        *size = size.filter(|size| *size == [height, width]);
        Ok(())
    }

    fn finish(self, fit: &Fit, depth: Option<u32>) -> Result<(Images, Vec<Option<u32>>)> {
        let Some((shape, _)) = self.shape else {
            return Err(Error::Data("none of the images can be read".into()));
        };
        let images = Images::new(shape, self.values)?;
        let all = images.len();
        let mut notes = Vec::new();
        if shape[0] == 3 && (1..all).contains(&self.grey) {
            notes.push(format!(
                "{} grey and given three equal channels, as the others have colours: --grey makes all grey, and --colour all \
                 coloured",
                some_of(self.grey, all, "image", ["is", "are"])
            ));
        }
        if self.transparent > 0 && fit.background.is_none() {
            notes.push(format!(
                "{} transparent in places, which are given a background: --background white or black decides which",
                some_of(self.transparent, all, "image", ["is", "are"])
            ));
        }
        if self.several > 0 {
            notes.push(format!(
                "{} several pages: only the first is read",
                some_of(self.several, all, "image", ["is an animation or has", "are animations or have"])
            ));
        }
        if !self.unended.is_empty() {
            let lack = if self.unended.len() == 1 { "lacks" } else { "lack" };
            let are = if self.unended.len() == 1 { "the image is" } else { "the images are" };
            notes.push(format!("{} {lack} the end-of-image marker, but {are} complete", list(&self.unended)));
        }
        let size = self.size.flatten();
        let images = Images { names: Some(self.names), notes, depth, size, ..images };
        Ok((images.padded_by(fit), self.labels))
    }
}
