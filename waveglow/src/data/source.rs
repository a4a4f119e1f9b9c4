//! Sources of audio, as named on the command line.

use super::{Clips, Splits, plucks};
use crate::audio::{read, resample};
use flows_core::text::plural;
use flows_core::{Error, Result, Rng};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::{fmt, str::FromStr};

/// Where audio comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AudioSource {
    /// Sounds made in code: [`plucks`](fn@plucks).
    Plucks,
    /// A file, or a folder with folders of files.
    Path(PathBuf),
}

/// The clips made in code, and their length in seconds.
const MADE: (usize, f64) = (240, 4.0);

/// The endings of audio files that are read.
fn endings() -> impl Iterator<Item = &'static str> {
    ["wav", "wave", "flac", "ogg", "oga"].into_iter().chain(cfg!(feature = "mp3").then_some("mp3"))
}

impl AudioSource {
    /// The clips at this sampling rate, of one channel, in three parts; see [`Self::clips`]. `rng` draws those made in
    /// code.
    ///
    /// # Errors
    /// As [`Self::clips`], and when a part has no clip of `least` samples.
    pub fn load(
        &self,
        rate: usize,
        least: usize,
        skip: Option<&mut dyn FnMut(Error)>,
        rng: &mut Rng,
    ) -> Result<(Splits, Vec<String>)> {
        let (clips, notes) = self.clips(rate, least, skip, rng)?;
        let splits = Splits::of(clips);
        let parts = [&splits.train, &splits.validation, &splits.test];
        if parts.iter().any(|part| part.signals.iter().all(|signal| signal.len() < least)) {
            let message = format!("{self} is too short to be divided into parts to train, validate and test with");
            return Err(Error::Data(format!("{message}: give more, at least {least} samples in each")));
        }
        Ok((splits, notes))
    }

    /// The clips at this sampling rate, of one channel, and what was noted: those of other rates are resampled, those of
    /// fewer than `least` samples left out. `skip` is called with the errors of files that cannot be read; without it the
    /// first is the result.
    ///
    /// # Errors
    /// When there is no such audio or it cannot be read.
    pub fn clips(
        &self,
        rate: usize,
        least: usize,
        mut skip: Option<&mut dyn FnMut(Error)>,
        rng: &mut Rng,
    ) -> Result<(Clips, Vec<String>)> {
        let mut clips = Clips::default();
        let Self::Path(path) = self else {
            (0..MADE.0).for_each(|i| clips.push(format!("pluck {i}"), plucks(rate, MADE.1, rng)));
            return Ok((clips, Vec::new()));
        };
        let files = files(path)?;
        if files.is_empty() {
            let endings: Vec<String> = endings().map(|ending| format!(".{ending}")).collect();
            return Err(Error::file(path, format!("holds no audio files ({})", endings.join(", "))));
        }
        let read = files.par_iter().map(|file| at_rate(file, rate)).collect::<Vec<_>>();
        let (mut resampled, mut mixed, mut short) = (0, 0, 0);
        for (file, clip) in files.iter().zip(read) {
            match (clip, &mut skip) {
                (Ok(clip), _) if clip.signal.len() < least => short += 1,
                (Ok(clip), _) => {
                    resampled += usize::from(clip.rate != rate);
                    mixed += usize::from(clip.channels > 1);
                    let name = file.strip_prefix(path).ok().filter(|name| name.components().next().is_some());
                    clips.push(name.unwrap_or(file).display().to_string(), clip.signal);
                }
                (Err(error), Some(skip)) => skip(error),
                (Err(error), None) => return Err(error),
            }
        }
        if clips.is_empty() {
            return Err(Error::file(path, format!("holds no audio of at least {least} samples that can be read")));
        }
        let note = |count: usize, what: &str| {
            let verb = if count == 1 { "was" } else { "were" };
            (count > 0).then(|| format!("{} of {} {verb} {what}", count, plural(files.len(), "clip")))
        };
        let notes = [
            note(resampled, &format!("resampled to {rate} Hz")),
            note(mixed, "mixed to one channel"),
            note(short, &format!("left out, shorter than {least} samples")),
        ];
        Ok((clips, notes.into_iter().flatten().collect()))
    }
}

/// A file as one channel at the wanted rate, and what it was.
struct Clip {
    signal: Vec<f32>,
    rate: usize,
    channels: usize,
}

fn at_rate(file: &Path, rate: usize) -> Result<Clip> {
    let sound = read(file)?;
    sound.check_not_empty().map_err(|e| Error::file(file, e))?;
    let (own, channels) = (sound.rate(), sound.channels().len());
    let sound = sound.into_mono();
    let sound = if own == rate { sound } else { resample(&sound, rate)? };
    Ok(Clip { signal: sound.into_channels().swap_remove(0), rate: own, channels })
}

/// The audio files of a folder and of those in it, in order of their names, or one file.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let (mut folders, mut seen) = (vec![path.to_path_buf()], HashSet::new());
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let unreadable = |e| Error::file(&folder, e);
        // A link to a folder above would lead round in a circle.
        if !seen.insert(folder.canonicalize().map_err(unreadable)?) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?.path();
            let ending = entry.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
            if entry.is_dir() {
                folders.push(entry);
            } else if ending.is_some_and(|found| endings().any(|ending| ending == found)) {
                files.push(entry);
            }
        }
    }
    files.sort();
    Ok(files)
}

impl FromStr for AudioSource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "plucks" => Ok(Self::Plucks),
            path if Path::new(path).exists() => Ok(Self::Path(path.into())),
            path => Err(Error::Config(format!(
                "there is no audio `{path}`: give a file, a folder of .wav, .flac or .ogg files, or `plucks`"
            ))),
        }
    }
}

impl TryFrom<String> for AudioSource {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        // A saved path may be gone; loading says so.
        Ok(if text == "plucks" { Self::Plucks } else { Self::Path(text.into()) })
    }
}

impl From<AudioSource> for String {
    fn from(source: AudioSource) -> Self {
        source.to_string()
    }
}

impl fmt::Display for AudioSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plucks => f.write_str("plucks"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}
