//! Data sets in several Parquet files, as on the Hugging Face Hub.

use super::names::{Name, part};
use super::tree::list;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// The place of a file among the shards of its part: of `train-00000-of-00003-1a2b.parquet`, which may have a hash as here,
/// `train`, 0 and 3.
fn place(name: &str) -> Option<(&str, usize, usize)> {
    let stem = name.strip_suffix(".parquet")?;
    let digits =
        |text: &str| text.parse::<usize>().ok().filter(|_| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit()));
    let (before, after) = stem.rsplit_once("-of-")?;
    let (stem, number) = before.rsplit_once('-')?;
    let count = after.split_once('-').map_or(after, |(count, _)| count);
    Some((stem, digits(number)?, digits(count).filter(|count| *count > 0)?))
}

/// Whether a file is one of several shards whose names have hashes.
pub(super) fn is_hashed(name: &str) -> bool {
    place(name).is_some_and(|(.., count)| count > 1 && !name.ends_with(&format!("-of-{count:05}.parquet")))
}

/// The files that a name stands for among `names`: the first of several shards for all, any other for itself.
///
/// # Errors
/// When one of the shards is not among the names.
pub(super) fn of_first(name: &str, names: &[String]) -> Result<Vec<String>> {
    let Some((stem, 0, count)) = place(name) else { return Ok(vec![name.into()]) };
    let of_it = |other: &&String| place(other).is_some_and(|(s, _, c)| (s, c) == (stem, count));
    let mut shards: Vec<String> = names.iter().filter(of_it).cloned().collect();
    shards.sort();
    check_complete(&shards)?;
    Ok(shards)
}

/// Checks that there is each shard of which there is one.
fn check_complete(names: &[String]) -> Result<()> {
    let mut numbers: BTreeMap<(&str, usize), Vec<usize>> = BTreeMap::new();
    for (stem, number, count) in names.iter().filter_map(|name| place(name)) {
        numbers.entry((stem, count)).or_default().push(number);
    }
    for ((stem, count), present) in numbers {
        let missing = (0..count).filter(|number| !present.contains(number));
        let missing: Vec<String> = missing.map(|number| format!("{stem}-{number:05}-of-{count:05}.parquet")).collect();
        if !missing.is_empty() {
            return Err(Error::Data(format!("lacks {}; fetch what is missing", list(missing.into_iter()))));
        }
        if present.len() > count {
            return Err(Error::Data(format!("has shards of `{stem}` twice; keep those of one version")));
        }
    }
    Ok(())
}

/// The files for training, validation and test, and those of no part.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Shards {
    pub parts: [Vec<String>; 3],
    pub unread: Vec<String>,
}

/// Sorts the Parquet files of a folder into parts, by the folders that they are in (`train/0000.parquet`) or by their names
/// (`train-00000-of-00003.parquet`); files of no part are those of a data set that is not split.
///
/// # Errors
/// When a shard is missing, or there are several data sets.
pub(super) fn in_parts(mut names: Vec<String>) -> Result<Shards> {
    names.sort();
    check_complete(&names)?;
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
        return Err(Error::Data(format!("holds several data sets: name one of {sets}")));
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
            assert_eq!(in_parts(words(names))?, Shards { parts: parts.map(words), unread: words(unread) }, "{names}");
        }
        for (names, why) in [
            ("train-00000-of-00003.parquet train-00002-of-00003.parquet", "lacks `train-00001-of-00003.parquet`"),
            ("train-00000-of-00001-a.parquet train-00000-of-00001-b.parquet", "twice"),
            ("mnist/train-00000-of-00001.parquet fashion/train-00000-of-00001.parquet", "`fashion/`, `mnist/`"),
        ] {
            let error = in_parts(words(names)).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        Ok(())
    }

    #[test]
    fn the_first_shard_stands_for_all() -> Result<()> {
        let names =
            words("train-00000-of-00002-ab.parquet train-00001-of-00002-cd.parquet test-00000-of-00001.parquet");
        assert_eq!(of_first(&names[0], &names)?, names[..2]);
        assert_eq!(of_first(&names[1], &names)?, names[1..2]);
        assert_eq!(of_first("x.parquet", &names)?, ["x.parquet"]);
        assert!(of_first(&names[0], &names[..1]).unwrap_err().to_string().contains("train-00001-of-00002"));
        Ok(())
    }
}
