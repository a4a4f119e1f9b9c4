//! The files in a folder and in its folders.

use crate::text::list;
use crate::{Error, Result};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The files below a folder, each real folder once.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The folder.
    pub root: PathBuf,
    /// The files, relative to the folder, sorted.
    pub files: Vec<PathBuf>,
    /// What is neither a file nor a folder: links to nothing, pipes and devices, relative to the folder.
    pub others: Vec<PathBuf>,
    /// Folders without files, relative to the folder.
    pub empty: Vec<PathBuf>,
    /// Links to folders that are read by another way, or that hold the folder itself.
    pub again: Vec<PathBuf>,
}

impl Tree {
    /// Finds the files below `root`, except hidden ones and those that systems leave in folders.
    pub fn of(root: &Path) -> Result<Self> {
        let mut tree = Self { root: root.into(), ..Self::default() };
        let real = real(root)?;
        let mut seen = HashSet::from([real.clone()]);
        let mut links = Vec::new();
        tree.walk(Path::new(""), &mut seen, &mut links)?;
        // After all real folders, so that these keep their names.
        links.sort();
        let mut next = 0;
        while let Some(link) = links.get(next).cloned() {
            next += 1;
            let target = self::real(&root.join(&link))?;
            match !real.starts_with(&target) && seen.insert(target) {
                true => tree.walk(&link, &mut seen, &mut links)?,
                false => tree.again.push(link),
            }
        }
        [&mut tree.files, &mut tree.others, &mut tree.empty, &mut tree.again]
            .into_iter()
            .for_each(|paths| paths.sort());
        Ok(tree)
    }

    fn walk(&mut self, folder: &Path, seen: &mut HashSet<PathBuf>, links: &mut Vec<PathBuf>) -> Result<()> {
        let path = self.root.join(folder);
        let unreadable = |e: std::io::Error| Error::file(&path, format!("cannot be read ({e}); check that you may"));
        let mut is_empty = true;
        let entries = std::fs::read_dir(&path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let mut entries = entries.map_err(unreadable)?;
        // The order of the file system must not decide which of several links to a folder is read.
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            if is_hidden(&name.to_string_lossy()) {
                continue;
            }
            is_empty = false;
            let place = folder.join(name);
            let is_link = entry.file_type().map_err(unreadable)?.is_symlink();
            // Follows links.
            match std::fs::metadata(self.root.join(&place)) {
                Ok(of) if of.is_file() => self.files.push(place),
                Ok(of) if of.is_dir() && is_link => links.push(place),
                Ok(of) if of.is_dir() => match seen.insert(real(&self.root.join(&place))?) {
                    true => self.walk(&place, seen, links)?,
                    false => self.again.push(place),
                },
                _ => self.others.push(place),
            }
        }
        if is_empty {
            self.empty.push(folder.into());
        }
        Ok(())
    }

    /// What was not followed or is empty.
    pub fn notes(&self) -> Vec<String> {
        let shown = |paths: &[PathBuf]| list(paths.iter().map(|path| path.display()));
        let (again, empty) = (&self.again, &self.empty);
        let mut notes = Vec::new();
        if !again.is_empty() {
            let which =
                if again.len() == 1 { "is a link to a folder that is" } else { "are links to folders that are" };
            notes.push(format!("{} {which} read already, or that this one is in", shown(again)));
        }
        if !empty.is_empty() && !self.files.is_empty() {
            notes.push(format!("{} {} nothing", shown(empty), if empty.len() == 1 { "holds" } else { "hold" }));
        }
        notes
    }
}

/// The path without links.
fn real(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|e| Error::file(path, format!("cannot be read ({e}); check that you may")))
}

fn is_hidden(name: &str) -> bool {
    let lower = name.to_lowercase();
    name.starts_with('.') || matches!(lower.as_str(), "thumbs.db" | "desktop.ini" | "__macosx")
}

/// That these files or folders at a `place` are not read, if there are any.
pub(super) fn unread(names: impl IntoIterator<Item = String>, place: &str) -> Option<String> {
    let names: Vec<String> = names.into_iter().collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    (!names.is_empty()).then(|| format!("{}{place} {verb} not read", list(names)))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn each_real_folder_is_read_once() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        for name in ["set/b/1.png", "set/c/2.png", "other/3.png", "set/Thumbs.db", "set/.hidden/4.png"] {
            fs::create_dir_all(here.join(name).parent().unwrap()).unwrap();
            fs::write(here.join(name), name).unwrap();
        }
        fs::create_dir(here.join("set/empty")).unwrap();
        for (to, name) in [
            (".", "self"),
            (".", "z"),
            ("b", "a"),
            ("..", "up"),
            ("/", "root"),
            ("../other", "d"),
            ("../other", "e"),
            ("b/1.png", "one.png"),
            ("gone", "lost.png"),
        ] {
            symlink(to, here.join("set").join(name)).unwrap();
        }
        let tree = Tree::of(&here.join("set"))?;
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(tree.files, paths(&["b/1.png", "c/2.png", "d/3.png", "one.png"]));
        assert_eq!(tree.again, paths(&["a", "e", "root", "self", "up", "z"]));
        assert_eq!((&tree.others, &tree.empty), (&paths(&["lost.png"]), &paths(&["empty"])));
        let notes = tree.notes().join("\n");
        assert!(
            notes.contains("`a`, `e`, `root`, `self`, `up` and 1 more") && notes.contains("`empty` holds"),
            "{notes}"
        );
        Ok(())
    }
}
