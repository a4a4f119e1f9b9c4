//! Which arrays are the images and the labels of each part.

use super::array::{Array, is_of_images, shape_of};
use super::names::{Name, Role};
use super::{Fit, Images, csv, idx};
use crate::files::Archive;
use crate::text::list;
use crate::{Error, Result};
use std::borrow::Cow;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Where an array is.
enum At {
    Npy(PathBuf),
    Idx(PathBuf),
    Here(Array),
}

/// An array by its name.
pub(super) struct Named {
    name: Name,
    /// What messages call it.
    title: String,
    at: At,
    /// Of an IDX file it is in the name.
    shape: Option<Vec<usize>>,
}

/// The images of one part.
pub(super) struct Labelled {
    images: Named,
    labels: Option<Named>,
    /// The file that has the names of the classes.
    mapping: Option<PathBuf>,
}

impl Named {
    /// The array in a `.npy` or IDX file, which messages call `title`.
    pub fn of_file(path: &Path, title: String) -> Result<Self> {
        let name = Name::of(&path.file_name().unwrap_or_default().to_string_lossy());
        if idx::is_idx(path) {
            return Ok(Self { name, title, at: At::Idx(path.into()), shape: None });
        }
        Ok(Self { name, title, at: At::Npy(path.into()), shape: Some(shape_of(path)?) })
    }

    /// The arrays in a file that `np.savez` wrote. One that has no name but `arr_0` has that of the file.
    pub fn of_npz(path: &Path) -> Result<Vec<Self>> {
        let damaged = |fault: &dyn std::fmt::Display| {
            Error::file(path, format!("cannot be read as an archive of arrays ({fault}); fetch or write it again"))
        };
        let file = std::fs::File::open(path).map_err(|e| Error::file(path, format!("cannot be read ({e})")))?;
        let mut archive = Archive::open(file).map_err(|fault| damaged(&fault))?;
        let names: Vec<String> = archive.names().filter(|name| name.ends_with(".npy")).map(String::from).collect();
        let read = |title: String| {
            let bytes = archive.read(&title, idx::MOST).map_err(|fault| damaged(&fault))?;
            let length = bytes.len() as u64;
            let array = Array::of_npy(&path.join(&title), Cursor::new(bytes), length)?;
            let of_file = path.file_name().unwrap_or_default().to_string_lossy();
            let name = Name::of(if title == "arr_0.npy" { &of_file } else { &title });
            Ok(Self {
                name,
                title: title.trim_end_matches(".npy").into(),
                shape: Some(array.shape.clone()),
                at: At::Here(array),
            })
        };
        names.into_iter().map(read).collect()
    }

    /// The images and the labels in a CSV file, or why it has none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_csv(path: &Path, title: String) -> Result<Result<Vec<Self>>> {
        let (images, labels) = match csv::read(path)? {
            Ok(arrays) => arrays,
            Err(why) => return Ok(Err(why)),
        };
        let name = Name::of(&path.file_name().unwrap_or_default().to_string_lossy());
        let named = |role, array: Array| Self {
            name: Name { role: Some(role), ..name.clone() },
            title: title.clone(),
            shape: Some(array.shape.clone()),
            at: At::Here(array),
        };
        let images = named(Role::Images, images);
        Ok(Ok([images].into_iter().chain(labels.map(|labels| named(Role::Labels, labels))).collect()))
    }

    fn read(&self) -> Result<Cow<'_, Array>> {
        match &self.at {
            At::Npy(path) => {
                let unreadable = |e: std::io::Error| Error::file(path, format!("cannot be read ({e})"));
                let file = std::fs::File::open(path).map_err(unreadable)?;
                let length = file.metadata().map_err(unreadable)?.len();
                Array::of_npy(path, file, length).map(Cow::Owned)
            }
            At::Idx(path) => idx::read(path).map(Cow::Owned),
            At::Here(array) => Ok(Cow::Borrowed(array)),
        }
    }

    fn into_array(self) -> Result<Array> {
        match self.at {
            At::Here(array) => Ok(array),
            _ => self.read().map(Cow::into_owned),
        }
    }

    fn role(&self) -> Option<Role> {
        let by_shape = || match self.shape.as_deref()? {
            shape if is_of_images(shape) => Some(Role::Images),
            [_] | [_, 1] => Some(Role::Labels),
            _ => None,
        };
        self.name.role.or_else(by_shape)
    }

    /// Whether it can only be one of images.
    pub fn is_of_images(&self) -> bool {
        match &self.shape {
            Some(shape) => is_of_images(shape),
            None => self.name.role != Some(Role::Labels),
        }
    }

    /// Puts it to its part, unless the same is there already, as a compressed copy is.
    fn put(self, place: &mut Option<Self>, source: &str) -> Result<()> {
        let Some(other) = place else {
            *place = Some(self);
            return Ok(());
        };
        let (one, another) = (&other.title, &self.title);
        if self.name.set != other.name.set && !self.is_of_one_file_with(other) {
            return Err(several(source, other, &self));
        }
        let there = other.read()?;
        if !self.read()?.is_same(&there) {
            let remedy = "keep one, or save them by names that tell: np.savez(path, train_images=a, train_labels=b)";
            return Err(Error::Data(format!(
                "{source} holds `{one}` and `{another}`, which differ and are of one part; {remedy}"
            )));
        }
        Ok(())
    }
}

fn several(source: &str, one: &Named, other: &Named) -> Error {
    let remedy = "move the files of one to a folder of their own, and name it";
    Error::Data(format!(
        "{source} holds several sets, such as those of `{}` and `{}`; {remedy}",
        one.title, other.title
    ))
}

/// Sorts arrays into the images and the labels of each part; the others are not read. `files` may have the names of classes.
///
/// # Errors
/// When there are no images, or several for one part.
pub(super) fn in_parts(
    arrays: Vec<Named>,
    files: &[PathBuf],
    source: &str,
) -> Result<([Option<Labelled>; 3], Vec<String>)> {
    let alone = arrays.len() == 1;
    let (images, rest): (Vec<Named>, Vec<Named>) =
        arrays.into_iter().partition(|array| alone || array.role() == Some(Role::Images));
    if images.is_empty() {
        let names = list(rest.iter().map(|array| &array.title));
        let remedy = "save images of shape (N, H, W) or (N, H, W, C), as by np.savez(path, images=a, labels=b)";
        return Err(Error::Data(format!("{source} holds {names}, none of images; {remedy}")));
    }
    let split = images.iter().any(|array| array.name.part.is_some());
    let (mut parts, mut unread) = ([None, None, None], Vec::new());
    for array in images {
        match array.name.part.or((!split).then_some(0)) {
            Some(part) => array.put(&mut parts[part], source)?,
            None => unread.push(array.title),
        }
    }
    let sets: Vec<&Named> = parts.iter().flatten().collect();
    if let Some(other) =
        sets.iter().find(|array| array.name.set != sets[0].name.set && !array.is_of_one_file_with(sets[0]))
    {
        return Err(several(source, sets[0], other));
    }
    let mut labels = [None, None, None];
    for array in rest {
        let of = |part: &Option<Named>| part.as_ref().is_some_and(|images| array.belongs_to(images));
        match parts.iter().position(of).filter(|_| array.role() == Some(Role::Labels)) {
            Some(part) => array.put(&mut labels[part], source)?,
            None => unread.push(array.title),
        }
    }
    let mapping = |images: &Named| {
        let set = format!("{}-mapping", images.name.set);
        files
            .iter()
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy() == format!("{set}.txt")))
            .cloned()
    };
    let mut labels = labels.into_iter();
    let parts = parts.map(|images| {
        let (images, labels) = (images, labels.next().flatten());
        images.map(|images| Labelled { mapping: mapping(&images), images, labels })
    });
    Ok((parts, unread))
}

impl Named {
    /// Whether it is the labels of these images, by its name.
    pub fn is_label_of(&self, images: &Self) -> bool {
        self.name.role == Some(Role::Labels) && self.belongs_to(images)
    }

    /// The same, which is of images whatever its shape.
    pub fn of_images(mut self) -> Self {
        self.name.role.get_or_insert(Role::Images);
        self
    }

    /// Whether these labels are of those images: those of the same part, which is training where no name has one, and of the
    /// same set unless they are arrays of one file.
    fn belongs_to(&self, images: &Self) -> bool {
        self.name.part.unwrap_or(0) == images.name.part.unwrap_or(0)
            && (self.is_of_one_file_with(images) || self.name.set == images.name.set)
    }

    fn is_of_one_file_with(&self, other: &Self) -> bool {
        matches!((&self.at, &other.at), (At::Here(one), At::Here(another)) if one.path.parent() == another.path.parent())
    }
}

impl Labelled {
    /// Reads the images with their classes.
    pub fn read(self, fit: &Fit) -> Result<Images> {
        let is_emnist = self.images.name.set.split('-').any(|word| word == "emnist") && self.images.shape.is_none();
        let mut images = self.images.into_array()?.images(fit)?;
        if let Some(labels) = &self.labels {
            let names = self.mapping.as_deref().map(names).transpose()?;
            images = labels.read()?.label(images, names)?;
        }
        if !is_emnist || fit.transpose.is_some() {
            return images.fitted(fit);
        }
        images.notes.push(
            "the files of EMNIST hold rows as columns: the images are turned upright; to train on them as they \
             are stored, set `fit.transpose = false` in the file of --config"
                .into(),
        );
        images.fitted(&Fit { transpose: Some(true), ..fit.clone() })
    }
}

/// The numbers and names of classes, from lines of a number and the codes of the characters of the class.
fn names(path: &Path) -> Result<Vec<(u32, String)>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, format!("cannot be read ({e})")))?;
    let name = |line: &str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        let (class, letter) = (numbers.next().flatten(), numbers.next().flatten().and_then(char::from_u32));
        class.zip(letter.map(String::from)).ok_or_else(|| {
            let message =
                format!("has a line `{line}`, which is not the number of a class and its characters; correct it");
            Error::file(path, message)
        })
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::zip_of;

    fn npy(shape: &str, values: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), values].concat()
    }

    #[test]
    fn arrays_of_an_archive_have_their_parts() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.npz");
        let read = |arrays: &[(&str, Vec<u8>)]| {
            let entries: Vec<(&str, &[u8])> = arrays.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
            std::fs::write(&path, zip_of(&entries)).unwrap();
            in_parts(Named::of_npz(&path)?, &[], "set.npz")
        };
        let (images, labels) = (npy("(2, 2, 2)", &[1, 2, 3, 4, 5, 6, 7, 8]), npy("(2,)", &[1, 3]));
        let keras =
            [("x_train.npy", &images), ("y_train.npy", &labels), ("x_test.npy", &images), ("y_test.npy", &labels)];
        let medical = [("train_images.npy", &images), ("train_labels.npy", &labels), ("test_images.npy", &images)];
        let (keras, medical) = (keras.map(|(name, b)| (name, b.clone())), medical.map(|(name, b)| (name, b.clone())));
        for (arrays, tested) in [(&keras[..], true), (&medical[..], false)] {
            let ([train, validation, test], unread) = read(arrays)?;
            assert!(validation.is_none() && unread.is_empty());
            let (train, test) = (train.unwrap().read(&Fit::default())?, test.unwrap().read(&Fit::default())?);
            assert_eq!(
                (train.labels(), &train.classes[..]),
                (Some(&[1, 3][..]), &["0", "1", "2", "3"].map(String::from)[..])
            );
            assert_eq!((test.labels().is_some(), test.image(1)), (tested, &[5, 6, 7, 8][..]));
        }
        let ([train, ..], unread) = read(&[("arr_0.npy", images.clone()), ("sizes.npy", npy("(2, 3)", &[0; 6]))])?;
        assert_eq!((train.unwrap().read(&Fit::default())?.len(), &unread[..]), (2, &["sizes".to_string()][..]));
        let other = npy("(2, 2, 2)", &[0; 8]);
        for (arrays, words) in [
            (vec![("images.npy", images.clone()), ("x.npy", other)], ["`images` and `x`", "np.savez"]),
            (vec![("a.npy", labels.clone()), ("b.npy", labels)], ["`a`, `b`", "none of images"]),
        ] {
            let error = read(&arrays).err().unwrap().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        std::fs::write(&path, "no archive").unwrap();
        assert!(Named::of_npz(&path).err().unwrap().to_string().contains("set.npz"));
        Ok(())
    }
}
