//! Settings as TOML, in layers.

use crate::files::write_atomically;
use crate::nn::Parameters;
use crate::text::plural;
use crate::train::{TrainConfig, Trainer};
use crate::{Error, Result, Rng};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use toml::{Table, Value};

/// Named settings, embedded in a program as TOML: one table a preset, each with an `about`.
#[derive(Clone, Copy, Debug)]
pub struct Presets(&'static str);

impl Presets {
    /// The presets in `text`.
    pub const fn new(text: &'static str) -> Self {
        Self(text)
    }

    /// The name of each, and what it is for.
    ///
    /// # Errors
    /// When the text is malformed.
    pub fn list(self) -> Result<Vec<(String, String)>> {
        let about = |preset: &Value| preset.get("about").and_then(Value::as_str).unwrap_or_default().to_string();
        Ok(self.tables()?.iter().map(|(name, preset)| (name.clone(), about(preset))).collect())
    }

    /// A line for each, its name in `width` columns before what it is for.
    pub fn lines(self, width: usize) -> String {
        let presets = self.list().unwrap_or_default().into_iter();
        presets.map(|(name, about)| format!("  {name:width$}  {about}\n")).collect()
    }

    /// The settings of this name.
    ///
    /// # Errors
    /// When there are none; the message lists those that there are.
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

/// Puts the settings `over` over `base`: tables are merged, all else is replaced.
///
/// A table that names another `kind` than the one below it replaces it, since the settings of one kind
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

/// The settings as a value of their type.
///
/// # Errors
/// When a name is unknown or missing, or a value is of another type; the message says where.
pub fn parse_settings<T: DeserializeOwned>(settings: Table) -> Result<T> {
    settings.try_into().map_err(|e| Error::Config(format!("the settings cannot be used: {}", one_line(&e))))
}

/// A config of the library from settings that leave out what is `decided` elsewhere, by the data for instance.
///
/// # Errors
/// When the settings name what is decided, or are no such config.
pub fn with_decided<C: DeserializeOwned>(
    mut settings: Table,
    decided: impl IntoIterator<Item = (&'static str, Value)>,
) -> Result<C> {
    for (name, value) in decided {
        if settings.insert(name.into(), value).is_some() {
            return Err(Error::Config(format!("`{name}` is decided elsewhere: leave it out")));
        }
    }
    settings.try_into().map_err(|e: toml::de::Error| Error::Config(one_line(&e)))
}

/// The settings that [`with_decided`] makes a config of: all of it but what is `decided` elsewhere.
pub fn without(config: &impl Serialize, decided: &[&str]) -> Table {
    // A config of names, numbers and words is always a table.
    let mut settings = Table::try_from(config).unwrap_or_default();
    settings.retain(|name, _| !decided.contains(&name));
    settings
}

/// Writes settings to the file `path`, whole or not at all.
///
/// # Errors
/// When a number is beyond what TOML knows, or the file cannot be written.
pub fn write_settings(path: &Path, settings: &impl Serialize) -> Result<()> {
    let text = toml::to_string(settings)
        .map_err(|e| Error::file(path, format_args!("cannot be written ({})", one_line(&e))))?;
    write_atomically(path, |file| file.write_all(text.as_bytes()).map_err(|e| Error::unwritten(path, e)))
}

/// Passes if `data` has as many examples, called `noun`, as `then` says that it had when a run began.
///
/// # Errors
/// When it has more or fewer.
pub fn check_count(then: Option<usize>, now: usize, noun: &str, data: impl Display) -> Result<()> {
    match then {
        Some(then) if then != now => {
            let then = format!("{} of {data} when the run began", plural(then, noun));
            Err(Error::Data(format!("there were {then}, and there are {now} now; restore them or train anew")))
        }
        _ => Ok(()),
    }
}

/// Passes if none of these settings, each with its name, is 0.
///
/// # Errors
/// When one is.
pub fn check_at_least_one(settings: &[(&str, usize)]) -> Result<()> {
    match settings.iter().find(|(_, value)| *value == 0) {
        Some((name, _)) => Err(Error::Config(format!("`{name}` is 0, but must be at least 1"))),
        None => Ok(()),
    }
}

/// Passes if a model, one as small as may be for instance, can be trained so.
///
/// # Errors
/// When a setting cannot be used.
pub fn check_training(trial: &Parameters, train: &TrainConfig) -> Result<()> {
    if train.optimizer.lr() == 0.0 {
        return Err(Error::Config("with a learning rate of 0 nothing is learnt: set it above 0".into()));
    }
    Trainer::new(trial, train.clone(), Rng::seed(0)).map(drop)
}

/// Passes if noise can have this standard deviation.
///
/// # Errors
/// When it is below 0 or not finite.
pub fn check_temperature(temperature: f64) -> Result<()> {
    if temperature >= 0.0 && temperature.is_finite() {
        return Ok(());
    }
    Err(Error::Config(format!("a temperature of {temperature}: give a number from 0, 0.7 for instance")))
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
    fn presets_and_errors_name_what_there_is() {
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
