//! What a model is over: the one place that tells.

use crate::train::TrainArgs;
use ffjord::ImageModel;
use ffjord::field::FieldConfig;
use ffjord::run::images;
use flows_core::Result;
use flows_core::cli::{ModelArgs, model_file};
use flows_core::data::Toy;
use flows_core::data::images::ImageSource;
use flows_core::files::load_model;
use flows_core::run::read_settings;
use std::path::Path;

/// What a model is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rows of numbers.
    Table,
    /// The positions of particles, in a space of so many dimensions, a configuration a row.
    Particles(usize),
    /// Images.
    Images,
}

impl Kind {
    /// Of a model over rows, by its field.
    pub fn of_rows(field: &FieldConfig) -> Self {
        field.space().map_or(Self::Table, Self::Particles)
    }

    /// Of a model that was saved, whose kind of rows does not matter.
    pub fn of_model(path: &Path) -> Result<Self> {
        Ok(if load_model(path)?.kind == ImageModel::KIND { Self::Images } else { Self::Table })
    }

    /// Of the model that the arguments name, likewise.
    pub fn of(args: &ModelArgs) -> Result<Self> {
        Self::of_model(&model_file(&args.model)?)
    }

    /// Of a run, by its folder, its settings, its preset or its data; its field tells the kind of rows.
    pub fn of_run(args: &TrainArgs) -> Result<Self> {
        // What the settings of runs over images alone have.
        let by_settings = |path: &Path| Ok::<_, flows_core::Error>(read_settings(path)?.contains_key("model"));
        // A density's name is never that of a folder, though a run may have made one.
        let by_data = |data: &String| data.parse::<Toy>().is_err() && ImageSource::of(data).is_some();
        let images = match (&args.run.out, &args.run.preset, &args.run.config) {
            // The run that goes on unless another is named is one of points in the plane. What is wrong with the
            // settings is said when they are read for good.
            (out, ..) if args.run.resume => {
                out.as_ref().is_some_and(|out| by_settings(&out.join("config.toml")).unwrap_or(false))
            }
            (_, Some(preset), _) => images::PRESETS.get(preset).is_ok(),
            _ if args.settings.data.as_ref().is_some_and(by_data) => true,
            (_, _, Some(path)) => by_settings(path)?,
            _ => false,
        };
        Ok(if images { Self::Images } else { Self::Table })
    }
}
