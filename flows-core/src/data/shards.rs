//! Data sets in several Parquet files, as on the Hugging Face Hub.

use crate::hub::Address;
use crate::text::list;
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

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

fn without_hash(stem: &str, number: usize, count: usize) -> String {
    format!("{stem}-{number:05}-of-{count:05}.parquet")
}

/// Whether a name is that of a shard, which is told from the others of its part by its number.
pub(super) fn is_shard(name: &str) -> bool {
    place(name).is_some()
}

/// The files that a name stands for among the names that `beside` finds at a `source`: the first of several shards for all,
/// any other for itself.
fn of_first(name: &str, source: &str, beside: impl FnOnce() -> Result<Vec<String>>) -> Result<Vec<String>> {
    let Some((stem, 0, count @ 2..)) = place(name) else { return Ok(vec![name.into()]) };
    let of_it = |other: &String| place(other).is_some_and(|(s, _, c)| (s, c) == (stem, count));
    let mut shards: Vec<String> = beside()?.into_iter().filter(of_it).collect();
    shards.sort();
    check_complete(&shards, source)?;
    Ok(shards)
}

/// The names of the files in its folder that a path stands for: the first of several shards for all, any other for itself.
///
/// # Errors
/// When a shard is missing or there are two of one number, or the folder cannot be read.
pub(super) fn of_path(path: &Path) -> Result<Vec<String>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if !path.exists() {
        return Ok(vec![name.into()]);
    }
    of_first(&name, &path.display().to_string(), || beside(path))
}

/// The names of the files in the folder of this one.
///
/// # Errors
/// When it cannot be read.
pub(super) fn beside(path: &Path) -> Result<Vec<String>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unreadable = |e: std::io::Error| Error::file(folder, format!("cannot be read ({e}); check that you may"));
    let names = std::fs::read_dir(folder).map_err(unreadable)?;
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        Ok(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned())
    };
    names.map(name).collect()
}

/// The addresses of the files that one stands for: the first of several shards for all, any other for itself.
///
/// # Errors
/// When a shard is missing or there are two of one number, or the names of a folder cannot be fetched.
pub(super) fn of_address(address: &Address) -> Result<Vec<Address>> {
    of_address_among(address, || address.beside())
}

/// As [`of_address`]; `beside` finds the names of the files in the folder of this one.
fn of_address_among(address: &Address, beside: impl FnOnce() -> Result<Vec<String>>) -> Result<Vec<Address>> {
    let (folder, name) = address.path().rsplit_once('/').map_or((None, address.path()), |(f, name)| (Some(f), name));
    let names = || match place(name) {
        // With hashes in their names those of the others do not follow from that of the first.
        Some((stem, number, count)) if without_hash(stem, number, count) != name => beside(),
        Some((stem, _, count)) => Ok((0..count).map(|number| without_hash(stem, number, count)).collect()),
        None => Ok(vec![name.into()]),
    };
    let shards = of_first(name, &address.to_string(), names)?;
    let of = |name: &String| folder.map_or(name.clone(), |folder| format!("{folder}/{name}"));
    shards.iter().map(|name| address.with_path(&of(name))).collect()
}

/// Checks that a `source` has all shards of which it has one, each once.
///
/// # Errors
/// When one is missing, or there are two of one number or sets of different counts.
pub(super) fn check_complete(names: &[String], source: &str) -> Result<()> {
    let mut numbers: BTreeMap<(&str, usize), Vec<usize>> = BTreeMap::new();
    for (stem, number, count) in names.iter().filter_map(|name| place(name)) {
        numbers.entry((stem, count)).or_default().push(number);
    }
    let mut before = None;
    for ((stem, count), present) in numbers {
        let distinct: BTreeSet<usize> = present.iter().copied().collect();
        let missing: Vec<String> = (0..count)
            .filter(|number| !distinct.contains(number))
            .map(|number| without_hash(stem, number, count))
            .collect();
        if !missing.is_empty() {
            return Err(Error::Data(format!("{source} lacks {}; fetch what is missing", list(missing))));
        }
        if present.len() > count || before.replace(stem) == Some(stem) {
            return Err(Error::Data(format!("{source} has shards of `{stem}` twice; keep those of one version")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn the_first_shard_stands_for_all() -> Result<()> {
        let names =
            words("train-00001-of-00002-cd.parquet train-00000-of-00002-ab.parquet test-00000-of-00001.parquet");
        let of_first = |name: &str, names: &[String]| of_first(name, "here", || Ok(names.to_vec()));
        assert_eq!(of_first(&names[1], &names)?, [names[1].clone(), names[0].clone()]);
        for name in [&names[0], &names[2], "x.parquet", "x-00000-of-2.parquet", "x-00000-of-00000.parquet"] {
            assert_eq!(of_first(name, &names)?, [name]);
        }
        assert!(of_first(&names[1], &names[1..]).unwrap_err().to_string().contains("train-00001-of-00002"));
        Ok(())
    }

    #[test]
    fn every_shard_is_there_once() {
        for (names, why) in [
            ("a-00000-of-00002.parquet a-00001-of-00002-ab.parquet b.parquet", None),
            ("a-00000-of-00003.parquet a-00002-of-00003.parquet", Some("lacks `a-00001-of-00003.parquet`")),
            ("a-00000-of-00001-a.parquet a-00000-of-00001-b.parquet", Some("has shards of `a` twice")),
            (
                "a-00000-of-00001.parquet a-00000-of-00002.parquet a-00001-of-00002.parquet",
                Some("has shards of `a` twice"),
            ),
        ] {
            match (check_complete(&words(names), "here"), why) {
                (Ok(()), None) => {}
                (Err(error), Some(why)) => assert!(error.to_string().contains(&format!("here {why}")), "{error}"),
                (found, _) => panic!("{names}: {found:?}"),
            }
        }
    }

    #[test]
    fn shards_without_hashes_need_no_list() -> Result<()> {
        let address: Address = "hf://datasets/a/b/data/train-00000-of-00002.parquet@v1".parse()?;
        let texts: Vec<String> = of_address(&address)?.iter().map(Address::to_string).collect();
        let second = "hf://datasets/a/b/data/train-00001-of-00002.parquet@v1";
        assert_eq!(texts, [address.to_string().as_str(), second]);
        let address: Address = "hf://datasets/a/b/train-00001-of-00002.parquet".parse()?;
        assert_eq!(of_address(&address)?, [address]);
        let many: Address = "hf://datasets/a/b/train-00000-of-50000.parquet".parse()?;
        assert_eq!(of_address(&many)?.len(), 50_000);
        Ok(())
    }

    #[test]
    fn shards_with_hashes_are_those_beside() -> Result<()> {
        for folder in ["", "data/"] {
            let address = |name: &str| format!("hf://datasets/a/b/{folder}{name}@v1").parse::<Address>();
            let [first, second] = ["train-00000-of-00002-ab.parquet", "train-00001-of-00002-cd.parquet"];
            let names = [second, "old/train-00001-of-00002-ef.parquet", "README.md", first];
            let found = |count| {
                of_address_among(&address(first)?, || Ok(names[..count].iter().map(|name| name.to_string()).collect()))
            };
            assert_eq!(found(4)?, [address(first)?, address(second)?]);
            assert!(found(3).unwrap_err().to_string().contains("lacks `train-00000-of-00002.parquet`"));
        }
        Ok(())
    }
}
