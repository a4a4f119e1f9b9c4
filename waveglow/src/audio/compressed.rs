//! Reading compressed sound: FLAC, Ogg Vorbis, MP3.

use super::Sound;
use super::read::{MAX_SAMPLES, too_long};
use flows_core::{Error, Result};
use std::io::{ErrorKind, Read, SeekFrom};
use std::path::Path;
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error as Fault;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;

/// The message for files that end too early.
const CUT_SHORT: &str = "is cut short; copy or export it again, or keep what is there by `ffmpeg -i FILE FILE.wav`";

/// Reads the first audio track, without the samples that the encoder added at its ends.
///
/// # Errors
/// When the file is damaged, cut short, of another codec, or too long.
pub(super) fn read(name: &Path, mut source: impl MediaSource + 'static) -> Result<Sound> {
    let fault = |message: String| Error::file(name, message);
    let damaged = |e: Fault| match e {
        Fault::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => fault(CUT_SHORT.into()),
        Fault::IoError(e) => fault(format!("cannot be read: {e}")),
        Fault::Unsupported(what) => fault(format!("uses what is not supported ({what}); {}", super::read::CONVERT)),
        e => fault(format!("is damaged ({e}); copy or export it again")),
    };
    let whole = ends_as_it_should(&mut source).map_err(|e| fault(format!("cannot be read: {e}")))?;
    let stream = MediaSourceStream::new(Box::new(source), Default::default());
    let (format, metadata) = (FormatOptions::default(), MetadataOptions::default());
    let mut reader = symphonia::default::get_probe().probe(&Hint::new(), stream, format, metadata).map_err(damaged)?;
    let track = reader.default_track(TrackType::Audio);
    let coded = track.and_then(|track| Some((track, track.codec_params.as_ref()?.audio()?)));
    let Some((track, parameters)) = coded else {
        return Err(fault(format!("has no sound that can be read; {}", super::read::CONVERT)));
    };
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(damaged)?;
    let (id, promised) = (track.id, track.num_frames);
    let mut rate = parameters.sample_rate;
    let mut sound: Vec<Vec<f32>> = Vec::new();
    if let Some(channels) = &parameters.channels {
        sound.resize(channels.count(), Vec::new());
    }
    let mut planes = Vec::new();
    loop {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(Fault::ResetRequired) => {
                return Err(fault("holds several streams one after the other; split it into files of one".into()));
            }
            Err(e) => return Err(damaged(e)),
        };
        if packet.track_id != id {
            continue;
        }
        let decoded = match decoder.decode(&packet) {
            Ok(decoded) => decoded,
            // A stream cut at its start begins with packets that refer to earlier ones.
            Err(Fault::DecodeError(_)) if sound.iter().all(Vec::is_empty) => continue,
            Err(e) => return Err(damaged(e)),
        };
        decoded.copy_to_vecs_planar::<f32>(&mut planes);
        if sound.iter().all(Vec::is_empty) {
            rate = Some(decoded.spec().rate());
            sound.resize(planes.len(), Vec::new());
        }
        if rate != Some(decoded.spec().rate()) || planes.len() != sound.len() {
            return Err(fault("changes its rate or channels on the way; split it where it does".into()));
        }
        sound.iter_mut().zip(&planes).for_each(|(samples, plane)| samples.extend_from_slice(plane));
        if sound.iter().map(|samples| samples.len() as u64).sum::<u64>() > MAX_SAMPLES {
            return Err(too_long(name));
        }
    }
    if !whole {
        return Err(fault(CUT_SHORT.into()));
    }
    let there = sound.first().map_or(0, Vec::len) as u64;
    // The length of MP3 is an estimate.
    if let Some(promised) = promised.filter(|&n| n > there && decoder.codec_info().short_name == "flac") {
        return Err(fault(format!(
            "is cut short: its header promises {promised} samples and {there} are there; copy or export it again"
        )));
    }
    let rate = rate.and_then(|rate| usize::try_from(rate).ok()).unwrap_or(0);
    Sound::new(rate, sound).map_err(|e| fault(format!("cannot be used: {e}")))
}

/// Whether a file, if it is an Ogg file, ends with the last page of a stream, which alone tells a whole one.
fn ends_as_it_should(source: &mut impl MediaSource) -> std::io::Result<bool> {
    /// No page is longer.
    const PAGE: u64 = 65_307;
    /// The length of a page's header; its last byte is the number of the lengths that follow.
    const HEADER: usize = 27;
    const LAST: u8 = 4;
    let length = source.seek(SeekFrom::End(0))?;
    let mut end = Vec::new();
    source.seek(SeekFrom::Start(length.saturating_sub(PAGE)))?;
    source.by_ref().take(PAGE).read_to_end(&mut end)?;
    let mut mark = Vec::new();
    source.rewind()?;
    source.by_ref().take(4).read_to_end(&mut mark)?;
    source.rewind()?;
    if mark != b"OggS" {
        return Ok(true);
    }
    let page = end.windows(4).rposition(|window| window == mark).and_then(|at| end.get(at..)).unwrap_or_default();
    let (Some(flags), Some(count)) = (page.get(5), page.get(HEADER - 1)) else { return Ok(false) };
    let lengths = page.get(HEADER..HEADER + usize::from(*count)).unwrap_or_default();
    let whole = HEADER + usize::from(*count) + lengths.iter().map(|&n| usize::from(n)).sum::<usize>();
    Ok(flags & LAST != 0 && page.len() >= whole)
}
