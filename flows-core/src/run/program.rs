//! What a program calls its runs, and how the settings of a run are merged.

use super::Run;
use super::folder::Folder;
use super::settings::{Presets, overlay, parse_settings, read_settings};
use crate::cli::{OutputArgs, RunArgs};
use crate::files::read_metadata;
use crate::train::Ranks;
use crate::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use toml::Table;

/// What a program calls its training runs and their settings.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The command that starts the program.
    pub name: &'static str,
    /// Complete configurations by name.
    pub presets: Presets,
    /// The setting, and flag, that names the data of a run; a run's folder is named after its value.
    pub subject: &'static str,
    /// The setting for the number of examples that the subject had when the run began; also the word for them.
    pub counted: &'static str,
    /// The pictures that a run writes to its folder besides the loss curve.
    pub files: &'static [&'static str],
    /// Settings that must not change when a run is resumed, since they determine its data; `seed` always is one.
    pub kept: &'static [&'static str],
    /// Settings of the model that a resumed run may change ([`Checkpoint::changeable`](crate::train::Checkpoint)).
    pub changeable: &'static [&'static str],
}

/// The settings of a run, as in its `config.toml`.
pub trait Settings: Serialize + DeserializeOwned {
    /// The settings as the run saves them, for example with absolute paths and with shares as numbers.
    ///
    /// # Errors
    /// When they contradict each other.
    fn resolve(self, resumed: bool) -> Result<Self> {
        let _ = resumed;
        Ok(self)
    }

    /// Checks everything about the settings that does not depend on the data.
    ///
    /// # Errors
    /// When a setting cannot be used.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl Program {
    /// The run that the arguments describe, and its checked settings. A new run's settings are those of the preset
    /// (`preset` unless the arguments name one), overridden by the file `--config`, overridden by `flags`, a structure
    /// of options, and by those in `args`. A resumed run's own settings are overridden by the file and by the flags in
    /// `args`. Nothing is written yet.
    ///
    /// With several `ranks`, rank 0 does this and sends the settings to the others.
    ///
    /// # Errors
    /// When a setting is unknown or cannot be used, or the folder already holds a run, holds one that is training, or
    /// holds none to resume.
    pub fn open<T: Settings>(
        &self,
        args: &RunArgs,
        output: OutputArgs,
        preset: &str,
        flags: &impl Serialize,
        ranks: &Ranks,
    ) -> Result<(Run, T)> {
        let mut opened = None;
        let text = ranks.of_first(|| {
            let (folder, settings) =
                if args.resume { self.resume(args, preset)? } else { self.create(args, preset, flags)? };
            // TOML preserves numbers exactly.
            let text = if ranks.size() > 1 { toml::to_string(&settings).map_err(unwritable)? } else { String::new() };
            opened = Some((folder, settings));
            Ok(text)
        })?;
        let (folder, settings) = match opened {
            Some(opened) => opened,
            None => {
                let settings = parse_settings(text.parse().map_err(unwritable)?)?;
                (Folder::of_another(self.place_of(args, preset, &settings)?), settings)
            }
        };
        let kept = self.kept(&settings)?;
        Ok((Run::new(*self, folder, args, output, kept, ranks), settings))
    }

    /// The folder of the run.
    fn place_of(&self, args: &RunArgs, preset: &str, settings: &impl Serialize) -> Result<PathBuf> {
        let subject = match args.resume {
            true => self.subject_of(&self.presets.get(preset)?),
            false => Table::try_from(settings).ok().and_then(|settings| self.subject_of(&settings)),
        };
        Ok(place(args, subject))
    }

    fn create<T: Settings>(&self, args: &RunArgs, preset: &str, flags: &impl Serialize) -> Result<(Folder, T)> {
        let settings = self.layers(args, preset, flags)?;
        let settings: T = parse_settings(settings).map_err(|e| of_file(args.config.as_deref(), e))?;
        let settings = settings.resolve(false)?;
        let folder = Folder::new(self.place_of(args, preset, &settings)?, self.files, args.overwrite)?;
        settings.check()?;
        Ok((folder, settings))
    }

    fn resume<T: Settings>(&self, args: &RunArgs, preset: &str) -> Result<(Folder, T)> {
        let folder = Folder::resume(self.place_of(args, preset, &())?, self.files)?;
        let config = folder.file("config.toml");
        let parse = |settings, path: &Path| -> Result<T> {
            parse_settings::<T>(settings).map_err(|e| of_file(Some(path), e))?.resolve(true)
        };
        let own = read_settings(&config)?;
        let over = args.config.as_deref().map(read_settings).transpose()?.unwrap_or_default();
        let mut settings = own.clone();
        overlay(&mut settings, over.clone());
        overlay(&mut settings, layer(&args.settings)?);
        let settings = parse(settings, args.config.as_deref().unwrap_or(&config))?;
        // Runs saved by older versions have these settings only in their `config.toml`.
        let now = self.kept(&settings)?;
        let before = match saved_run(&folder.file("training.safetensors")) {
            Some(before) => before,
            None => read_back(&self.kept(&parse(own, &config)?)?),
        };
        if let Some(name) = difference(&before, &read_back(&now)) {
            let (path, remedy) = match &args.config {
                Some(path) if over.contains_key(&name) => (path, "omit it"),
                _ => (&config, "restore it"),
            };
            let message = format!("has a `{name}` other than the run's: {remedy}, or start a new run");
            return Err(Error::file(path, message));
        }
        settings.check()?;
        Ok((folder, settings))
    }

    /// The settings of a new run, merged in layers.
    fn layers(&self, args: &RunArgs, preset: &str, flags: &impl Serialize) -> Result<Table> {
        let preset = args.preset.as_deref().unwrap_or(preset);
        let (mut settings, flags) = (self.presets.get(preset)?, layer(flags)?);
        if let Some(path) = &args.config {
            overlay(&mut settings, read_settings(path)?);
        }
        // The count in a file does not apply to a subject given by a flag.
        if flags.contains_key(self.subject) {
            settings.remove(self.counted);
        }
        overlay(&mut settings, flags);
        overlay(&mut settings, layer(&args.settings)?);
        if !settings.contains_key(self.subject) {
            let Self { subject, counted, .. } = self;
            let message = format!("the preset `{preset}` has no {counted} of its own: name them by --{subject}");
            return Err(Error::Config(message));
        }
        Ok(settings)
    }

    fn subject_of(&self, settings: &Table) -> Option<String> {
        settings.get(self.subject).and_then(toml::Value::as_str).map(String::from)
    }

    /// The settings that must not change when the run is resumed.
    pub(super) fn kept(&self, settings: &impl Serialize) -> Result<Map<String, Value>> {
        let unusable = |e| Error::Config(format!("the settings do not serialise to JSON ({e})"));
        let Value::Object(mut settings) = serde_json::to_value(settings).map_err(unusable)? else {
            return Ok(Map::new());
        };
        settings.retain(|name, value| (name == "seed" || self.kept.contains(&name.as_str())) && !value.is_null());
        Ok(settings)
    }
}

/// The kept settings of the run in this training file, if it was saved with them.
fn saved_run(training: &Path) -> Option<Map<String, Value>> {
    let state: Value = serde_json::from_str(read_metadata(training)?.get("state")?).ok()?;
    state.get("run")?.as_object().cloned()
}

/// The settings after a round trip through JSON, which rounds the last digit of some numbers.
fn read_back(settings: &Map<String, Value>) -> Map<String, Value> {
    serde_json::to_string(settings).and_then(|text| serde_json::from_str(&text)).unwrap_or_default()
}

/// The name of a setting that differs.
fn difference(before: &Map<String, Value>, now: &Map<String, Value>) -> Option<String> {
    before.keys().chain(now.keys()).find(|name| before.get(*name) != now.get(*name)).cloned()
}

fn unwritable(error: impl Display) -> Error {
    Error::Config(format!("the settings cannot be sent to the other ranks ({error})"))
}

/// The given options as a layer of settings.
fn layer(options: &impl Serialize) -> Result<Table> {
    Table::try_from(options).map_err(|e| Error::Config(format!("the flags cannot be used as settings ({e})")))
}

/// The folder given by `--out`, else one in `runs` named after the last part of the subject, without its extension.
fn place(args: &RunArgs, subject: Option<String>) -> PathBuf {
    let subject = subject.unwrap_or_default();
    let name = Path::new(subject.split('@').next().unwrap_or(&subject)).file_stem().unwrap_or("data".as_ref());
    args.out.clone().unwrap_or_else(|| Path::new("runs").join(name))
}

fn of_file(path: Option<&Path>, error: Error) -> Error {
    match path {
        Some(path) => Error::file(path, error),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{OptimizerFlags, RunFlags, TrainFlags};

    const PROGRAM: Program = Program {
        name: "test",
        presets: Presets::new("[a]\nabout = 'x'\nbatch = 1\ntrain = { steps = 1, optimizer = { kind = 'sgd' } }"),
        subject: "data",
        counted: "rows",
        files: &[],
        kept: &["data"],
        changeable: &[],
    };

    #[derive(Serialize)]
    struct Flags {
        data: Option<&'static str>,
    }

    impl Settings for Table {}

    #[test]
    fn flags_override_the_file_and_the_file_overrides_the_preset() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        std::fs::write(&path, "batch = 2\nrows = 9\n[train]\nsteps = 2\nclip_norm = 2.0\n").unwrap();
        let train = TrainFlags { steps: Some(3), optimizer: OptimizerFlags { lr: Some(0.5) } };
        let settings = RunFlags { train, ..Default::default() };
        let args = RunArgs { config: Some(path), settings, ..Default::default() };
        let settings = PROGRAM.layers(&args, "a", &Flags { data: Some("b.csv") }).unwrap();
        let want =
            "data = 'b.csv'\nbatch = 2\n[train]\nsteps = 3\nclip_norm = 2.0\noptimizer = { kind = 'sgd', lr = 0.5 }";
        assert_eq!(settings, want.parse::<Table>().unwrap());
        let error = PROGRAM.layers(&args, "a", &Flags { data: None }).unwrap_err().to_string();
        assert!(error.contains("`a` has no rows of its own") && error.contains("--data"), "{error}");
    }

    #[test]
    fn runs_are_named_after_their_subject() {
        let at = |data: &str| place(&RunArgs::default(), Some(data.to_string())).display().to_string();
        let names = ["rings", "/a/prices.csv", "photos/", "hf://datasets/a/b/train-00000-of-00002.parquet@v1", "/"];
        let want = ["runs/rings", "runs/prices", "runs/photos", "runs/train-00000-of-00002", "runs/data"];
        assert_eq!(names.map(at), want);
        let args = RunArgs { out: Some("here".into()), ..RunArgs::default() };
        assert_eq!(place(&args, Some("rings".into())), PathBuf::from("here"));
    }

    /// For settings from the file of `--config` and from the run's own file.
    #[test]
    fn a_resumed_run_keeps_its_data_and_its_seed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let (config, over) = (path.join("config.toml"), folder.path().join("over.toml"));
        std::fs::create_dir(&path).unwrap();
        let open = |over: Option<&Path>| {
            let args = RunArgs {
                out: Some(path.clone()),
                resume: true,
                config: over.map(Path::to_path_buf),
                ..Default::default()
            };
            let (output, ranks) = (OutputArgs::default(), Ranks::alone());
            PROGRAM.open::<Table>(&args, output, "a", &Table::new(), &ranks).map(|(_, settings)| settings)
        };
        let refused = |over: Option<&Path>, words: &[&str]| {
            let error = open(over).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error}");
        };
        std::fs::write(&config, "seed = 1\ndata = 'x'\nbatch = 2").unwrap();
        std::fs::write(&over, "seed = 1\nbatch = 3").unwrap();
        assert_eq!(open(Some(&over)).unwrap()["batch"], 3.into());
        std::fs::write(&over, "seed = 2").unwrap();
        refused(Some(&over), &["over.toml", "`seed`", "omit it"]);
        // The checkpoint records the settings of the run.
        let metadata = [("state", r#"{"run":{"data":"x","seed":1}}"#.to_string())].into();
        crate::files::write_tensors(&path.join("training.safetensors"), &metadata, &[]).unwrap();
        assert!(open(None).is_ok());
        for (settings, name) in [("seed = 2\ndata = 'x'", "`seed`"), ("seed = 1\ndata = 'y'", "`data`")] {
            std::fs::write(&config, settings).unwrap();
            refused(None, &["config.toml", name, "restore it"]);
        }
        std::fs::write(&over, "seed = 1\ndata = 'x'").unwrap();
        assert!(open(Some(&over)).is_ok());
    }
}
