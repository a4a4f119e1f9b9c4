//! How a file or a folder holds images: as files, arrays or Parquet files, in parts or not.

use super::collect::Skip;
use super::csv::is_csv;
use super::folder::{self, Files};
use super::idx::is_idx;
use super::names::{Name, PARTS};
use super::parquet::{self, is_parquet};
use super::sets::{self, Labelled, Named};
use super::shards::in_parts;
use super::tree::{self, Tree};
use super::{Fit, Images, is_image};
use crate::data::shards;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// The images of one part.
enum Store {
    Files(Files),
    Arrays(Box<Labelled>),
    Parquet(Vec<PathBuf>),
}

/// Where the images of each part are.
#[derive(Default)]
pub(super) struct Layout {
    parts: [Option<Store>; 3],
    /// What is not read, in words.
    pub notes: Vec<String>,
}

impl Layout {
    /// Finds the images in a file or a folder.
    ///
    /// # Errors
    /// When there are none, or what there is can be read in several ways.
    pub fn of(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::of_tree(Tree::of(path)?);
        }
        if !path.is_file() {
            return Err(Error::file(path, "does not exist; check the path"));
        }
        if is_parquet(path) {
            let shards = shards::of_path(path)?.into_iter().map(|name| path.with_file_name(name)).collect();
            let notes = parquet::numbered_beside(path).into_iter().collect();
            return Ok(Self { notes, ..Self::of_shards([shards, Vec::new(), Vec::new()]) });
        }
        if is_npz(path) {
            return Self::of_arrays(Named::of_npz(path)?, &[], &path.display().to_string());
        }
        if is_npy(path) || is_idx(path) {
            return Self::of_array(path);
        }
        if is_csv(path) {
            let arrays = Named::of_csv(path, path.display().to_string())??;
            let [train, validation, test] = Self::of_arrays(arrays, &[], &path.display().to_string())?.parts;
            return Ok(Self { parts: [train.or(validation).or(test), None, None], notes: Vec::new() });
        }
        let what = match is_image(path) {
            true => "is one image; name a folder of images",
            false if is_packed(path) => "is packed; unpack it and name the folder",
            false => "is neither a folder of images nor a .npy, .npz, .parquet, .csv or IDX file of images",
        };
        Err(Error::file(path, what))
    }

    /// The images in one array, whose labels may lie beside it.
    fn of_array(path: &Path) -> Result<Self> {
        let mut arrays = vec![Named::of_file(path, name_of(path))?.of_images()];
        let is_array = |path: &Path| (is_npy(path) && !is_npz(path)) || is_idx(path);
        let files: Vec<PathBuf> = shards::beside(path)?.into_iter().map(|name| path.with_file_name(name)).collect();
        for other in files.iter().filter(|other| is_array(other)) {
            arrays.extend(Named::of_file(other, name_of(other)).ok().filter(|array| array.is_label_of(&arrays[0])));
        }
        let found = Self::of_arrays(arrays, &files, &path.display().to_string())?;
        // Named by itself it is the whole set.
        let [train, validation, test] = found.parts;
        Ok(Self { parts: [train.or(validation).or(test), None, None], ..found })
    }

    /// The images in the CSV files of a folder; those of other things are passed over unless there are no others.
    fn of_csv(tree: &Tree, source: &str) -> Result<Self> {
        let (mut arrays, mut others, mut fault) = (Vec::new(), Vec::new(), None);
        for path in tree.files.iter().filter(|path| is_csv(path)) {
            let title = path.display().to_string();
            match Named::of_csv(&tree.root.join(path), title.clone())? {
                Ok(found) => arrays.extend(found),
                Err(error) => {
                    others.push(title);
                    fault.get_or_insert(error);
                }
            }
        }
        if let Some(error) = fault.filter(|_| arrays.is_empty()) {
            return Err(error);
        }
        let mut found = Self::of_arrays(arrays, &[], source)?;
        found.notes.extend(tree::unread(others, ", without pixels of square images,"));
        Ok(found)
    }

    fn of_arrays(arrays: Vec<Named>, files: &[PathBuf], source: &str) -> Result<Self> {
        let (parts, unread) = sets::in_parts(arrays, files, source)?;
        Ok(Self {
            parts: parts.map(|part| part.map(|part| Store::Arrays(Box::new(part)))),
            notes: tree::unread(unread, "").into_iter().collect(),
        })
    }

    fn of_tree(tree: Tree) -> Result<Self> {
        let source = tree.root.display().to_string();
        let at = |path: &PathBuf| tree.root.join(path);
        let of = |is: fn(&Path) -> bool| tree.files.iter().filter(move |path| is(path));
        let mut notes = tree.notes();
        let mut found = if of(is_idx).next().is_some() {
            let arrays = of(is_idx).map(|path| Named::of_file(&at(path), path.display().to_string()));
            let files: Vec<PathBuf> = tree.files.iter().map(at).collect();
            let arrays = arrays.collect::<Result<Vec<_>>>()?;
            notes.extend(unread(&tree, |path| is_idx(path) || name_of(path).ends_with("-mapping.txt")));
            Self::of_arrays(arrays, &files, &source)?
        } else if of(is_parquet).any(|path| parquet::may_be_images(&at(path))) {
            let name = |path: &PathBuf| path.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/");
            let shards = in_parts(of(is_parquet).map(name).collect(), &source)?;
            notes.extend(unread(&tree, |path| is_parquet(path) && !shards.unread.contains(&name(&path.to_path_buf()))));
            Self::of_shards(shards.parts.map(|names| names.into_iter().map(|name| tree.root.join(name)).collect()))
        } else {
            let arrays = arrays(&tree)?;
            match arrays.iter().any(Named::is_of_images) {
                true => {
                    notes.extend(unread(&tree, is_npy));
                    Self::of_arrays(arrays, &[], &source)?
                }
                false if !folder::has_images(&tree) && of(is_csv).next().is_some() => {
                    notes.extend(unread(&tree, is_csv));
                    Self::of_csv(&tree, &source)?
                }
                false => {
                    let (parts, unread) = folder::in_parts(&tree)?;
                    Self { parts: parts.map(|part| part.map(Store::Files)), notes: unread }
                }
            }
        };
        notes.append(&mut found.notes);
        Ok(Self { notes, ..found })
    }

    /// The images in the Parquet files of each part.
    pub fn of_shards(parts: [Vec<PathBuf>; 3]) -> Self {
        let parts = parts.map(|paths| (!paths.is_empty()).then_some(Store::Parquet(paths)));
        Self { parts, notes: Vec::new() }
    }

    /// The part to test with, if there are several: that for validation where none is for testing.
    pub fn to_test(&self) -> Option<usize> {
        [2, 1].into_iter().find(|part| self.parts[*part].is_some())
    }

    /// Whether there is a part for validation or test.
    fn is_split(&self) -> bool {
        self.parts[1..].iter().any(Option::is_some)
    }

    /// Reads the images of a part, if there is one, and takes it out.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(&mut self, part: usize, fit: &Fit, skip: Skip) -> Result<Option<Images>> {
        let is_split = self.is_split();
        let read = |store: Store| match store {
            Store::Files(files) => files.read(fit, skip),
            Store::Arrays(arrays) => arrays.read(fit),
            Store::Parquet(paths) => parquet::images(&paths, fit, skip),
        };
        let named = |e: Error| match is_split {
            true if !matches!(e, Error::File { .. }) => Error::Data(format!("{} part: {e}", PARTS[part])),
            _ => e,
        };
        self.parts[part].take().map(read).transpose().map_err(named)
    }
}

/// Whether a file or folder can only be one of images.
pub(super) fn holds_images(path: &Path) -> bool {
    let is_array = |path: &Path| match is_npz(path) {
        true => Named::of_npz(path).is_ok_and(|arrays| arrays.iter().any(Named::is_of_images)),
        false => Named::of_file(path, String::new()).is_ok_and(|array| array.is_of_images()),
    };
    if !path.is_dir() {
        return (is_parquet(path) && parquet::may_be_images(path))
            || (is_idx(path) && path.is_file())
            || (is_npy(path) && is_array(path));
    }
    let Ok(tree) = Tree::of(path) else { return false };
    let at = |path: &PathBuf| tree.root.join(path);
    let tables = || tree.files.iter().filter(|path| is_npy(path) || is_parquet(path));
    if tree.files.iter().any(|path| is_idx(path)) || tables().any(|table| holds_images(&at(table))) {
        return true;
    }
    // Pictures beside the parts of a table are pictures of it.
    let is_part = |path: &PathBuf| Name::of(&name_of(path)).part.is_some();
    folder::has_images(&tree) && !tables().any(is_part)
}

/// The arrays of a folder.
fn arrays(tree: &Tree) -> Result<Vec<Named>> {
    let mut arrays = Vec::new();
    for path in tree.files.iter().filter(|path| is_npy(path)) {
        let at = tree.root.join(path);
        match is_npz(path) {
            true => arrays.extend(Named::of_npz(&at)?),
            false => arrays.push(Named::of_file(&at, path.display().to_string())?),
        }
    }
    Ok(arrays)
}

/// The files that are not wanted, in words.
fn unread(tree: &Tree, is_wanted: impl Fn(&Path) -> bool) -> Option<String> {
    let rest = tree.files.iter().chain(&tree.others).filter(|path| !is_wanted(path));
    tree::unread(rest.map(|path| path.display().to_string()), "")
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether a file is one of NumPy's.
pub(super) fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "npy" || extension == "npz")
}

/// Whether it is one of several arrays.
fn is_npz(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "npz")
}

pub(super) fn is_packed(path: &Path) -> bool {
    const PACKED: [&str; 8] = ["zip", "tar", "tgz", "gz", "bz2", "xz", "7z", "rar"];
    path.extension().is_some_and(|extension| PACKED.contains(&extension.to_string_lossy().to_lowercase().as_str()))
}
