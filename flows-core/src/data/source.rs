//! Sources of data, as named on the command line.

use super::format::Format;
use super::parts::{Plan, joined};
use super::table::{numbers, read_test};
use super::text::Blocks;
use super::{Dataset, Frame, Frames, Proportions, Schema, Table, Toy, read_frame, read_frames, shards};
use crate::hub::{self, Address};
use crate::{Error, Result, Rng};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::{fmt, str::FromStr};

/// The bytes of a text file that are read at a time.
const BLOCK: usize = 1 << 24;

/// Where data comes from: a 2-D density, a table, a folder of tables, or a table or such a folder on the Hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// A 2-D density by its name.
    Toy(Toy),
    /// A file, see [`read_frame`].
    Table(PathBuf),
    /// A folder, see [`read_frames`].
    Directory(PathBuf),
    /// `hf://owner/repo/path[@revision]`, of a table or of such a folder.
    Hub(Address),
}

impl Source {
    /// A function that prefixes errors with the name of the data.
    pub fn named(&self) -> impl Fn(Error) -> Error {
        move |error| match error {
            Error::Data(message) => Error::Data(format!("{self}: {message}")),
            error => error,
        }
    }

    /// Reads the data: `counts` samples of a density, or tables of finite numbers, which are split in `proportions` where
    /// they are not already.
    ///
    /// # Errors
    /// When it cannot be fetched or read, or has too few rows.
    pub fn load(&self, counts: [usize; 3], proportions: Proportions, rng: &mut Rng) -> Result<Dataset> {
        match self {
            Self::Toy(toy) => Dataset::from_toy(*toy, counts, rng),
            _ => {
                let frames = self.frames()?.unwrap_or_default();
                Dataset::from_numbers(&frames, proportions, rng).map_err(self.named())
            }
        }
    }

    /// The tables as they are in the files; none for a density.
    ///
    /// # Errors
    /// When they cannot be fetched or read.
    pub fn frames(&self) -> Result<Option<Frames>> {
        Ok(Some(match self {
            Self::Toy(_) => return Ok(None),
            Self::Table(path) | Self::Directory(path) => read_frames(path)?,
            Self::Hub(address) => match of_hub(address)? {
                Fetched::File(path) => read_frames(path)?,
                Fetched::Shards(paths) => joined(&paths, &mut |path| read_frame(path))?.into(),
                Fetched::Folder(plan) => {
                    plan.read(&self.to_string(), |name| read_frame(address.join(name)?.fetch()?))?
                }
            },
        }))
    }

    /// The rows to test with: all rows of a table that is not split; none for a density.
    fn test(&self) -> Result<Option<Frame>> {
        Ok(Some(match self {
            Self::Table(path) | Self::Directory(path) => read_test(path)?,
            Self::Hub(address) => match of_hub(address)? {
                Fetched::File(path) => read_test(&path)?,
                Fetched::Folder(plan) => {
                    plan.read_test(&self.to_string(), |name| read_frame(address.join(name)?.fetch()?))?
                }
                Fetched::Shards(paths) => joined(&paths, &mut |path| read_frame(path))?,
            },
            Self::Toy(_) => return Ok(None),
        }))
    }

    /// The test rows: `count` samples of a density, all rows of a table, or the test part of tables that are split.
    ///
    /// # Errors
    /// When they cannot be fetched or read, or a cell is not a finite number.
    pub fn rows(&self, count: usize, rng: &mut Rng) -> Result<Table> {
        match (self, self.test()?) {
            (Self::Toy(toy), _) => Ok(Table { columns: None, data: toy.sample(count, rng)? }),
            (_, frame) => numbers(&frame.unwrap_or_default()).map_err(self.named()),
        }
    }

    /// The test rows with the columns that a schema uses, none of which may be missing; none for a density.
    ///
    /// # Errors
    /// As [`Self::frames`] and [`Schema::numbers`], or when a row has a missing cell.
    pub fn rows_of(&self, schema: &Schema) -> Result<Option<Table>> {
        let Some(frame) = self.test()? else { return Ok(None) };
        complete(schema, &frame).map(Some)
    }

    /// The test rows as by [`Self::rows_of`], or by [`Self::rows`] without a schema; those of a large text file some at a
    /// time, so that its size is not limited by the memory.
    ///
    /// # Errors
    /// As [`Self::rows_of`] and [`Self::rows`].
    pub fn into_blocks<'a>(
        self,
        schema: Option<&'a Schema>,
        count: usize,
        rng: &mut Rng,
    ) -> Result<Box<dyn Iterator<Item = Result<Table>> + 'a>> {
        let large = match &self {
            Self::Table(path) if matches!(Format::of(path), Ok(Format::Text)) => Blocks::open(path, BLOCK)?,
            _ => None,
        };
        if let Some(blocks) = large {
            let table = move |frame: Result<Frame>| {
                let frame = frame?;
                match schema {
                    Some(schema) => complete(schema, &frame),
                    None => numbers(&frame),
                }
                .map_err(self.named())
            };
            return Ok(Box::new(blocks.map(table)));
        }
        let table = schema.map(|schema| self.rows_of(schema).map_err(self.named())).transpose()?.flatten();
        let table = table.map_or_else(|| self.rows(count, rng), Ok)?;
        Ok(Box::new(std::iter::once(Ok(table))))
    }

    /// Makes a path absolute, so that it does not depend on the current folder.
    ///
    /// # Errors
    /// When the current folder is unknown.
    pub fn absolute(self) -> Result<Self> {
        let absolute = |path: PathBuf| std::path::absolute(&path).map_err(|e| Error::file(path, e));
        Ok(match self {
            Self::Table(path) => Self::Table(absolute(path)?),
            Self::Directory(path) => Self::Directory(absolute(path)?),
            other => other,
        })
    }
}

/// The columns that a schema uses, none of which may be missing.
fn complete(schema: &Schema, frame: &Frame) -> Result<Table> {
    match schema.numbers(frame)? {
        (table, 0) => Ok(table),
        (_, count) => Err(Error::Data(format!("rows with a missing cell: {count}; remove them or fill them in"))),
    }
}

/// What an address on the Hub stands for.
enum Fetched {
    File(PathBuf),
    /// All shards of one table.
    Shards(Vec<String>),
    /// A folder, of which nothing is fetched yet.
    Folder(Plan),
}

fn of_hub(address: &Address) -> Result<Fetched> {
    if Format::of(address.path().as_ref()).is_err() {
        return Plan::of(address.names()?, &address.to_string()).map(Fetched::Folder);
    }
    let shards = shards::of_address(address)?;
    if shards.len() == 1 {
        return address.fetch().map(Fetched::File);
    }
    let fetch = |shard: &Address| Ok(shard.fetch()?.to_string_lossy().into_owned());
    shards.iter().map(fetch).collect::<Result<_>>().map(Fetched::Shards)
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Toy(toy) => toy.fmt(f),
            Self::Table(path) | Self::Directory(path) => path.display().fmt(f),
            Self::Hub(address) => address.fmt(f),
        }
    }
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(toy) = text.parse() {
            return Ok(Self::Toy(toy));
        }
        let path = Path::new(text);
        if text.starts_with(hub::SCHEME) {
            Ok(Self::Hub(text.parse()?))
        } else if path.is_dir() {
            Ok(Self::Directory(path.into()))
        } else if Format::of(path).is_ok() {
            Ok(Self::Table(path.into()))
        } else if path.exists() {
            Err(Format::of(path).err().unwrap_or_else(|| Error::file(path, "is no table")))
        } else {
            let names: Vec<_> = Toy::ALL.iter().map(|toy| toy.name()).collect();
            Err(Error::Config(format!(
                "`{text}` names no data; give a table (.csv, .npy, .parquet and others), a folder of tables, \
                 hf://owner/repo/path, or one of {}",
                names.join(", ")
            )))
        }
    }
}

impl TryFrom<String> for Source {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::write_table;

    #[test]
    fn sources_are_recognised_and_loaded() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().to_string_lossy().into_owned();
        let rng = &mut Rng::seed(0);
        for name in ["train.npy", "validation.npy", "test.npy", "all.csv"] {
            let table = Table { columns: None, data: Toy::Rings.sample(20, rng)? };
            write_table(folder.path().join(name), &table)?;
        }
        let cases = [("rings", [4, 5, 6]), (&directory, [20, 20, 20]), (&format!("{directory}/all.csv"), [16, 2, 2])];
        for (text, counts) in cases {
            let source: Source = text.parse()?;
            let data = source.load([4, 5, 6], Proportions::default(), rng)?;
            assert_eq!([data.train, data.validation, data.test].map(|p| p.len()), counts);
            assert_eq!(source.rows(7, rng)?.data.dim(0)?, if text == "rings" { 7 } else { 20 });
            let saved = serde_json::to_string(&source).unwrap();
            assert_eq!(serde_json::from_str::<Source>(&saved).unwrap(), source);
        }
        assert!(matches!("hf://datasets/a/b/c.npy@main".parse()?, Source::Hub(_)));
        assert!("hf://a".parse::<Source>().is_err());
        let error = "moons".parse::<Source>().unwrap_err().to_string();
        assert!(error.contains("two-moons") && error.contains("hf://"), "{error}");
        assert!(Source::Toy(Toy::Rings).load([1, 0, 1], Proportions::default(), rng).is_err());
        Ok(())
    }
}
