//! Tables in several files: training, validation and test parts, and the parts of one table.

use super::Frame;
use super::format::{Format, extension};
use super::shards::{check_complete, is_shard};
use crate::text::list;
use crate::{Error, Result};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The tables of a data set: those that it is already split into, or one.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// The rows to train on; all rows of a table that is not split.
    pub train: Frame,
    /// The rows to choose the best weights by, if they are given.
    pub validation: Option<Frame>,
    /// The rows to test with, if they are given.
    pub test: Option<Frame>,
}

impl From<Frame> for Frames {
    fn from(train: Frame) -> Self {
        Self { train, ..Self::default() }
    }
}

impl Frames {
    /// The tables, by what messages call them.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Frame)> {
        let parts =
            [(PARTS[0], Some(&self.train)), (PARTS[1], self.validation.as_ref()), (PARTS[2], self.test.as_ref())];
        parts.into_iter().filter_map(|(name, frame)| Some((name, frame?)))
    }

    /// What was assumed in reading the tables, each once.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = Vec::new();
        for note in self.named().flat_map(|(_, frame)| &frame.notes) {
            if !notes.contains(note) {
                notes.push(note.clone());
            }
        }
        notes
    }

    /// The rows to test with: all rows of a table that is not split.
    pub fn into_test(self) -> Option<Frame> {
        if self.validation.is_none() { Some(self.test.unwrap_or(self.train)) } else { self.test }
    }
}

/// What the parts are called.
const PARTS: [&str; 3] = ["train", "validation", "test"];

/// Which files belong to which part.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Those for training, validation and test; those of a table that is not split are all in the first.
    parts: [Vec<String>; 3],
    /// The other files and folders.
    unread: Vec<String>,
    /// Links to files that are in the same part already.
    again: Vec<String>,
}

impl Plan {
    /// Sorts files by their names, which are relative to their folder; `source` is what messages call it.
    ///
    /// `train`, `validation` (`val`, `valid`, `dev`) and `test` are the parts, as files, also with a number behind the
    /// name, or as folders of files. Where there are none, all files are parts of one table.
    ///
    /// # Errors
    /// When there are no tables, a shard is missing, or it is unclear which of the files are meant.
    pub(super) fn of(names: Vec<String>, source: &str) -> Result<Self> {
        Self::sorted(names, source, |_| {})
    }

    /// Sorts the files in a folder, as [`Self::of`] does; one that several links lead to is in a part once.
    pub(super) fn of_folder(folder: &Path) -> Result<Self> {
        Self::sorted(names(folder)?, &folder.display().to_string(), |plan| plan.keep_once(folder))
    }

    fn sorted(mut names: Vec<String>, source: &str, reduce: impl FnOnce(&mut Self)) -> Result<Self> {
        names.sort();
        names.retain(|name| !name.split('/').any(|part| part.starts_with(['.', '_'])));
        let mut plan = Self::default();
        let mut others = Vec::new();
        for name in names {
            match part_of(&name).filter(|_| Format::of(name.as_ref()).is_ok()) {
                Some(Part { part, .. }) => plan.parts[part].push(name),
                None => others.push(name),
            }
        }
        if plan.parts.iter().all(Vec::is_empty) {
            let is_table = |name: &String| !name.contains('/') && Format::of(name.as_ref()).is_ok();
            (plan.parts[0], others) = others.into_iter().partition(is_table);
        }
        // Of a folder that is no part the name is enough.
        for name in others.iter_mut().filter(|name| part_of(name).is_none()) {
            name.truncate(name.find('/').map_or(name.len(), |at| at + 1));
        }
        others.dedup();
        plan.unread = others;
        if plan.parts.iter().all(Vec::is_empty) {
            let holds = match plan.unread.as_slice() {
                [] => "is empty".to_string(),
                unread => format!("holds no tables but {}", list(unread)),
            };
            let remedy = "put tables of the same columns there, or train.csv and test.csv (or .npy, .parquet)";
            return Err(Error::Data(format!("{source} {holds}; {remedy}")));
        }
        plan.parts.iter().try_for_each(|part| check_complete(part, source))?;
        reduce(&mut plan);
        for part in &plan.parts {
            let kind = |name: &String| (part_of(name), extension(name.as_ref()));
            if let Some(other) = part.iter().find(|name| kind(name) != kind(&part[0])) {
                let remedy = "keep one of them, or files that differ only in a number, or name a file";
                return Err(Error::Data(format!("{source} holds `{}` and `{other}`; {remedy}", part[0])));
            }
        }
        Ok(plan)
    }

    /// Leaves out the links to files in `folder` that are in the same part by another name. Shards stay, as their names tell
    /// them apart: in the Hub's cache all files are links, those of equal contents to the same file.
    fn keep_once(&mut self, folder: &Path) {
        let Ok(root) = folder.canonicalize() else { return };
        for part in &mut self.parts {
            let real = |name: &String| root.join(name).canonicalize().ok().filter(|_| !is_shard(name));
            let is_link = |name: &String| real(name).is_some_and(|path| path != root.join(name));
            // The files themselves before the links to them.
            let (links, files): (Vec<String>, Vec<String>) = part.drain(..).partition(is_link);
            let mut seen: HashSet<PathBuf> = HashSet::new();
            for name in files.into_iter().chain(links) {
                match real(&name).is_none_or(|path| seen.insert(path)) {
                    true => part.push(name),
                    false => self.again.push(name),
                }
            }
            part.sort();
        }
    }

    /// Whether there is a part besides that to train on.
    pub(super) fn is_split(&self) -> bool {
        self.parts[1..].iter().any(|part| !part.is_empty())
    }

    /// Reads all parts by `read`.
    pub(super) fn read(&self, source: &str, mut read: impl FnMut(&str) -> Result<Frame>) -> Result<Frames> {
        let [train, validation, test] = &self.parts;
        if train.is_empty() {
            let first = self.parts.iter().flatten().next().map_or("", String::as_str);
            return Err(Error::Data(format!(
                "{source} has `{first}` but no part to train on; add it as train.csv (or .npy, .parquet)"
            )));
        }
        let mut train = joined(train, &mut read)?;
        train.notes.extend(self.notes());
        let mut rest = |names: &[String]| (!names.is_empty()).then(|| joined(names, &mut read)).transpose();
        Ok(Frames { train, validation: rest(validation)?, test: rest(test)? })
    }

    /// Reads the rows to test with by `read`: all, if there are no parts.
    pub(super) fn read_test(&self, source: &str, mut read: impl FnMut(&str) -> Result<Frame>) -> Result<Frame> {
        let [train, validation, test] = &self.parts;
        let names = match self.is_split() {
            false => train,
            true if test.is_empty() => {
                let first = &validation[0];
                return Err(Error::Data(format!(
                    "{source} has `{first}` but no part to test with; name the file itself"
                )));
            }
            true => test,
        };
        joined(names, &mut read)
    }

    fn notes(&self) -> impl Iterator<Item = String> {
        let note = |names: &[String], [one, many]: [&str; 2], rest: &str| {
            (!names.is_empty()).then(|| format!("{} {}{rest}", list(names), if names.len() == 1 { one } else { many }))
        };
        let unread = ["is not read", "are not read"];
        let unread = note(&self.unread, unread, ": a table, or part of one, is named train, validation or test");
        let again = ["is a link to a file that is", "are links to files that are"];
        unread.into_iter().chain(note(&self.again, again, " read already"))
    }
}

/// The part that a file belongs to.
#[derive(Clone, Copy, PartialEq)]
struct Part {
    part: usize,
    /// What the file, or its folder, is named.
    word: &'static str,
    in_folder: bool,
    numbered: bool,
}

fn part_of(name: &str) -> Option<Part> {
    const WORDS: [(usize, &str); 7] =
        [(0, "train"), (0, "training"), (1, "validation"), (1, "valid"), (1, "val"), (1, "dev"), (2, "test")];
    let lower = name.to_lowercase();
    let (stem, in_folder) = match lower.split_once('/') {
        Some((_, rest)) if rest.contains('/') => return None,
        Some((folder, _)) => (folder, true),
        None => (lower.split('.').next().unwrap_or_default(), false),
    };
    WORDS.into_iter().find_map(|(part, word)| {
        let rest = stem.strip_prefix(word)?;
        let digits = rest.trim_start_matches(['-', '_']).starts_with(|first: char| first.is_ascii_digit());
        let numbered = digits && !in_folder;
        (rest.is_empty() || numbered).then_some(Part { part, word, in_folder, numbered })
    })
}

/// The rows of all these files, in this order.
pub(super) fn joined(names: &[String], read: &mut impl FnMut(&str) -> Result<Frame>) -> Result<Frame> {
    let mut frames = names.iter().map(|name| read(name)).collect::<Result<Vec<_>>>()?;
    let mut notes = Vec::new();
    // A note on some of the files has to name them.
    let common = |note: &String| frames.iter().all(|frame| frame.notes.contains(note));
    for (name, frame) in names.iter().zip(&frames) {
        for note in &frame.notes {
            let note = if common(note) { note.clone() } else { format!("{name}: {note}") };
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    frames.iter_mut().for_each(|frame| frame.notes.clear());
    Ok(Frame { notes, ..Frame::concatenated(frames, names)? })
}

/// The names of the files in a folder and in its folders, relative to it.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = |folder: &Path| {
        let unreadable =
            |e: std::io::Error| Error::file(folder, format_args!("cannot be read ({e}); check that you may"));
        let entries = std::fs::read_dir(folder).map_err(unreadable)?;
        entries.map(|entry| Ok(entry.map_err(unreadable)?.path())).collect::<Result<Vec<_>>>()
    };
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut names = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            let inner = entries(&path)?;
            let folder = name(&path);
            // A folder within a folder is named, but not looked into.
            let of = |inner: &std::path::PathBuf| {
                format!("{folder}/{}{}", name(inner), if inner.is_dir() { "/" } else { "" })
            };
            names.extend(inner.iter().map(of));
            if inner.is_empty() {
                names.push(format!("{folder}/"));
            }
        } else {
            names.push(name(&path));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Cells, read_frames};

    #[test]
    fn files_are_sorted_by_their_names() {
        let plan = |names: &str| Plan::of(names.split(' ').map(String::from).collect(), "here");
        let cases = [
            ("train.npy test.npy validation.npy all.csv", ["train.npy", "validation.npy", "test.npy"], "all.csv"),
            ("Test.csv train.csv.gz dev.csv README.md", ["train.csv.gz", "dev.csv", "Test.csv"], "README.md"),
            (
                "train-00000-of-00002-ab.parquet test-00000-of-00001.parquet train-00001-of-00002-ab.parquet",
                ["train-00000-of-00002-ab.parquet train-00001-of-00002-ab.parquet", "", "test-00000-of-00001.parquet"],
                "",
            ),
            (
                "train/0001.parquet train/0000.parquet test/0000.parquet more/x.csv more/y.csv",
                ["train/0000.parquet train/0001.parquet", "", "test/0000.parquet"],
                "more/",
            ),
            (
                "2020.csv 2019.csv notes.md old/2018.csv .DS_Store _SUCCESS",
                ["2019.csv 2020.csv", "", ""],
                "notes.md old/",
            ),
            ("train/a.csv train/notes.md", ["train/a.csv", "", ""], "train/notes.md"),
            ("train.csv train_labels.csv testing.csv", ["train.csv", "", ""], "testing.csv train_labels.csv"),
        ];
        for (names, parts, unread) in cases {
            let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
            assert_eq!(
                plan(names).unwrap(),
                Plan { parts: parts.map(words), unread: words(unread), again: Vec::new() },
                "{names}"
            );
        }
        for (names, words) in [
            ("a.md b/c.csv", "no tables but `a.md`, `b/`"),
            ("a.csv a.parquet", "`a.csv` and `a.parquet`"),
            ("train.csv train.npy", "`train.csv` and `train.npy`"),
            ("train.csv train-2.csv", "`train-2.csv` and `train.csv`"),
            ("train.csv val.csv dev.csv", "`dev.csv` and `val.csv`"),
            ("train.csv train/a.csv", "`train.csv` and `train/a.csv`"),
            ("train-00000-of-00002.parquet x.csv", "here lacks `train-00001-of-00002.parquet`"),
            ("a-00001-of-00003-ab.parquet a-00002-of-00003-cd.parquet", "lacks `a-00000-of-00003.parquet`"),
            ("test-00000-of-00001-a.parquet test-00000-of-00001-b.parquet", "`test` twice"),
        ] {
            let error = plan(names).unwrap_err().to_string();
            assert!(error.contains(words), "{words} in {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_read_once_however_many_links_lead_to_it() -> Result<()> {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let (here, set) = (folder.path(), folder.path().join("set"));
        std::fs::create_dir_all(set.join("train")).unwrap();
        let write =
            |name: &str, from: u32| std::fs::write(here.join(name), format!("x\n{from}\n{}\n", 3 * from)).unwrap();
        write("set/train/b.csv", 5);
        write("set/train/c.csv", 2);
        write("beside.csv", 9);
        for (to, name) in [("b.csv", "train/a.csv"), ("../../beside.csv", "train/d.csv"), ("d.csv", "train/e.csv")] {
            symlink(to, set.join(name)).unwrap();
        }
        // Of two parts each has its file, be it the same one.
        for (to, name) in [("train", "training"), ("train/c.csv", "test.csv")] {
            symlink(to, set.join(name)).unwrap();
        }
        let frames = read_frames(&set)?;
        let Cells::Numbers(values) = &frames.train.columns[0].cells else { panic!("{:?}", frames.train) };
        assert_eq!(values, &[5.0, 15.0, 2.0, 6.0, 9.0, 27.0]);
        assert_eq!(frames.test.map(|test| test.rows()), Some(2));
        let note =
            "`train/a.csv`, `train/e.csv`, `training/a.csv`, `training/b.csv`, `training/c.csv` and 2 more are links";
        assert!(frames.train.notes.iter().any(|found| found.starts_with(note)), "{:?}", frames.train.notes);
        Ok(())
    }

    #[test]
    fn a_folder_of_parts_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let numbered = |from: usize| (0..10).map(|i| format!("{i},{},a\n", from + i)).collect::<String>();
        write("2019.csv", &format!("id,x,k\n{}", numbered(0)));
        write("2020.csv", &format!("id,x,k\n{}", numbered(10)));
        write("2021.csv", "k,x,id\nb,1.5,10\n");
        write("README.md", "");
        let frames = read_frames(folder.path()).unwrap();
        let columns = &frames.train.columns;
        assert_eq!((frames.train.rows(), frames.validation.is_none(), frames.test.is_none()), (21, true, true));
        let Cells::Numbers(ids) = &columns[0].cells else { panic!("{:?}", columns[0]) };
        // Two files of ten rows number them from 0; one row is too few to tell.
        assert!(ids[..20].iter().enumerate().all(|(i, id)| *id == i as f64) && ids[20] == 10.0, "{ids:?}");
        assert_eq!(columns[2].cells.text(20).as_deref(), Some("b"));
        assert!(
            frames.train.notes.iter().any(|note| note.contains("`README.md` is not read")),
            "{:?}",
            frames.train.notes
        );
        write("2022.csv", "id,x,y\n1,2,3\n");
        assert!(read_frames(folder.path()).unwrap_err().to_string().contains("2022.csv has no column `k`"));
        write("2022.csv", "id,x\n1,2\n");
        assert!(read_frames(folder.path()).unwrap_err().to_string().contains("2 columns and not 3"));
    }
}
