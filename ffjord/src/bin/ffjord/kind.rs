//! The kind of data that a model is over.

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

/// The kind of data that a model is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rows of numbers.
    Table,
    /// Rows of the positions of particles in a space of this dimension.
    Particles(usize),
    /// Images.
    Images,
}

impl Kind {
    /// The kind of rows, by the field of their model.
    pub fn of_rows(field: &FieldConfig) -> Self {
        field.space().map_or(Self::Table, Self::Particles)
    }

    /// The kind of a saved model; all rows count as a table.
    pub fn of_model(path: &Path) -> Result<Self> {
        Ok(if load_model(path)?.kind == ImageModel::KIND { Self::Images } else { Self::Table })
    }

    /// The kind of the model that the arguments name, likewise.
    pub fn of(args: &ModelArgs) -> Result<Self> {
        Self::of_model(&model_file(&args.model)?)
    }

    /// The kind of a run, by its folder, its settings, its preset or its data; all rows count as a table.
    pub fn of_run(args: &TrainArgs) -> Result<Self> {
        // Only the settings of runs on images have a `model`.
        let by_settings = |path: &Path| Ok::<_, flows_core::Error>(read_settings(path)?.contains_key("model"));
        // The name of a density is never that of a folder, even if a run has created one.
        let by_data = |data: &String| data.parse::<Toy>().is_err() && ImageSource::of(data).is_some();
        let images = match (&args.run.out, &args.run.preset, &args.run.config) {
            // Without --out the resumed run is one on points in the plane. Errors in its settings are reported when
            // they are parsed.
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
