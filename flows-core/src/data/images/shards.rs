//! The parts of data sets in several Parquet files.

use super::names::{Name, part};
use crate::data::shards::check_complete;
use crate::text::list;
use crate::{Error, Result};

/// The files for training, validation and test, and those of no part.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Shards {
    pub parts: [Vec<String>; 3],
    pub unread: Vec<String>,
}

/// Sorts the Parquet files of a `source` into parts, by the folders that they are in (`train/0000.parquet`) or by their names
/// (`train-00000-of-00003.parquet`); files of no part are those of a data set that is not split.
///
/// # Errors
/// When a shard is missing, or there are several data sets.
pub(super) fn in_parts(mut names: Vec<String>, source: &str) -> Result<Shards> {
    names.sort();
    check_complete(&names, source)?;
    let mut found = Shards::default();
    let mut folders: Vec<&str> = Vec::new();
    for name in &names {
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
        let (above, inner) = folder.rsplit_once('/').unwrap_or(("", folder));
        let first = file.to_lowercase();
        let first = first.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let (set, part) = match (part(first), Name::of(inner).part) {
            (Some(part), _) => (folder, Some(part)),
            (None, Some(part)) => (above, Some(part)),
            (None, None) => (folder, None),
        };
        match part {
            Some(part) => {
                found.parts[part].push(name.clone());
                folders.push(set);
            }
            None => found.unread.push(name.clone()),
        }
    }
    folders.sort();
    folders.dedup();
    if folders.len() > 1 {
        let sets = list(folders.iter().map(|folder| format!("{folder}/")));
        return Err(Error::Data(format!("{source} holds several data sets: name one of {sets}")));
    }
    if folders.is_empty() {
        found.parts[0] = std::mem::take(&mut found.unread);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn every_shard_has_its_part() -> Result<()> {
        for (names, parts, unread) in [
            (
                "train-00001-of-00002-ab.parquet train-00000-of-00002-cd.parquet test-00000-of-00001.parquet",
                ["train-00000-of-00002-cd.parquet train-00001-of-00002-ab.parquet", "", "test-00000-of-00001.parquet"],
                "",
            ),
            (
                "train/0001.parquet train/0000.parquet validation/0000.parquet",
                ["train/0000.parquet train/0001.parquet", "validation/0000.parquet", ""],
                "",
            ),
            (
                "a/partial-train/0000.parquet a/test/0000.parquet x.parquet",
                ["a/partial-train/0000.parquet", "", "a/test/0000.parquet"],
                "x.parquet",
            ),
            ("b.parquet a.parquet", ["a.parquet b.parquet", "", ""], ""),
        ] {
            assert_eq!(
                in_parts(words(names), "here")?,
                Shards { parts: parts.map(words), unread: words(unread) },
                "{names}"
            );
        }
        for (names, why) in [
            ("train-00000-of-00003.parquet train-00002-of-00003.parquet", "lacks `train-00001-of-00003.parquet`"),
            ("mnist/train-00000-of-00001.parquet fashion/train-00000-of-00001.parquet", "`fashion/`, `mnist/`"),
        ] {
            let error = in_parts(words(names), "here").unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        Ok(())
    }
}
