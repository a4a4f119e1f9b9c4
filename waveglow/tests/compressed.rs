//! Reading of compressed sound: half a tone of 440 Hz to the left, a quarter of one of 1000 Hz to the right, 4001
//! samples at 16 kHz, coded by libsndfile.

use flows_core::Result;
use std::f64::consts::TAU;
use std::path::{Path, PathBuf};
use waveglow::audio::{Sound, read, read_from};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The largest difference from the tones, 10 ms from both ends.
fn error(sound: &Sound) -> f64 {
    let tones = |i: usize| {
        let t = i as f64 / 16_000.0;
        [0.5 * (TAU * 440.0 * t).sin(), 0.25 * (TAU * 1000.0 * t + 1.0).sin()]
    };
    let off = |i: usize| (0..2).map(move |c| (f64::from(sound.channels()[c][i]) - tones(i)[c]).abs());
    (160..3841).flat_map(off).fold(0.0, f64::max)
}

#[test]
fn flac_and_vorbis_are_read() -> Result<()> {
    for (name, tolerance) in [("tone.flac", 2e-5), ("tone.ogg", 0.03)] {
        let sound = read(path(name))?;
        assert_eq!((sound.rate(), sound.channels().len(), sound.len()), (16_000, 2, 4001), "{name}");
        assert!(error(&sound) < tolerance, "{name}: {}", error(&sound));
        // From a stream, and by content whatever the name.
        let bytes = std::fs::read(path(name)).expect("a file of this crate");
        assert_eq!(read_from("standard input", &bytes[..])?, sound);
    }
    Ok(())
}

#[test]
fn cut_and_damaged_files_are_named() {
    // Enough to lose sound, of the last frame or page.
    for (name, lost) in [("flac", 100), ("ogg", 1)] {
        let mut bytes = std::fs::read(path(&format!("tone.{name}"))).expect("a file of this crate");
        for length in (0..bytes.len()).step_by(97) {
            let message = read_from(format!("cut.{name}"), &bytes[..length]).unwrap_err().to_string();
            assert!(message.starts_with(&format!("cut.{name}: ")), "{length}: {message}");
        }
        let cut = read_from(format!("cut.{name}"), &bytes[..bytes.len() - lost]).unwrap_err().to_string();
        assert!(cut.contains("cut short"), "{cut}");
        // Whatever bits are wrong, the reader ends, and with an error where sound is lost.
        for at in (0..bytes.len()).step_by(61) {
            bytes[at] ^= 0x55;
            if let Ok(sound) = read_from(format!("damaged.{name}"), &bytes[..]) {
                assert!(sound.len() <= 4001 && sound.rate() > 0);
            }
            bytes[at] ^= 0x55;
        }
    }
}

#[cfg(feature = "mp3")]
#[test]
fn mp3_is_read() -> Result<()> {
    let sound = read(path("tone.mp3"))?;
    assert_eq!((sound.rate(), sound.channels().len()), (16_000, 2));
    assert!((4001..6000).contains(&sound.len()), "{}", sound.len());
    assert!(error(&sound) < 0.05, "{}", error(&sound));
    Ok(())
}

#[cfg(not(feature = "mp3"))]
#[test]
fn mp3_says_how_it_can_be_read() {
    let message = read(path("tone.mp3")).unwrap_err().to_string();
    assert!(message.contains("tone.mp3") && message.contains("--features mp3"), "{message}");
}
