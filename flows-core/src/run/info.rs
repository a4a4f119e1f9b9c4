//! The subcommand `info`.

use crate::cli::{OutputArgs, count, model_file, print_or_json};
use crate::files::load_model;
use crate::nn::Parameters;
use crate::{Error, Result};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::fmt::Display;
use std::path::PathBuf;

/// Show the settings, structure and size of a model
///
/// The file of a model holds everything needed to use it; this command shows what it holds.
#[derive(Args, Debug)]
pub struct InfoArgs {
    /// The folder of a run, a model.safetensors, or hf://owner/repo/path
    model: String,
    #[command(flatten)]
    output: OutputArgs,
}

impl InfoArgs {
    /// The file of the model.
    ///
    /// # Errors
    /// When it cannot be fetched.
    pub fn file(&self) -> Result<PathBuf> {
        model_file(&self.model)
    }

    /// Prints the model in that file.
    ///
    /// # Errors
    /// When the file cannot be read or the output cannot be written.
    pub fn show(
        &self,
        kind: &str,
        config: &impl Serialize,
        parameters: &Parameters,
        structure: impl Display,
    ) -> Result<()> {
        let path = self.file()?;
        // A model in the format of other programs tells no step.
        let step = load_model(&path).ok().and_then(|file| file.step);
        let (dtype, count_of, structure) = (parameters.dtype().as_str(), parameters.count(), structure.to_string());
        let settings = toml::to_string(config).map_err(|e| Error::Config(e.to_string()))?;
        let value = json!({
            "model": path, "kind": kind, "config": config, "dtype": dtype, "parameters": count_of, "step": step,
            "structure": structure,
        });
        let text = format!(
            "model       {}\nparameters  {} of {dtype}\nstep        {}\n\n{settings}\n{}",
            path.display(),
            count(count_of),
            step.map_or("not known".into(), |step| count(step as usize)),
            structure.trim_end()
        );
        print_or_json(self.output, &value, text)
    }
}
