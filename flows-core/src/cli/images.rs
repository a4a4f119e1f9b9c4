//! What programs that work on images share.

use super::{OutputArgs, count, plural};
use crate::Error;
use crate::data::images::{Images, Splits};
use clap::Args;
use serde::Serialize;

/// What every subcommand that trains on images takes of a [`Fit`](crate::data::images::Fit), laid out as its settings.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[command(next_help_heading = "Images")]
pub struct FitFlags {
    /// Height and width that images are brought to, separated by a comma
    #[arg(long, value_name = "H,W", value_parser = sides, conflicts_with = "resume")]
    pub size: Option<[usize; 2]>,
    /// Turn colours into grey
    #[arg(long, num_args = 0, default_missing_value = "true", conflicts_with = "resume")]
    pub grey: Option<bool>,
}

/// A height and a width, separated by a comma, or one number for both.
///
/// # Errors
/// When they are no such numbers.
pub fn sides(text: &str) -> Result<[usize; 2], String> {
    let sides: Vec<Option<usize>> = text.split(',').map(|side| side.trim().parse().ok()).collect();
    match sides[..] {
        [Some(side)] => Ok([side, side]),
        [Some(height), Some(width)] => Ok([height, width]),
        _ => Err("give a height and a width: 32,32".into()),
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
