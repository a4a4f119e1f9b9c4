//! Arguments that mean the same in every program.

use super::settings::{overlay, parse_settings, read_settings};
use super::{Presets, note};
use clap::Args;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// How a program speaks.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print the results as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Show no progress and no remarks on standard error: by default training has a bar there, or a line every ten
    /// seconds where that is no terminal; errors are always shown
    #[arg(long, short)]
    pub quiet: bool,
}

impl OutputArgs {
    /// A remark on standard error, unless the user asked for quiet.
    pub fn note(&self, text: impl Display) {
        if !self.quiet {
            note(text);
        }
    }
}

/// What every subcommand that trains takes; whole numbers are of the type that TOML has.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Training run")]
pub struct RunArgs {
    /// Start from this complete configuration
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Settings that go over those of the preset, or of the run that is resumed; any part of what a run writes to
    /// config.toml
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Steps of the optimiser
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..))]
    pub steps: Option<i64>,
    /// Examples a step
    #[arg(long, value_name = "B", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..))]
    pub batch: Option<i64>,
    /// Learning rate, before its schedule
    #[arg(long, value_name = "L", allow_negative_numbers = true, value_parser = positive)]
    pub lr: Option<f64>,
    /// What all randomness derives from: the same seed gives the same run
    #[arg(long, value_name = "S", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(0..))]
    pub seed: Option<i64>,
    /// The folder of the run: model, settings, metrics and pictures
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with the run in the folder, exactly where it was saved last, with its settings or what --config, --steps,
    /// --batch and --lr make of them
    #[arg(long, conflicts_with_all = ["overwrite", "preset", "seed"])]
    pub resume: bool,
    /// Replace the run in the folder
    #[arg(long)]
    pub overwrite: bool,
    /// Write event files for TensorBoard to the folder as well; a resumed run that did goes on to
    #[arg(long)]
    pub tensorboard: bool,
}

impl RunArgs {
    /// The settings of a new run: a preset, under the file of `--config`, under `flags`, under the flags
    /// of this group, which go to `seed`, `batch`, `train.steps` and `train.optimizer.lr`.
    ///
    /// The preset is that of `--preset`, else `preset`. `count` is the setting that says how many examples `data` had;
    /// that of a file does not hold for the `data` of a flag.
    ///
    /// # Errors
    /// When there is no such preset, the file cannot be read, or nothing names `data`.
    pub fn layer(&self, presets: Presets, preset: &str, count: &str, flags: Table) -> crate::Result<Table> {
        let preset = self.preset.as_deref().unwrap_or(preset);
        let mut settings = presets.get(preset)?;
        if let Some(path) = &self.config {
            overlay(&mut settings, read_settings(path)?);
        }
        if flags.contains_key("data") {
            settings.remove(count);
        }
        self.override_with(&mut settings, flags);
        if !settings.contains_key("data") {
            let message = format!("the preset `{preset}` has no {count} of its own: name them by --data");
            return Err(crate::Error::Config(message));
        }
        Ok(settings)
    }

    /// Settings that [`Self::layer`] gave as a value of their type.
    ///
    /// # Errors
    /// As [`parse_settings`], naming the file of `--config`.
    pub fn parse<T: DeserializeOwned>(&self, settings: Table) -> crate::Result<T> {
        parse_settings(settings).map_err(|e| match &self.config {
            Some(path) => crate::Error::file(path, e),
            None => e,
        })
    }

    /// The folder of the run on this data: that of `--out`, else in `runs` one of the last part of the data's name,
    /// without its extension.
    pub fn place(&self, data: &str) -> PathBuf {
        let name = Path::new(data.split('@').next().unwrap_or(data)).file_stem().unwrap_or("data".as_ref());
        self.out.clone().unwrap_or_else(|| Path::new("runs").join(name))
    }

    /// Puts `flags`, then those of this group, over `settings`.
    pub fn override_with(&self, settings: &mut Table, flags: Table) {
        overlay(settings, flags);
        let own = [
            (&["seed"][..], self.seed.map(Value::from)),
            (&["batch"], self.batch.map(Value::from)),
            (&["train", "steps"], self.steps.map(Value::from)),
            (&["train", "optimizer", "lr"], self.lr.map(Value::from)),
        ];
        for (place, value) in own {
            let nested = |inner, name: &&str| Value::Table(Table::from_iter([(name.to_string(), inner)]));
            if let Some(Value::Table(flag)) = value.map(|value| place.iter().rfold(value, nested)) {
                overlay(settings, flag);
            }
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| *n > 0.0 && n.is_finite());
    number.ok_or_else(|| "give a positive number, such as 1e-3".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_over_the_file_and_the_file_over_the_preset() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        std::fs::write(&path, "batch = 2\nrows = 9\n[train]\nsteps = 2\nclip_norm = 2.0\n").unwrap();
        let presets = Presets::new("[a]\nabout = 'x'\nbatch = 1\ntrain = { steps = 1, optimizer = { kind = 'sgd' } }");
        let args = RunArgs { config: Some(path), steps: Some(3), lr: Some(0.5), ..Default::default() };
        let flags = "data = 'b.csv'".parse().unwrap();
        let settings = args.layer(presets, "a", "rows", flags).unwrap();
        let want =
            "data = 'b.csv'\nbatch = 2\n[train]\nsteps = 3\nclip_norm = 2.0\noptimizer = { kind = 'sgd', lr = 0.5 }";
        assert_eq!(settings, want.parse::<Table>().unwrap());
        let error = args.layer(presets, "a", "rows", Table::new()).unwrap_err().to_string();
        assert!(error.contains("`a` has no rows of its own") && error.contains("--data"), "{error}");
    }

    #[test]
    fn runs_are_named_after_their_data() {
        let place = |data: &str| RunArgs::default().place(data).display().to_string();
        let names = ["rings", "/a/prices.csv", "photos/", "hf://datasets/a/b/train-00000-of-00002.parquet@v1", "/"];
        let want = ["runs/rings", "runs/prices", "runs/photos", "runs/train-00000-of-00002", "runs/data"];
        assert_eq!(names.map(place), want);
        let args = RunArgs { out: Some("here".into()), ..RunArgs::default() };
        assert_eq!(args.place("rings"), PathBuf::from("here"));
    }
}
