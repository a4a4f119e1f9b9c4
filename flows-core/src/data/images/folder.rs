//! Folders of image files: their parts and classes.

use super::collect::{Item, Skip, collect};
use super::decode::{self, extensions, is_image, is_unread};
use super::names::{look_like_parts, part, parts_of};
use super::tree::{Tree, unread};
use super::{Fit, Images};
use crate::text::{list, plural};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The image files of one part.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Files {
    /// The folder that the files are named from.
    root: PathBuf,
    /// Each with the index of its class, 0 if there are none.
    files: Vec<(PathBuf, u32)>,
    classes: Vec<String>,
}

/// The image files of a tree, those of formats that are not read and links to nothing among them.
fn image_files(tree: &Tree) -> Vec<PathBuf> {
    let is_one = |path: &&PathBuf| is_image(path) || is_unread(path);
    let mut files: Vec<PathBuf> = tree.files.iter().chain(&tree.others).filter(is_one).cloned().collect();
    files.sort();
    files
}

/// Whether a tree holds image files.
pub(super) fn has_images(tree: &Tree) -> bool {
    tree.files.iter().any(|path| is_image(path))
}

/// The image files of a tree, relative to its folder.
///
/// # Errors
/// When there are none.
pub(super) fn all_images(tree: &Tree) -> Result<Vec<PathBuf>> {
    let files = image_files(tree);
    if files.is_empty() {
        let others = list(tree.files.iter().map(|path| path.display()));
        let but = if others.is_empty() { others } else { format!(" but {others}") };
        let remedy = format!("put some there ({}), unpack those that are packed, or check the path", extensions());
        return Err(Error::file(&tree.root, format!("has no images{but}; {remedy}")));
    }
    Ok(files)
}

/// The image files of each part, and what is not read. Folders named train, val and test are the parts; each folder in
/// a part, or in a tree without parts, is a class of the images below it.
///
/// # Errors
/// When there are no images, or some beside the folders of classes.
pub(super) fn in_parts(tree: &Tree) -> Result<([Option<Files>; 3], Vec<String>)> {
    let files = all_images(tree)?;
    let rest = tree.files.iter().chain(&tree.others).filter(|path| files.binary_search(path).is_err());
    let mut notes: Vec<String> = unread(rest.map(|path| path.display().to_string()), "").into_iter().collect();
    let mut within = PathBuf::new();
    loop {
        let level = Level::of(&files, &within);
        let names: Vec<String> = level.folders.keys().cloned().collect();
        let parts = parts_of(&names);
        if parts.iter().any(Option::is_some) {
            let mut found = [None, None, None];
            let mut others: Vec<String> = level.direct.iter().map(|path| path.display().to_string()).collect();
            for (i, (name, files)) in level.folders.iter().enumerate() {
                match parts.iter().position(|part| *part == Some(i)) {
                    Some(part) => found[part] = Some(of_classes(tree, files, within.join(name), &mut Vec::new())?),
                    None => others.push(format!("{name}/")),
                }
            }
            notes.extend(unread(others, " beside the parts"));
            return Ok((found, notes));
        }
        if look_like_parts(&names) {
            let message = format!(
                "holds {}, which may be parts or classes: rename those of parts to train, val and test, or name one of them; \
                 if they are classes, begin their names with other words",
                list(names.iter().map(|name| format!("{name}/")))
            );
            return Err(Error::file(tree.root.join(within), message));
        }
        match level.only() {
            Some(only) => within.push(only),
            None => {
                let all = of_classes(tree, &files, within, &mut notes)?;
                return Ok(([Some(all), None, None], notes));
            }
        }
    }
}

/// The files in a folder, each folder in which is a class.
fn of_classes(tree: &Tree, files: &[PathBuf], mut within: PathBuf, notes: &mut Vec<String>) -> Result<Files> {
    let level = loop {
        let level = Level::of(files, &within);
        // Archives may hold a folder in a folder of the same name.
        match level.only().filter(|only| within.file_name() == Some(only.as_ref())) {
            Some(only) => within.push(only),
            None => break level,
        }
    };
    let root = tree.root.clone();
    let Level { direct, folders, .. } = level;
    if folders.is_empty() {
        return Ok(Files { root, files: direct.into_iter().map(|path| (path, 0)).collect(), classes: Vec::new() });
    }
    if !direct.is_empty() {
        let below: usize = folders.values().map(Vec::len).sum();
        let names = list(folders.keys().map(|name| format!("{name}/")));
        let (direct, below) = (plural(direct.len(), "image"), plural(below, "image"));
        let message = format!(
            "holds {direct}, and {below} in {names}: folders in it are classes, and the first have none; move them to a \
             folder of their own, or name one that holds either images or folders"
        );
        let place = if within.as_os_str().is_empty() { tree.root.clone() } else { tree.root.join(within) };
        return Err(Error::file(place, message));
    }
    let classes: Vec<String> = folders.keys().cloned().collect();
    let odd: Vec<&String> = classes.iter().filter(|name| part(&name.to_lowercase()).is_some()).collect();
    if !odd.is_empty() && classes.len() > 1 {
        let names = list(&odd);
        let words = if odd.len() == 1 { "is read as a class" } else { "are read as classes" };
        notes.push(format!(
            "{names} {words}, as are the folders beside: a set in parts has folders train and test, or train and val"
        ));
    }
    let files =
        folders.into_values().enumerate().flat_map(|(class, files)| files.into_iter().map(move |f| (f, class as u32)));
    Ok(Files { root, files: files.collect(), classes })
}

/// The files directly in a folder, and those in each of its folders.
#[derive(Debug, Default)]
struct Level {
    direct: Vec<PathBuf>,
    folders: BTreeMap<String, Vec<PathBuf>>,
    /// Whether a file lies directly in one of the folders.
    shallow: bool,
}

impl Level {
    fn of(files: &[PathBuf], within: &Path) -> Self {
        let mut level = Self::default();
        for file in files {
            let Ok(rest) = file.strip_prefix(within) else { continue };
            let mut parts = rest.components();
            let first = parts.next().map(|first| first.as_os_str().to_string_lossy().into_owned());
            match (first, parts.count()) {
                (Some(folder), deep @ 1..) => {
                    level.shallow |= deep == 1;
                    level.folders.entry(folder).or_default().push(file.clone());
                }
                _ => level.direct.push(file.clone()),
            }
        }
        level
    }

    /// The only folder, if it holds nothing but folders, so that these are the classes or parts.
    fn only(&self) -> Option<&String> {
        let is_wrapper = self.direct.is_empty() && self.folders.len() == 1 && !self.shallow;
        is_wrapper.then(|| self.folders.keys().next()).flatten()
    }
}

impl Files {
    /// Reads the images in the order of their names.
    ///
    /// A file that cannot be read is an error; if `skip` is given, the error is passed to it and the file is skipped.
    pub(super) fn read(&self, fit: &Fit, skip: Skip) -> Result<Images> {
        let items = |fit: &Fit| {
            let fit = fit.clone();
            Ok(self.files.iter().map(move |(file, class)| {
                let path = self.root.join(file);
                Ok(Item { name: path.display().to_string(), label: Some(*class), image: decode::read(&path, &fit) })
            }))
        };
        let (mut images, labels) = collect(items, fit, skip)?;
        let prefix = format!("{}{}", self.root.display(), std::path::MAIN_SEPARATOR);
        let names = images.names.iter_mut().flatten();
        names.for_each(|name| *name = name.strip_prefix(&prefix).map_or(name.clone(), str::to_string));
        if self.classes.is_empty() {
            return Ok(images);
        }
        images.with_labels(labels.into_iter().flatten().collect(), self.classes.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For each part of a folder of these files its classes and the number of its files; and the notes.
    fn plan(files: &str) -> Result<([String; 3], String)> {
        let files = files.split(' ').map(PathBuf::from).collect();
        let (parts, notes) = in_parts(&Tree { root: "here".into(), files, ..Tree::default() })?;
        let shown = |part: Files| format!("{}: {}", part.classes.join(" "), part.files.len());
        Ok((parts.map(|part| part.map_or(String::new(), shown)), notes.join("; ")))
    }

    #[test]
    fn folders_are_parts_and_classes() -> Result<()> {
        for (files, parts, note) in [
            ("1.png 2.TIF", [": 2", "", ""], ""),
            ("a/1.png a/x/2.png b/3.png", ["a b: 3", "", ""], ""),
            ("PetImages/Cat/1.png PetImages/Dog/2.png", ["Cat Dog: 2", "", ""], ""),
            ("cat/1.png cat/2.png", ["cat: 2", "", ""], ""),
            ("train/a/1.png train/b/2.png Val/a/3.png test/b/4.png", ["a b: 2", "a: 1", "b: 1"], ""),
            ("train/1.png test/2.png", [": 1", "", ": 1"], ""),
            ("images/train2017/1.png images/val2017/2.png", [": 1", ": 1", ""], ""),
            ("seg_train/seg_train/a/1.png seg_test/seg_test/a/2.png", ["a: 1", "", "a: 1"], ""),
            ("train/a/1.png", ["a: 1", "", ""], ""),
            ("test/1.png", ["", "", ": 1"], ""),
            ("bus/1.png train/2.png valve/3.png", ["bus train valve: 3", "", ""], "`train` is read as a class"),
            ("train/1.png test/2.png new/3.png 4.png", [": 1", "", ": 1"], "`4.png`, `new/` beside the parts"),
            ("1.png labels.csv", [": 1", "", ""], "`labels.csv` is not read"),
            ("1.png 2.heic", [": 2", "", ""], ""),
        ] {
            let (found, notes) = plan(files)?;
            assert_eq!(found, parts.map(String::from), "{files}");
            assert!(notes.contains(note) && notes.is_empty() == note.is_empty(), "{files}: {notes}");
        }
        for folders in ["trainA/1.png testA/2.png", "set/test_tube/1.png set/train_station/2.png"] {
            assert!(plan(folders).unwrap_err().to_string().contains("rename those of parts"), "{folders}");
        }
        let error = plan("1.png 2.png thumbs/1.png").unwrap_err().to_string();
        assert!(error.contains("holds 2 images, and 1 image in `thumbs/`"), "{error}");
        assert!(plan("notes.md").unwrap_err().to_string().contains("has no images"));
        Ok(())
    }
}
