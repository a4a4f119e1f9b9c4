//! Writing WAV files.

use super::Sound;
use flows_core::files::write_atomically;
use flows_core::{Error, Result};
use hound::{SampleFormat, WavSpec, WavWriter};
use std::io::{BufWriter, Cursor, Seek, Write};
use std::path::Path;

/// How samples are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Integers of 16 bits, `32768 x` rounded and clipped: what every program plays.
    #[default]
    Pcm16,
    /// Floats of 32 bits: the samples to the bit, also those beyond full scale.
    Float32,
}

impl Encoding {
    fn bits(self) -> u16 {
        match self {
            Self::Pcm16 => 16,
            Self::Float32 => 32,
        }
    }
}

/// Writes a WAV file atomically, and returns the number of samples beyond full scale, which 16 bits clip.
///
/// # Errors
/// When the file cannot be written, or the sound does not fit into a WAV file (4 GiB).
pub fn write(path: impl AsRef<Path>, sound: &Sound, encoding: Encoding) -> Result<usize> {
    let path = path.as_ref();
    let spec = spec(sound, encoding)?;
    write_atomically(path, |file| encode(BufWriter::new(file), spec, sound).map_err(|e| Error::unwritten(path, e)))?;
    Ok(clipped(sound, encoding))
}

/// Writes a WAV file to a stream such as standard output, which errors call `name`, and returns what
/// [`write`](fn@write) does.
///
/// # Errors
/// When the stream cannot be written, or the sound does not fit into a WAV file (4 GiB).
pub fn write_to(name: impl AsRef<Path>, mut to: impl Write, sound: &Sound, encoding: Encoding) -> Result<usize> {
    let spec = spec(sound, encoding)?;
    let mut bytes = Vec::new();
    let io = |e: std::io::Error| Error::Io(format!("{}: cannot be written ({e})", name.as_ref().display()));
    encode(Cursor::new(&mut bytes), spec, sound).map_err(|e| Error::Internal(format!("a WAV file in memory: {e}")))?;
    to.write_all(&bytes).and_then(|()| to.flush()).map_err(io)?;
    Ok(clipped(sound, encoding))
}

/// The header, or why there is none.
fn spec(sound: &Sound, encoding: Encoding) -> Result<WavSpec> {
    let bytes = sound.len() as u64 * sound.channels().len() as u64 * u64::from(encoding.bits() / 8);
    let (rate, channels) = (u32::try_from(sound.rate()), u16::try_from(sound.channels().len()));
    let (Ok(sample_rate), Ok(channels), true) = (rate, channels, bytes <= u64::from(u32::MAX) - 128) else {
        return Err(Error::Data(format!(
            "{} samples of {} channels at {} Hz do not fit into a WAV file; split the sound",
            sound.len(),
            sound.channels().len(),
            sound.rate()
        )));
    };
    let sample_format = match encoding {
        Encoding::Pcm16 => SampleFormat::Int,
        Encoding::Float32 => SampleFormat::Float,
    };
    Ok(WavSpec { channels, sample_rate, bits_per_sample: encoding.bits(), sample_format })
}

fn encode(to: impl Write + Seek, spec: WavSpec, sound: &Sound) -> hound::Result<()> {
    let mut writer = WavWriter::new(to, spec)?;
    for i in 0..sound.len() {
        for x in sound.channels().iter().filter_map(|channel| channel.get(i)) {
            match spec.sample_format {
                // The conversion saturates.
                SampleFormat::Int => writer.write_sample((32_768.0 * f64::from(*x)).round() as i16)?,
                SampleFormat::Float => writer.write_sample(*x)?,
            }
        }
    }
    writer.finalize()
}

fn clipped(sound: &Sound, encoding: Encoding) -> usize {
    match encoding {
        Encoding::Pcm16 => sound.channels().iter().flatten().filter(|x| x.abs() > 1.0).count(),
        Encoding::Float32 => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{read, read_from};

    #[test]
    fn what_is_written_is_read() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        let left = vec![0.0, 0.5, -0.25, 1.0, -1.0, 1.5, -7.0, 0.4 / 32_768.0, -0.6 / 32_768.0];
        let right: Vec<f32> = left.iter().map(|x| 0.1 * x).collect();
        for channels in [vec![left.clone()], vec![left.clone(), right.clone()], vec![left, right.clone(), right]] {
            let sound = Sound::new(22_050, channels)?;
            assert_eq!(write(&path, &sound, Encoding::Float32)?, 0);
            assert_eq!(read(&path)?, sound);
            assert_eq!(write(&path, &sound, Encoding::Pcm16)?, 2);
            let rounded = read(&path)?;
            let want = [0.0, 0.5, -0.25, 32_767.0 / 32_768.0, -1.0, 32_767.0 / 32_768.0, -1.0, 0.0, -1.0 / 32_768.0];
            assert_eq!(rounded.channels()[0], want);
            assert_eq!((rounded.rate(), rounded.channels().len()), (22_050, sound.channels().len()));
            let mut stream = Vec::new();
            assert_eq!(write_to("stream", &mut stream, &sound, Encoding::Pcm16)?, 2);
            assert_eq!(stream, std::fs::read(&path).unwrap());
            assert_eq!(read_from("stream", &stream[..])?, rounded);
        }
        let empty = Sound::mono(8000, vec![])?;
        write(&path, &empty, Encoding::Pcm16)?;
        assert_eq!(read(&path)?, empty);
        let too_fast = Sound::mono(1 << 40, vec![0.0])?;
        assert!(write(&path, &too_fast, Encoding::Pcm16).unwrap_err().to_string().contains("WAV"));
        assert!(write(folder.path().join("no/a.wav"), &empty, Encoding::Pcm16).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        Ok(())
    }
}
