//! Layered settings in TOML.

use crate::data::images::{ImageSource, Splits};
use crate::data::{Dataset, Source};
use crate::files::write_atomically;
use crate::nn::Parameters;
use crate::text::plural;
use crate::train::{TrainConfig, Trainer};
use crate::{Error, Result, Rng};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use toml::{Table, Value};

/// Named settings, embedded in a program as TOML: one table per preset, each with an `about`.
#[derive(Clone, Copy, Debug)]
pub struct Presets(&'static str);

impl Presets {
    /// The presets in `text`.
    pub const fn new(text: &'static str) -> Self {
        Self(text)
    }

    /// The name and description of each preset.
    ///
    /// # Errors
    /// When the text is malformed.
    pub fn list(self) -> Result<Vec<(String, String)>> {
        let about = |preset: &Value| preset.get("about").and_then(Value::as_str).unwrap_or_default().to_string();
        Ok(self.tables()?.iter().map(|(name, preset)| (name.clone(), about(preset))).collect())
    }

    /// One line per preset: its name, padded to `width` columns, and its description.
    pub fn lines(self, width: usize) -> String {
        let presets = self.list().unwrap_or_default().into_iter();
        presets.map(|(name, about)| format!("  {name:width$}  {about}\n")).collect()
    }

    /// The settings of the preset of this name.
    ///
    /// # Errors
    /// When there is no such preset; the message lists the presets.
    pub fn get(self, name: &str) -> Result<Table> {
        let mut presets = self.tables()?;
        let Some(Value::Table(mut preset)) = presets.remove(name) else {
            let names: Vec<_> = presets.keys().cloned().collect();
            return Err(Error::Config(format!("there is no preset `{name}`: choose one of {}", names.join(", "))));
        };
        preset.remove("about");
        Ok(preset)
    }

    fn tables(self) -> Result<Table> {
        self.0.parse().map_err(|e| Error::Config(format!("the presets of this program are malformed: {e}")))
    }
}

/// Overrides the settings `base` by `over`: tables are merged, everything else is replaced.
///
/// A table with another `kind` than the one that it overrides replaces it, since the settings of one kind
/// mean nothing to another.
pub fn overlay(base: &mut Table, over: Table) {
    let merges = |old: &Table, new: &Table| new.get("kind").is_none_or(|kind| old.get("kind") == Some(kind));
    for (key, value) in over {
        let merged = match (base.remove(&key), value) {
            (Some(Value::Table(mut old)), Value::Table(new)) if merges(&old, &new) => {
                overlay(&mut old, new);
                Value::Table(old)
            }
            (_, value) => value,
        };
        base.insert(key, merged);
    }
}

/// Reads the TOML file `path`.
///
/// # Errors
/// When it is missing or not TOML.
pub fn read_settings(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::file(path, format_args!("cannot be read ({e}); check the path")))?;
    text.parse().map_err(|e: toml::de::Error| Error::file(path, format_args!("is not TOML: {}", one_line(&e))))
}

/// Deserialises settings.
///
/// # Errors
/// When a name is unknown or missing, or a value has the wrong type; the message says where.
pub fn parse_settings<T: DeserializeOwned>(settings: Table) -> Result<T> {
    settings.try_into().map_err(|e| Error::Config(format!("the settings cannot be used: {}", one_line(&e))))
}

/// A config of the library from settings without the fields that are `decided` elsewhere, for instance by the data.
///
/// # Errors
/// When the settings set a decided field, or cannot be deserialised.
pub fn with_decided<C: DeserializeOwned>(
    mut settings: Table,
    decided: impl IntoIterator<Item = (&'static str, Value)>,
) -> Result<C> {
    for (name, value) in decided {
        if settings.insert(name.into(), value).is_some() {
            return Err(Error::Config(format!("`{name}` is determined elsewhere: omit it")));
        }
    }
    settings.try_into().map_err(|e: toml::de::Error| Error::Config(one_line(&e)))
}

/// The settings of a config without the fields that are `decided` elsewhere; the inverse of [`with_decided`].
pub fn without(config: &impl Serialize, decided: &[&str]) -> Table {
    // A config struct always serialises to a table.
    let mut settings = Table::try_from(config).unwrap_or_default();
    settings.retain(|name, _| !decided.contains(&name));
    settings
}

/// Writes settings to the file `path` atomically.
///
/// # Errors
/// When a number is out of the range of TOML, or the file cannot be written.
pub fn write_settings(path: &Path, settings: &impl Serialize) -> Result<()> {
    let text = toml::to_string(settings)
        .map_err(|e| Error::file(path, format_args!("cannot be written ({})", one_line(&e))))?;
    write_atomically(path, |file| file.write_all(text.as_bytes()).map_err(|e| Error::unwritten(path, e)))
}

/// Checks that `data` has `then` examples, called `noun`, as when the run began.
///
/// # Errors
/// When it has more or fewer.
pub fn check_count(then: Option<usize>, now: usize, noun: &str, data: impl Display) -> Result<()> {
    match then {
        Some(then) if then != now => {
            let then = format!("{} of {data} when the run began", plural(then, noun));
            Err(Error::Data(format!("there were {then}, and there are {now} now; restore them or start a new run")))
        }
        _ => Ok(()),
    }
}

/// What a run remembers of its data from files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Rows {
    /// The number of examples; from runs older than the hash.
    Count(usize),
    /// The number of examples and a hash of their numbers in hexadecimal.
    Content {
        /// The number of examples.
        count: usize,
        /// The hash.
        hash: String,
    },
}

impl Rows {
    /// What to remember of `data`, with [`Dataset::hash`]; checks that they are the same as `then`, when the run began.
    ///
    /// # Errors
    /// When there are more or fewer rows, or other numbers.
    pub fn of(data: &Dataset, source: &Source, then: Option<Self>) -> Result<Option<Self>> {
        match source {
            Source::Toy(_) => Ok(None),
            _ => Self::known((data.rows(), "row"), || data.hash(), ("numbers", source), then).map(Some),
        }
    }

    /// What to remember of images, with [`Splits::hash`]; checks likewise.
    ///
    /// # Errors
    /// When there are more or fewer images, or others.
    pub fn of_images(images: &Splits, source: &ImageSource, then: Option<Self>) -> Result<Option<Self>> {
        match source {
            ImageSource::Digits => Ok(None),
            _ => {
                let count = images.count();
                if let Some(Self::Count(known)) = then
                    && known != count
                {
                    return Err(Error::Data(format!(
                        "there were {} of {source} when the run began, and there are {count} now: they have changed, or the run \
                         was begun by a version that found images differently (it used the `val` images for testing, and \
                         passed over some files); evaluate its model with --data {source}, and start a new run to go on training",
                        plural(known, "image")
                    )));
                }
                Self::known((count, "image"), || Ok(images.hash()), ("images", source), then).map(Some)
            }
        }
    }

    /// What to remember of `count` examples, which messages call `noun`; `content` names what their `hash` is of, and `source`
    /// where they come from. Checks that their number and hash are those of `then`, when the run began.
    ///
    /// # Errors
    /// When they are not.
    pub fn known(
        (count, noun): (usize, &str),
        hash: impl FnOnce() -> Result<u64>,
        (content, source): (&str, &dyn Display),
        then: Option<Self>,
    ) -> Result<Self> {
        let hash = || Ok::<_, Error>(format!("{:016x}", hash()?));
        let Some(then) = then else { return Ok(Self::Content { count, hash: hash()? }) };
        let (Self::Count(known) | Self::Content { count: known, .. }) = &then;
        check_count(Some(*known), count, noun, source)?;
        match &then {
            Self::Content { hash: known, .. } if *known != hash()? => Err(Error::Data(format!(
                "the {content} of {source}, or their order, are not those of when the run began; restore them or start a new \
                 run"
            ))),
            _ => Ok(then),
        }
    }
}

/// Checks that none of these named settings is 0.
///
/// # Errors
/// When one is.
pub fn check_at_least_one(settings: &[(&str, usize)]) -> Result<()> {
    match settings.iter().find(|(_, value)| *value == 0) {
        Some((name, _)) => Err(Error::Config(format!("`{name}` is 0, but must be at least 1"))),
        None => Ok(()),
    }
}

/// Checks that a `trial` model, which may be tiny, can be trained with these settings.
///
/// # Errors
/// When a setting cannot be used.
pub fn check_training(trial: &Parameters, train: &TrainConfig) -> Result<()> {
    if train.optimizer.lr() == 0.0 {
        return Err(Error::Config("a learning rate of 0 trains nothing: set it above 0".into()));
    }
    Trainer::new(trial, train.clone(), Rng::seed(0)).map(drop)
}

/// Checks a temperature, a factor on the standard deviation of noise.
///
/// # Errors
/// When it is below 0 or not finite.
pub fn check_temperature(temperature: f64) -> Result<()> {
    if temperature >= 0.0 && temperature.is_finite() {
        return Ok(());
    }
    Err(Error::Config(format!("the temperature is {temperature}: give a number of at least 0, for instance 0.7")))
}

fn one_line(error: &impl ToString) -> String {
    let text = error.to_string();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_replace_and_the_rest_merges() {
        let mut base: Table =
            "a = 1\nm = { kind = 'x', p = 1, q = { r = 1 } }\nn = { kind = 'x', p = 1 }".parse().unwrap();
        let over: Table = "b = 2\nm = { kind = 'x', q = { s = 2 } }\nn = { kind = 'y', t = 2 }".parse().unwrap();
        overlay(&mut base, over);
        let want = "a = 1\nb = 2\nm = { kind = 'x', p = 1, q = { r = 1, s = 2 } }\nn = { kind = 'y', t = 2 }";
        assert_eq!(base, want.parse::<Table>().unwrap());
    }

    #[test]
    fn rows_are_known_again() -> Result<()> {
        let data = |last: f64| {
            let values = vec![1.0, 2.0, 3.0, last];
            let data = candle_core::Tensor::from_vec(values, (4, 1), &candle_core::Device::Cpu)?;
            Dataset::whole(crate::data::Table { columns: None, data })
        };
        let source: Source = "some.csv".parse()?;
        let rows = Rows::of(&data(4.0)?, &source, None)?;
        assert_eq!(Rows::of(&data(4.0)?, &source, rows.clone())?, rows);
        let error = Rows::of(&data(5.0)?, &source, rows.clone()).unwrap_err().to_string();
        assert!(error.contains("the numbers of some.csv"), "{error}");
        // A run older than the hash knows their number alone.
        let old = Some(Rows::Count(12));
        assert_eq!(Rows::of(&data(5.0)?, &source, old.clone())?, old);
        assert!(Rows::of(&data(5.0)?, &source, Some(Rows::Count(13))).unwrap_err().to_string().contains("13 rows"));
        assert_eq!(Rows::of(&data(4.0)?, &Source::Toy(crate::data::Toy::Rings), None)?, None);
        for rows in [rows, old].into_iter().flatten() {
            let table: Table =
                toml::to_string(&Table::from_iter([("rows".to_string(), Value::try_from(&rows).unwrap())]))
                    .unwrap()
                    .parse()
                    .unwrap();
            assert_eq!(table["rows"].clone().try_into::<Rows>().unwrap(), rows);
        }
        Ok(())
    }

    #[test]
    fn old_runs_tell_that_images_are_found_otherwise() -> Result<()> {
        let images = |count| crate::data::images::Images::new([1, 1, 1], vec![7; count]);
        let splits = Splits { train: images(3)?, validation: images(1)?, test: images(1)?, test_held_out: false };
        let source: ImageSource = "photos".parse()?;
        let known = |count| Rows::of_images(&splits, &source, Some(Rows::Count(count)));
        assert_eq!(known(5)?, Some(Rows::Count(5)));
        let error = known(4).unwrap_err().to_string();
        assert!(error.contains("4 images of photos") && error.contains("--data photos"), "{error}");
        Ok(())
    }

    #[test]
    fn errors_list_the_presets_and_fields() {
        let presets = Presets::new("[a]\nabout = 'first'\nx = 1\n[b]\n");
        assert_eq!(presets.get("a").unwrap(), "x = 1".parse::<Table>().unwrap());
        assert_eq!(presets.list().unwrap()[0], ("a".into(), "first".into()));
        assert_eq!(presets.lines(3), "  a    first\n  b    \n");
        assert!(presets.get("c").unwrap_err().to_string().contains("choose one of a, b"));
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Settings {
            #[serde(rename = "x")]
            _x: u64,
        }
        let error = parse_settings::<Settings>("x = 1\nz = 2".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("`z`") && !error.contains('\n'), "{error}");
        assert!(parse_settings::<Settings>("x = -1".parse().unwrap()).is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        assert!(read_settings(&path).unwrap_err().to_string().contains("check the path"));
        std::fs::write(&path, "x = = 1").unwrap();
        assert!(read_settings(&path).unwrap_err().to_string().contains("line 1"));
    }
}
