//! Checks that every program must pass.

use crate::run::{Presets, parse_settings};
use crate::{Error, Result};
use clap::Command;
use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

fn bad(message: String) -> Error {
    Error::Config(message)
}

/// Passes if every subcommand has a description and shows an example, and `train` names the presets.
///
/// # Errors
/// When one does not.
///
/// # Panics
/// When arguments contradict each other.
pub fn check_arguments(mut program: Command, presets: &[Presets]) -> Result<()> {
    program.build();
    program.clone().debug_assert();
    for command in program.get_subcommands().filter(|c| c.get_name() != "help") {
        let help = command.clone().render_long_help().to_string();
        if !help.contains("Example") || command.get_long_about().is_none() {
            return Err(bad(format!("no description or no example in {help}")));
        }
    }
    let train = program.find_subcommand_mut("train").ok_or_else(|| bad("there is no `train`".into()))?;
    let help = train.render_long_help().to_string();
    for presets in presets {
        for (name, _) in presets.list()? {
            if !help.contains(&format!(" {name}")) {
                return Err(bad(format!("no preset {name} in {help}")));
            }
        }
    }
    Ok(())
}

/// Passes if every preset has a description, its settings (on `data`, unless it names data itself) pass `check`, and
/// they are unchanged after they are written and read.
///
/// # Errors
/// When one does not.
pub fn check_presets<T: Serialize + DeserializeOwned + PartialEq>(
    presets: Presets,
    data: &str,
    check: impl Fn(&T) -> Result<()>,
) -> Result<()> {
    for (name, about) in presets.list()? {
        let named = |e: Error| bad(format!("{name}: {e}"));
        let mut settings = presets.get(&name)?;
        settings.entry("data").or_insert(Value::from(data));
        let settings: T = parse_settings(settings).map_err(named)?;
        check(&settings).map_err(named)?;
        let text = toml::to_string(&settings).map_err(|e| bad(format!("{name}: {e}")))?;
        let written: Table = text.parse().map_err(|e| bad(format!("{name}: {e}")))?;
        if about.is_empty() || parse_settings::<T>(written).map_err(named)? != settings {
            return Err(bad(format!("{name} has no description, or its settings change when written and read")));
        }
    }
    Ok(())
}
