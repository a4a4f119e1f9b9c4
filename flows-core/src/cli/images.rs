//! Arguments of programs that work on images.

use super::check_strict;
use super::{OutputArgs, count, plural};
use crate::Error;
use crate::data::images::{Background, Images, Splits};
use clap::Args;
use clap::builder::ArgPredicate;
use serde::Serialize;

/// Flags for the settings of a [`Fit`](crate::data::images::Fit), laid out as those are.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[command(next_help_heading = "Images")]
pub struct FitFlags {
    /// Height and width that images are resized to, separated by a comma
    #[arg(long, value_name = "H,W", value_parser = sides, conflicts_with = "resume")]
    pub size: Option<[usize; 2]>,
    /// Convert colours to grey
    #[arg(long, visible_alias = "gray", num_args = 0, default_missing_value = "true", conflicts_with = "resume")]
    #[arg(default_value_if("colour", ArgPredicate::IsPresent, "false"))]
    pub grey: Option<bool>,
    /// Give grey images three equal channels, as they are given anyway among images in colour
    #[arg(long, visible_alias = "color", num_args = 0, default_missing_value = "true")]
    #[arg(conflicts_with_all = ["resume", "grey"], default_value_if("grey", ArgPredicate::IsPresent, "false"))]
    pub colour: Option<bool>,
    /// What is behind transparent pixels, white if not given
    #[arg(long, value_name = "COLOUR", conflicts_with = "resume")]
    pub background: Option<Background>,
}

/// Parses a height and a width, separated by a comma, or one number for both.
///
/// # Errors
/// When the text is neither.
pub fn sides(text: &str) -> Result<[usize; 2], String> {
    let sides: Vec<Option<usize>> = text.split(',').map(|side| side.trim().parse().ok()).collect();
    match sides[..] {
        [Some(side)] => Ok([side, side]),
        [Some(height), Some(width)] => Ok([height, width]),
        _ => Err("give a height and a width: 32,32".into()),
    }
}

/// What to do about images that cannot be read or are odd.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Images")]
pub struct SkipArgs {
    /// Skip image files that cannot be read, with a warning, instead of ending with an error
    #[arg(long)]
    pub skip_bad: bool,
    /// Make it an error if anything about the images is noted
    #[arg(long)]
    pub strict: bool,
}

impl SkipArgs {
    /// Calls `read` with a handler for the errors of skipped files, or with none if files are not to be skipped.
    pub fn reading<T>(self, output: OutputArgs, read: impl FnOnce(Option<&mut dyn FnMut(Error)>) -> T) -> T {
        let mut skip = |error| output.note(format_args!("skipped: {error}"));
        read(if self.skip_bad { Some(&mut skip) } else { None })
    }

    /// Tells what was noted in reading images.
    ///
    /// # Errors
    /// When that is to be an error.
    pub fn tell(self, output: OutputArgs, notes: &[String]) -> crate::Result<()> {
        check_strict(self.strict, notes)?;
        notes.iter().for_each(|note| output.note(format_args!("note   {note}")));
        Ok(())
    }
}

/// A description of images for the user: their shape and the size of each part.
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use toml::Table;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        fit: FitFlags,
        #[arg(long)]
        resume: bool,
    }

    #[test]
    fn grey_and_colour_exclude_each_other() {
        for (words, settings) in [
            (&["", "--colour"][..], "colour = true\ngrey = false"),
            (&["", "--gray"], "grey = true\ncolour = false"),
            (&["", "--size", "8", "--background", "black"], "size = [8, 8]\nbackground = 'black'"),
            (&["", "--resume"], ""),
        ] {
            let Program { fit, resume } = Program::try_parse_from(words).unwrap();
            let settings = settings.parse::<Table>().unwrap();
            assert_eq!((Table::try_from(fit).unwrap(), resume), (settings, words.contains(&"--resume")), "{words:?}");
        }
        for words in [&["", "--grey", "--colour"][..], &["", "--resume", "--grey"], &["", "--background", "red"]] {
            assert!(Program::try_parse_from(words).is_err(), "{words:?}");
        }
    }
}
