//! What programs that work on images share.

use super::{OutputArgs, count, plural};
use crate::data::images::{Images, Splits};
use crate::{Error, Result};
use clap::Args;
use toml::{Table, Value};

/// What every subcommand that trains on images takes of a [`Fit`](crate::data::images::Fit).
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Images")]
pub struct FitArgs {
    /// Height and width that images are brought to, separated by a comma
    #[arg(long, value_name = "H,W", value_delimiter = ',', num_args = 1, conflicts_with = "resume")]
    pub size: Option<Vec<i64>>,
    /// Turn colours into grey
    #[arg(long, conflicts_with = "resume")]
    pub grey: bool,
}

impl FitArgs {
    /// The settings that are given, by their names.
    ///
    /// # Errors
    /// When the size has more than two numbers.
    pub fn settings(&self) -> Result<Table> {
        let mut settings = Table::new();
        if let Some(size) = &self.size {
            let [height, width] = match size[..] {
                [side] => [side, side],
                [height, width] => [height, width],
                _ => return Err(Error::Config("--size takes a height and a width: --size 32,32".into())),
            };
            settings.insert("size".into(), vec![height, width].into());
        }
        if self.grey {
            settings.insert("grey".into(), Value::from(true));
        }
        Ok(settings)
    }
}

/// What every subcommand that reads images takes about those that cannot be read.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Images")]
pub struct SkipArgs {
    /// Pass over image files that cannot be read, naming them, rather than end with an error
    #[arg(long)]
    pub skip_bad: bool,
}

impl SkipArgs {
    /// What `read` gives, whose argument takes the errors of files that are passed over if they are to be.
    pub fn reading<T>(self, output: OutputArgs, read: impl FnOnce(Option<&mut dyn FnMut(Error)>) -> T) -> T {
        let mut skip = |error| output.note(format_args!("passed over: {error}"));
        read(if self.skip_bad { Some(&mut skip) } else { None })
    }
}

/// What there is of images, for people: their shape and how many each part has.
pub fn describe_images(splits: &Splits) -> String {
    let [channels, height, width] = splits.train.shape();
    let [train, validation, test] = [&splits.train, &splits.validation, &splits.test].map(Images::len);
    let classes = match splits.train.classes.len() {
        0 | 1 => String::new(),
        n => format!(" of {n} classes"),
    };
    let (validation, test) = (count(validation), count(test));
    let train = plural(train, "image");
    format!("{channels} x {height} x {width}{classes}; {train} to train on, {validation} to validate, {test} to test")
}
