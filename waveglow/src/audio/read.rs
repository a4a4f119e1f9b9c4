//! Reading sound from files and streams.

use super::{Sound, compressed, wav};
use flows_core::{Error, Result};
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;
use symphonia::core::io::MediaSource;

/// The largest number of samples, all channels together, that is read: 4 GiB of memory.
pub(super) const MAX_SAMPLES: u64 = 1 << 30;

/// The largest stream that is read, in bytes.
const MAX_STREAM: u64 = 1 << 32;

/// Reads an audio file: WAV (PCM, float, A-law, mu-law), FLAC, Ogg Vorbis, and MP3 with the crate's feature `mp3`.
///
/// What the file is follows from its content, not its name. Integers are scaled to [-1, 1); floats may exceed it.
///
/// # Errors
/// When it cannot be opened, is of another kind, is damaged or cut short, holds a NaN or an infinity, or more than
/// 2^30 samples. A file without samples is none: see [`Sound::check_not_empty`].
pub fn read(path: impl AsRef<Path>) -> Result<Sound> {
    let path = path.as_ref();
    let unreadable = |e| Error::file(path, format!("cannot be read ({e}); check the path and its permissions"));
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Error::file(path, "is a folder; name an audio file in it"));
    }
    // What is no regular file, such as a named pipe, cannot seek.
    if metadata.is_file() { decode(path, file) } else { read_from(path, file) }
}

/// Reads what [`read`] reads from any source, such as standard input or bytes (`&[u8]`) to its end; errors call it
/// `name`.
///
/// # Errors
/// As [`read`]; when it holds more than 4 GiB.
pub fn read_from(name: impl AsRef<Path>, source: impl Read) -> Result<Sound> {
    let name = name.as_ref();
    let mut bytes = Vec::new();
    source
        .take(MAX_STREAM + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::file(name, format!("cannot be read: {e}")))?;
    if bytes.len() as u64 > MAX_STREAM {
        return Err(Error::file(name, "is larger than 4 GiB; split it"));
    }
    decode(name, Cursor::new(bytes))
}

fn decode(name: &Path, mut source: impl MediaSource + 'static) -> Result<Sound> {
    let mut start = Vec::new();
    let mut peek = || -> std::io::Result<()> {
        source.by_ref().take(4).read_to_end(&mut start)?;
        source.rewind()
    };
    peek().map_err(|e| Error::file(name, format!("cannot be read: {e}")))?;
    match start[..] {
        [] => Err(Error::file(name, "is empty; record or export it again")),
        [b'R', b'I', b'F', b'F' | b'X'] | [b'R', b'F', b'6', b'4'] | [b'B', b'W', b'6', b'4'] => {
            wav::read(name, source)
        }
        [b'f', b'L', b'a', b'C'] | [b'O', b'g', b'g', b'S'] => compressed::read(name, source),
        [b'I', b'D', b'3', _] | [0xff, 0xe0..=0xff, ..] if cfg!(feature = "mp3") => compressed::read(name, source),
        [b'I', b'D', b'3', _] | [0xff, 0xe0..=0xff, ..] => Err(Error::file(
            name,
            format!("is MP3, which needs the feature `mp3` (cargo install waveglow --features mp3); or {CONVERT}"),
        )),
        _ => Err(Error::file(name, format!("is not WAV, FLAC, Ogg Vorbis or MP3; {CONVERT}"))),
    }
}

/// The remedy for files of other kinds.
pub(super) const CONVERT: &str = "convert it to WAV, for example by `ffmpeg -i FILE FILE.wav`";

/// The refusal of sound that does not fit into memory.
pub(super) fn too_long(name: &Path) -> Error {
    Error::file(name, format!("holds more than {MAX_SAMPLES} samples; split it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_sound_is_refused() {
        let said = |bytes: &[u8]| read_from("the clip", bytes).unwrap_err().to_string();
        assert_eq!(said(b""), "the clip: is empty; record or export it again");
        assert!(said(b"RIF").contains("is not WAV"));
        assert!(said(b"\x89PNG\r\n").contains("ffmpeg"));
        for damaged in [&b"fLaC"[..], b"OggS", b"fLaC\x80\0\0\x22", b"OggS\0\x02\0\0\0\0\0\0\0\0"] {
            assert!(said(damaged).starts_with("the clip: "));
        }
        #[cfg(not(feature = "mp3"))]
        assert!(said(b"\xff\xfb\x90\0").contains("`mp3`"));
        assert!(read("no/such/file.wav").unwrap_err().to_string().contains("no/such/file.wav"));
        assert!(read(env!("CARGO_MANIFEST_DIR")).unwrap_err().to_string().contains("folder"));
    }
}
