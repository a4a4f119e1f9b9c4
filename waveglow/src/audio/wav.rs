//! Reading WAV files.
//!
//! Not by symphonia, which refuses A-law and mu-law with short headers, lists that lack a padding byte and sizes that
//! do not add up, and accepts a rate of 0.

use super::Sound;
use super::read::{CONVERT, MAX_SAMPLES, too_long};
use flows_core::{Error, Result};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// How one sample is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// 8 bits, 128 being 0.
    Unsigned8,
    /// A two's complement of this many bytes, 2 to 4; fewer valid bits are the upper ones.
    Signed(usize),
    Float32,
    Float64,
    ALaw,
    MuLaw,
}

impl Coding {
    fn bytes(self) -> usize {
        match self {
            Self::Unsigned8 | Self::ALaw | Self::MuLaw => 1,
            Self::Signed(bytes) => bytes,
            Self::Float32 => 4,
            Self::Float64 => 8,
        }
    }

    /// The sample coded by `bytes`, of which there are [`Coding::bytes`].
    fn sample(self, bytes: &[u8]) -> f32 {
        /// The last bytes of a word, or all of them.
        fn word<const N: usize>(bytes: &[u8]) -> [u8; N] {
            let mut word = [0; N];
            word.iter_mut().rev().zip(bytes.iter().rev()).for_each(|(to, from)| *to = *from);
            word
        }
        match self {
            Self::Unsigned8 => (f32::from(word::<1>(bytes)[0]) - 128.0) / 128.0,
            Self::Signed(_) => i32::from_le_bytes(word(bytes)) as f32 / 2_147_483_648.0,
            Self::Float32 => f32::from_le_bytes(word(bytes)),
            Self::Float64 => f64::from_le_bytes(word(bytes)) as f32,
            Self::ALaw => f32::from(a_law(word::<1>(bytes)[0])) / 32_768.0,
            Self::MuLaw => f32::from(mu_law(word::<1>(bytes)[0])) / 32_768.0,
        }
    }
}

/// The expansion of A-law to 16 bits (ITU-T G.711).
fn a_law(code: u8) -> i16 {
    let code = code ^ 0x55;
    let mantissa = i16::from(code & 0x0f) << 4;
    let magnitude = match (code >> 4) & 7 {
        0 => mantissa + 8,
        exponent => (mantissa + 0x108) << (exponent - 1),
    };
    if code & 0x80 == 0 { -magnitude } else { magnitude }
}

/// The expansion of mu-law to 16 bits (ITU-T G.711).
fn mu_law(code: u8) -> i16 {
    let code = !code;
    let magnitude = (((i16::from(code & 0x0f) << 3) + 0x84) << ((code >> 4) & 7)) - 0x84;
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The content of a `fmt ` chunk.
#[derive(Clone, Copy, Debug)]
struct Format {
    coding: Coding,
    channels: usize,
    rate: usize,
}

impl Format {
    /// Reads the first bytes of the chunk, at most 40, or says what is wrong.
    fn parse(chunk: &[u8]) -> std::result::Result<Self, String> {
        let short = |at: usize| chunk.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        let rate = chunk.get(4..8).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let header = (short(0), short(2), rate, short(12), short(14));
        let (Some(mut tag), Some(channels), Some(rate), Some(align), Some(bits)) = header else {
            return Err(format!("its `fmt ` chunk has {} bytes, 16 at least are needed; export it again", chunk.len()));
        };
        if tag == EXTENSIBLE {
            // The first two bytes of the subformat, whose others are the same for all codecs.
            tag = short(24).ok_or("its `fmt ` chunk is of the extensible kind but too short; export it again")?;
        }
        let stated = format!("{channels} channel(s) of {bits} bits at {rate} Hz, {align} bytes a frame");
        if channels == 0 || rate == 0 || bits == 0 && matches!(tag, PCM | FLOAT) {
            return Err(format!("has an invalid header ({stated}); export it again"));
        }
        // Samples may take more bytes than they have bits.
        let bytes = align / channels;
        if matches!(tag, PCM | FLOAT | A_LAW | MU_LAW)
            && (bytes * channels != align || u32::from(bytes) * 8 < bits.into())
        {
            return Err(format!("has a header that contradicts itself ({stated}); export it again"));
        }
        let coding = match (tag, bytes, bits) {
            (PCM, 1, _) => Coding::Unsigned8,
            (PCM, 2..=4, _) => Coding::Signed(bytes.into()),
            (FLOAT, 4, 32) => Coding::Float32,
            (FLOAT, 8, 64) => Coding::Float64,
            (A_LAW, 1, _) => Coding::ALaw,
            (MU_LAW, 1, _) => Coding::MuLaw,
            (PCM | FLOAT | A_LAW | MU_LAW, ..) => {
                return Err(format!("has samples of {bits} bits in {bytes} bytes, which is not supported; {CONVERT}"));
            }
            _ => return Err(format!("is coded as {}, which is not supported; {CONVERT}", codec(tag))),
        };
        Ok(Self { coding, channels: channels.into(), rate: usize::try_from(rate).unwrap_or(usize::MAX) })
    }
}

const PCM: u16 = 1;
const FLOAT: u16 = 3;
const A_LAW: u16 = 6;
const MU_LAW: u16 = 7;
const EXTENSIBLE: u16 = 0xfffe;

/// The name of a codec by its number.
fn codec(tag: u16) -> String {
    match tag {
        0x02 => "Microsoft ADPCM".into(),
        0x11 => "IMA ADPCM".into(),
        0x31 => "GSM 6.10".into(),
        0x50 => "MPEG audio".into(),
        0x55 => "MP3".into(),
        0x161 => "Windows Media Audio".into(),
        _ => format!("codec {tag:#06x}"),
    }
}

/// Reads a WAV file: integers of 8 to 32 bits, floats of 32 or 64, A-law, mu-law, with any other chunks.
///
/// A stream whose writer could not go back to fill in the sizes is read to its end.
///
/// # Errors
/// When the file is damaged, cut short, of another codec, big-endian, or too long.
pub(super) fn read(name: &Path, source: impl Read + Seek) -> Result<Sound> {
    let fault = |message: String| Error::file(name, message);
    let broken = |e: std::io::Error| fault(format!("cannot be read: {e}"));
    let mut source = BufReader::new(source);
    let end = source.seek(SeekFrom::End(0)).map_err(broken)?;
    source.rewind().map_err(broken)?;
    let mut riff = [0; 12];
    if end < 12 {
        return Err(fault("is cut short in its header; copy or export it again".into()));
    }
    source.read_exact(&mut riff).map_err(broken)?;
    if riff.starts_with(b"RIFX") {
        return Err(fault(format!("is a big-endian WAV file (RIFX), which is not supported; {CONVERT}")));
    }
    if !riff.ends_with(b"WAVE") {
        return Err(fault(format!("is a RIFF file, but not of sound; {CONVERT}")));
    }
    let whole_unknown = matches!(riff[4..8], [0, 0, 0, 0] | [0xff, 0xff, 0xff, 0xff]);

    let (mut position, mut format, mut large) = (12u64, None, None);
    while end.saturating_sub(position) >= 8 {
        source.seek(SeekFrom::Start(position)).map_err(broken)?;
        let mut head = [0; 8];
        source.read_exact(&mut head).map_err(broken)?;
        let [i, d, e, n, size @ ..] = head;
        let (id, size) = ([i, d, e, n], u64::from(u32::from_le_bytes(size)));
        let available = end - position - 8;
        if &id == b"data" {
            let format = format.ok_or_else(|| fault("has data but no `fmt ` chunk before; export it again".into()))?;
            let bytes = match large {
                Some(large) if size == u64::from(u32::MAX) => large,
                // Of a stream: the largest size, or one close to 2^31, or none at all.
                _ if size > available && size >= 0x7fff_0000 || size == 0 && whole_unknown => available,
                _ => size,
            };
            if bytes > available {
                return Err(cut_short(name, format, bytes, available));
            }
            return samples(name, &mut source, format, bytes);
        }
        if size > available {
            let id = String::from_utf8_lossy(&id).into_owned();
            return Err(fault(format!(
                "is cut short: its `{id}` chunk has {available} of {size} bytes; copy or export it again"
            )));
        }
        let mut chunk = Vec::new();
        if matches!(&id, b"fmt " | b"ds64") {
            source.by_ref().take(size.min(40)).read_to_end(&mut chunk).map_err(broken)?;
        }
        match &id {
            b"fmt " => format = Some(Format::parse(&chunk).map_err(fault)?),
            // The sizes of files over 4 GiB.
            b"ds64" => large = chunk.get(8..16).map(|b| u64::from_le_bytes(std::array::from_fn(|i| b[i]))),
            _ => {}
        }
        position += 8 + size;
        // Chunks begin at even places, but some programs leave the padding out; no identifier begins with 0.
        if size % 2 == 1 {
            source.seek(SeekFrom::Start(position)).map_err(broken)?;
            let mut padding = Vec::new();
            source.by_ref().take(1).read_to_end(&mut padding).map_err(broken)?;
            position += u64::from(padding == [0]);
        }
    }
    Err(fault(match format {
        Some(_) => "has no `data` chunk, so no sound; copy or export it again".into(),
        None => "has neither a `fmt ` nor a `data` chunk; copy or export it again".into(),
    }))
}

fn cut_short(name: &Path, format: Format, promised: u64, available: u64) -> Error {
    let frame = (format.coding.bytes() * format.channels) as u64;
    let (promised, there) = (promised / frame, available / frame);
    Error::file(
        name,
        format!(
            "is cut short: its header promises {promised} samples and {there} are there; copy it again, or keep those \
             by `ffmpeg -i FILE FILE.wav`"
        ),
    )
}

/// Reads the samples in `bytes` bytes; an incomplete frame at the end is left out.
fn samples(name: &Path, source: &mut impl Read, format: Format, bytes: u64) -> Result<Sound> {
    /// About as many bytes are decoded at a time.
    const BLOCK: usize = 1 << 16;
    let Format { coding, channels, rate } = format;
    let width = coding.bytes();
    let frame = width * channels;
    let frames = bytes / frame as u64;
    if frames.saturating_mul(channels as u64) > MAX_SAMPLES {
        return Err(too_long(name));
    }
    let mut left = usize::try_from(frames).map_err(|_| too_long(name))?;
    let mut sound: Vec<Vec<f32>> = (0..channels).map(|_| Vec::with_capacity(left)).collect();
    let at_once = (BLOCK / frame).max(1);
    let mut block = vec![0; at_once.min(left) * frame];
    while left > 0 {
        let now = left.min(at_once);
        let block = &mut block[..now * frame];
        source.read_exact(block).map_err(|e| Error::file(name, format!("cannot be read: {e}")))?;
        for (channel, samples) in sound.iter_mut().enumerate() {
            let coded = block.chunks_exact(frame).map(|frame| &frame[channel * width..(channel + 1) * width]);
            samples.extend(coded.map(|bytes| coding.sample(bytes)));
        }
        left -= now;
    }
    Sound::new(rate, sound).map_err(|e| Error::file(name, format!("cannot be used: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A WAV file of these chunks, each padded to an even size.
    fn wav(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut body = b"WAVE".to_vec();
        for (id, content) in chunks {
            body.extend_from_slice(*id);
            body.extend((content.len() as u32).to_le_bytes());
            body.extend_from_slice(content);
            body.extend(std::iter::repeat_n(0, content.len() % 2));
        }
        [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat()
    }

    fn header(tag: u16, channels: u16, rate: u32, align: u16, bits: u16) -> Vec<u8> {
        let speed = (rate * u32::from(align)).to_le_bytes();
        let shorts = |values: [u16; 2]| values.map(u16::to_le_bytes).concat();
        [shorts([tag, channels]), rate.to_le_bytes().to_vec(), speed.to_vec(), shorts([align, bits])].concat()
    }

    fn open(bytes: Vec<u8>) -> Result<Sound> {
        read(Path::new("a.wav"), Cursor::new(bytes))
    }

    #[test]
    fn laws_expand_as_g711_says() {
        // The codes of silence, of the least and of the greatest magnitudes, of both signs.
        assert_eq!([0xff, 0x7f, 0x80, 0x00, 0xf0, 0x9c].map(mu_law), [0, 0, 32_124, -32_124, 120, 9852]);
        assert_eq!([0xd5, 0x55, 0xaa, 0x2a, 0xf5, 0x85].map(a_law), [8, -8, 32_256, -32_256, 528, 4224]);
    }

    #[test]
    fn faults_say_what_to_do() {
        let said = |bytes| open(bytes).unwrap_err().to_string();
        let mono = header(1, 1, 8000, 2, 16);
        let whole = wav(&[(b"fmt ", &mono), (b"data", &[0, 64, 0, 192])]);
        assert_eq!(open(whole.clone()).unwrap().channels(), [[0.5, -0.5]]);
        for length in 0..whole.len() {
            let message = said(whole[..length].to_vec());
            assert!(message.starts_with("a.wav: ") && message.contains("again"), "{length}: {message}");
        }
        assert!(said(whole[..46].to_vec()).contains("promises 2 samples and 1 are there"));
        // Any byte may be wrong: the reader ends, with a sound that is whole or an error that names the file.
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                match open(damaged) {
                    Ok(sound) => assert!(sound.rate() > 0 && sound.len() <= 4),
                    Err(error) => assert!(error.to_string().starts_with("a.wav: ")),
                }
            }
        }
        assert!(said(wav(&[(b"fmt ", &header(0x55, 2, 8000, 1, 0)), (b"data", &[])])).contains("MP3"));
        for (channels, align, bits) in [(2, 3, 16), (1, 1, 16), (1, 0, 16), (3, 2, 8)] {
            let message = said(wav(&[(b"fmt ", &header(1, channels, 8000, align, bits)), (b"data", &[0; 12])]));
            assert!(message.contains("contradicts itself"), "{message}");
        }
        assert!(said(wav(&[(b"fmt ", &header(3, 1, 8000, 2, 16)), (b"data", &[0; 2])])).contains("16 bits"));
        assert!(said(wav(&[(b"fmt ", &header(1, 1, 8000, 8, 64)), (b"data", &[0; 8])])).contains("64 bits"));
    }

    #[test]
    fn sizes_of_streams_and_padding_are_tolerated() {
        let mono = header(1, 1, 8000, 2, 16);
        let whole = wav(&[(b"fmt ", &mono), (b"data", &[0, 64, 0, 192])]);
        for (riff, data) in [(u32::MAX, u32::MAX), (0x7fff_f024, 0x7fff_f000), (0, 0)] {
            let mut streamed = whole.clone();
            streamed[4..8].copy_from_slice(&riff.to_le_bytes());
            streamed[40..44].copy_from_slice(&data.to_le_bytes());
            assert_eq!(open(streamed).unwrap().channels(), [[0.5, -0.5]]);
        }
        let mut unpadded = wav(&[(b"LIST", &[1, 2, 3]), (b"fmt ", &mono), (b"data", &[0, 64])]);
        unpadded.remove(23);
        assert_eq!(open(unpadded).unwrap().channels(), [[0.5]]);
        // A file of the large kind: sizes stand in a chunk of their own, and something follows the data.
        let sizes = [80u64, 2, 1].map(u64::to_le_bytes).concat();
        let mut large = wav(&[(b"ds64", &sizes), (b"fmt ", &mono), (b"data", &[0, 64]), (b"junk", &[9; 8])]);
        large[..4].copy_from_slice(b"RF64");
        let at = large.windows(4).position(|w| w == b"data").unwrap() + 4;
        large[at..at + 4].fill(0xff);
        assert_eq!(open(large).unwrap().channels(), [[0.5]]);
    }

    #[test]
    fn long_files_are_read_in_blocks() {
        let values: Vec<i16> = (0..100_001u32).map(|i| (i * 7919 % 65_536) as u16 as i16).collect();
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let sound = open(wav(&[(b"fmt ", &header(1, 3, 8000, 6, 16)), (b"data", &data)])).unwrap();
        assert_eq!(sound.len(), 33_333);
        for (i, value) in values[..99_999].iter().enumerate() {
            assert_eq!(sound.channels()[i % 3][i / 3], f32::from(*value) / 32_768.0);
        }
    }
}
