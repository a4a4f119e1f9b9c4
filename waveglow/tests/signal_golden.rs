//! Comparison of reading, resampling and measures with other implementations, read from golden cases.

mod golden_files;

use candle_core::{DType, Tensor};
use flows_core::{Error, Result};
use realfft::RealFftPlanner;
use serde_json::Value;
use std::collections::HashMap;
use std::f64::consts::TAU;
use std::path::{Path, PathBuf};
use waveglow::audio::{
    LogEnergy, PitchConfig, Sound, aligned_cepstral_distortion, cepstral_distortion, extended_stoi,
    log_spectral_distance, mel_cepstrum, mfcc, pitch, read, resample, si_sdr, snr, stoi,
};

fn bad(message: impl Into<String>) -> Error {
    Error::Data(message.into())
}

/// Fails unless two rows of numbers agree to this absolute tolerance.
fn close(what: &str, want: &[f64], got: &[f64], tolerance: f64) -> Result<()> {
    let worst = want.iter().zip(got).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let agree = want.len() == got.len() && want.iter().zip(got).all(|(a, b)| (a - b).abs() <= tolerance);
    if agree { Ok(()) } else { Err(bad(format!("`{what}` ({} of {}) differs by {worst:e}", got.len(), want.len()))) }
}

/// The folder of golden cases of sound, if there is one.
fn folder() -> Option<PathBuf> {
    Some(golden_files::root()?.join("audio"))
}

/// One golden file.
struct Golden {
    metadata: HashMap<String, String>,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    fn read(path: &Path) -> Result<Self> {
        let (metadata, tensors) = golden_files::read(path, DType::F64)?;
        Ok(Self { metadata, tensors })
    }

    fn word(&self, name: &str) -> Result<&str> {
        self.metadata.get(name).map(String::as_str).ok_or_else(|| bad(format!("the metadata has no `{name}`")))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        self.word(name)?.parse().map_err(|_| bad(format!("`{name}` is no number")))
    }

    fn tensor(&self, name: &str) -> Result<Vec<f64>> {
        let tensor = self.tensors.get(name).ok_or_else(|| bad(format!("there is no tensor `{name}`")))?;
        Ok(tensor.flatten_all()?.to_vec1()?)
    }
}

/// `|STFT|^2` (bins, frames) of the signal padded by reflection, with a periodic Hann window centred in the transform.
fn powers(x: &[f64], fft: usize, hop: usize, window: usize) -> Vec<f64> {
    let padding = fft / 2;
    let period = 2 * (x.len() - 1);
    let at = |i: usize| {
        let place = (i + 4 * period - padding) % period;
        x[place.min(period - place)]
    };
    let frames = 1 + x.len() / hop;
    let transform = RealFftPlanner::new().plan_fft_forward(fft);
    let mut spectrum = transform.make_output_vec();
    let mut powers = vec![0.0; spectrum.len() * frames];
    for frame in 0..frames {
        let mut part = vec![0.0; fft];
        for j in 0..window {
            let place = (fft - window) / 2 + j;
            part[place] = at(frame * hop + place) * (0.5 - 0.5 * (TAU * j as f64 / window as f64).cos());
        }
        transform.process(&mut part, &mut spectrum).expect("a transform of its own length");
        spectrum.iter().enumerate().for_each(|(bin, z)| powers[bin * frames + frame] = z.norm_sqr());
    }
    powers
}

/// The energies (bands, frames) of Slaney's mel filters from 0 Hz to half the rate, given magnitudes or powers
/// (bins, frames).
fn mel(spectrum: &[f64], bins: usize, rate: f64, bands: usize) -> Vec<f64> {
    let to_mel = |hertz: f64| {
        if hertz < 1000.0 { hertz * 0.015 } else { 15.0 + 27.0 * (hertz / 1000.0).ln() / 6.4f64.ln() }
    };
    let to_hertz = |mel: f64| {
        if mel < 15.0 { mel / 0.015 } else { 1000.0 * ((mel - 15.0) * 6.4f64.ln() / 27.0).exp() }
    };
    let top = to_mel(rate / 2.0);
    let edges: Vec<f64> = (0..bands + 2).map(|i| to_hertz(top * i as f64 / (bands + 1) as f64)).collect();
    let frames = spectrum.len() / bins;
    let mut energies = vec![0.0; bands * frames];
    for (band, edge) in edges.windows(3).enumerate() {
        for (bin, row) in spectrum.chunks_exact(frames).enumerate() {
            let hertz = bin as f64 * rate / 2.0 / (bins - 1) as f64;
            let rise = (hertz - edge[0]) / (edge[1] - edge[0]);
            let fall = (edge[2] - hertz) / (edge[2] - edge[1]);
            let weight = rise.min(fall).max(0.0) * 2.0 / (edge[2] - edge[0]);
            (0..frames).for_each(|i| energies[band * frames + i] += weight * row[i]);
        }
    }
    energies
}

fn check_mfcc(golden: &Golden) -> Result<()> {
    let (fft, hop, window): (usize, _, _) = (golden.number("n_fft")?, golden.number("hop")?, golden.number("win")?);
    let bands = golden.number("n_mels")?;
    let powers = powers(&golden.tensor("audio")?, fft, hop, window);
    let energies = mel(&powers, fft / 2 + 1, golden.number("sampling_rate")?, bands);
    for (name, log) in [("mfcc", LogEnergy::Natural), ("mfcc_db", LogEnergy::Decibels)] {
        close(name, &golden.tensor(name)?, &mfcc(&energies, bands, 20, log)?, 1e-8)?;
    }
    Ok(())
}

fn check_mcd(golden: &Golden) -> Result<()> {
    const BANDS: usize = 80;
    let rate = golden.number("sampling_rate")?;
    let log_mel = |name: &str| -> Result<Vec<f64>> {
        let magnitudes: Vec<f64> = powers(&golden.tensor(name)?, 1024, 256, 1024).iter().map(|p| p.sqrt()).collect();
        Ok(mel(&magnitudes, 513, rate, BANDS).iter().map(|e| e.max(1e-5).ln()).collect())
    };
    let (x, y) = (log_mel("x")?, log_mel("y")?);
    close("cepstrum.x", &golden.tensor("cepstrum.x")?, &mel_cepstrum(&x, BANDS)?, 1e-6)?;
    close("cepstrum.y", &golden.tensor("cepstrum.y")?, &mel_cepstrum(&y, BANDS)?, 1e-6)?;
    let aligned = aligned_cepstral_distortion(&x, &y, BANDS)?;
    let got = [cepstral_distortion(&x, &y, BANDS)?, aligned.distortion];
    close("mcd", &[golden.number("mcd_framewise")?, golden.number("mcd_dtw")?], &got, 1e-6)?;
    let path: Vec<f64> = aligned.path.iter().flatten().map(|&i| i as f64).collect();
    close("path", &golden.tensor("path")?, &path, 0.0)
}

fn check_pitch(golden: &Golden) -> Result<()> {
    let samples: Vec<f32> = golden.tensor("audio")?.iter().map(|&x| x as f32).collect();
    let config = PitchConfig { hop: golden.number("hop")?, ..Default::default() };
    let found = pitch(&samples, golden.number("sampling_rate")?, &config)?;
    let (centres, truth, voiced) = (golden.tensor("frame_centre")?, golden.tensor("f0")?, golden.tensor("voiced")?);
    if found.len() != centres.len() {
        return Err(bad(format!("{} frames of {}", found.len(), centres.len())));
    }
    // What 1024 samples about each frame are: all voiced, none, or both.
    let part = |centre: f64| {
        let near = centres.iter().zip(&voiced).filter(|(other, _)| (*other - centre).abs() <= 512.0);
        near.fold((true, true), |(all, none), (_, &voiced)| (all && voiced > 0.0, none && voiced == 0.0))
    };
    let (mut cents, mut missed, mut wrong, mut unvoiced) = (Vec::new(), 0, 0, 0);
    for ((centre, truth), found) in centres.iter().zip(&truth).zip(&found) {
        match (part(*centre), found) {
            ((true, _), Some(found)) => cents.push((1200.0 * (found / truth).log2()).abs()),
            ((true, _), None) => missed += 1,
            ((_, true), found) => {
                unvoiced += 1;
                wrong += usize::from(found.is_some());
            }
            _ => {}
        }
    }
    cents.sort_by(f64::total_cmp);
    let at = |share: f64| cents[(share * (cents.len() - 1) as f64).round() as usize];
    let (frames, summary) = (cents.len() + missed, [at(0.5), at(0.95)]);
    eprintln!("pitch: median and 95 % {summary:.2?} cents, {missed} of {frames} missed, {wrong} of {unvoiced} wrong");
    if summary[0] > 10.0 || summary[1] > 30.0 || missed * 50 > frames || wrong * 20 > unvoiced {
        return Err(bad(format!("{summary:?} cents, {missed} of {frames} missed, {wrong} of {unvoiced} wrong")));
    }
    Ok(())
}

fn check_resample(golden: &Golden) -> Result<()> {
    let pairs: Vec<&str> = golden.tensors.keys().filter_map(|name| name.strip_suffix(".frequencies")).collect();
    if pairs.is_empty() {
        return Err(bad("no pair of rates"));
    }
    for pair in pairs {
        let rates = pair.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
        let (from, to): (usize, usize) = rates.ok_or_else(|| bad(format!("`{pair}` is no pair of rates")))?;
        let (frequencies, phases) =
            (golden.tensor(&format!("{pair}.frequencies"))?, golden.tensor(&format!("{pair}.phases"))?);
        let nyquist = from.min(to) as f64 / 2.0;
        let resampled = |signal: &dyn Fn(f64) -> f64| -> Result<Vec<f32>> {
            let samples = (0..from / 2).map(|i| signal(i as f64 / from as f64) as f32).collect();
            Ok(resample(&Sound::mono(from, samples)?, to)?.into_channels().swap_remove(0))
        };
        // Away from 30 ms at each end.
        let margin = 30 * to / 1000;
        for (highest, target) in [(0.5, 100.0), (0.85, 70.0)] {
            let tones = || frequencies.iter().zip(&phases).filter(|(f, _)| **f <= highest * nyquist + 1e-6);
            let signal = |t: f64| tones().map(|(f, phase)| 0.08 * (TAU * f * t + phase).sin()).sum::<f64>();
            let got = resampled(&signal)?;
            if got.len() != (from / 2 * to).div_ceil(from) {
                return Err(bad(format!("{pair}: {} samples", got.len())));
            }
            let (mut power, mut error) = (0.0, 0.0);
            for (i, y) in got.iter().enumerate().take(got.len() - margin).skip(margin) {
                let want = signal(i as f64 / to as f64);
                power += want * want;
                error += (f64::from(*y) - want).powi(2);
            }
            let ratio: f64 = 10.0 * (power / error).log10();
            eprintln!("resample {pair}: {ratio:.1} dB up to {highest}");
            if !(ratio >= target && tones().count() > 0) {
                return Err(bad(format!("{pair}: {ratio} dB with tones up to {highest}, {target} are wanted")));
            }
        }
        if to < from {
            let got = resampled(&|t| 0.5 * (TAU * 1.25 * nyquist * t).sin())?;
            let inner = &got[margin..got.len() - margin];
            let power = inner.iter().map(|y| f64::from(*y).powi(2)).sum::<f64>() / inner.len() as f64;
            let alias = 10.0 * (power / 0.125).log10();
            eprintln!("resample {pair}: alias {alias:.1} dB");
            if alias > -90.0 {
                return Err(bad(format!("{pair}: an alias of {alias} dB")));
            }
        }
    }
    Ok(())
}

#[test]
fn golden_measures() {
    /// The cases of spectrograms and what is made from them, which have tests of their own.
    const OTHERS: [&str; 8] =
        ["bias_denoiser", "griffin_lim", "istft", "log_mel", "log_mel_uncentred", "mel_bank", "mrstft", "stft"];
    let Some(folder) = folder() else { return };
    let (mut failures, mut count) = (Vec::new(), 0);
    let files = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}; FLOWS_GOLDEN must name the folder of golden cases", folder.display()));
    for file in files {
        let path = file.expect("a folder that can be listed").path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        let check = || -> Result<usize> {
            let golden = Golden::read(&path)?;
            match golden.word("case")? {
                "mfcc" => check_mfcc(&golden)?,
                "mcd" => check_mcd(&golden)?,
                "f0" => check_pitch(&golden)?,
                "resample" => check_resample(&golden)?,
                other if OTHERS.contains(&other) => return Ok(0),
                other => return Err(bad(format!("the case `{other}` is unknown"))),
            }
            Ok(1)
        };
        match check() {
            Ok(checked) => count += checked,
            Err(error) => failures.push(format!("{}: {error}", path.display())),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count >= 4, "{count} cases of {}", folder.display());
}

#[test]
fn golden_quality() -> Result<()> {
    let Some(folder) = folder() else { return Ok(()) };
    let text = std::fs::read_to_string(folder.join("quality.json")).map_err(|e| Error::file(&folder, e))?;
    let said: Value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    let samples = |name: &str| -> Result<(Vec<f32>, usize)> {
        let sound = read(folder.join(name))?;
        Ok((sound.mix(), sound.rate()))
    };
    let (clean, rate) = samples(said["reference"].as_str().unwrap_or_default())?;
    assert_eq!(Some(rate as u64), said["sampling_rate"].as_u64());
    let spectrum = |x: &[f32]| powers(&x.iter().map(|&x| x.into()).collect::<Vec<_>>(), 512, 128, 512);
    let values = said["values"].as_object().ok_or_else(|| bad("there are no values"))?;
    for (name, want) in values {
        let (processed, _) = samples(&format!("quality_{name}.wav"))?;
        let distance = log_spectral_distance(&spectrum(&clean), &spectrum(&processed), 257)?;
        let got = [
            ("stoi", stoi(&clean, &processed, rate)?, 1e-3),
            ("estoi", extended_stoi(&clean, &processed, rate)?, 1e-3),
            ("si_sdr_db", si_sdr(&clean, &processed)?, 0.01),
            ("snr_db", snr(&clean, &processed)?, 0.01),
            ("lsd_db", distance, 0.01),
        ];
        for (measure, got, tolerance) in got {
            let want = want[measure].as_f64().ok_or_else(|| bad(format!("{name} has no `{measure}`")))?;
            eprintln!("{name} {measure}: {got:.6}, {want:.6}");
            close(&format!("{name} {measure}"), &[want], &[got], tolerance)?;
        }
    }
    assert!(!values.is_empty());
    Ok(())
}

#[test]
fn golden_files() -> Result<()> {
    let Some(folder) = folder().map(|folder| folder.join("wav")) else { return Ok(()) };
    let text = std::fs::read_to_string(folder.join("cases.json")).map_err(|e| Error::file(&folder, e))?;
    let said: Value = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    let cases = said["cases"].as_array().ok_or_else(|| bad("there are no cases"))?;
    let mut failures = Vec::new();
    for case in cases {
        let name = case["file"].as_str().unwrap_or_default();
        if let Err(error) = check_file(&folder.join(name), case) {
            failures.push(format!("{name}: {error} ({})", case["why"]));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(!cases.is_empty());
    Ok(())
}

fn check_file(path: &Path, case: &Value) -> Result<()> {
    let may = |what: &str| case.get(what).is_some_and(|value| *value != Value::Bool(false));
    let sound = match read(path) {
        Ok(sound) => sound,
        Err(error) if may("refuse") || may("may_refuse") => {
            let message = error.to_string();
            eprintln!("{message}");
            let clear = message.contains(&*path.to_string_lossy()) && error.is_bad_use();
            return if clear { Ok(()) } else { Err(bad(format!("is refused without its name: {message}"))) };
        }
        Err(error) => return Err(error),
    };
    if may("refuse") {
        return if may("may_read") { Ok(()) } else { Err(bad("is read")) };
    }
    let [rate, channels, frames] = ["sampling_rate", "channels", "frames"].map(|name| case[name].as_u64());
    let got = [sound.rate(), sound.channels().len(), sound.len()].map(|n| Some(n as u64));
    if got != [rate, channels, frames] {
        return Err(bad(format!("{got:?} for rate, channels and samples")));
    }
    let values = case["values"].as_array().ok_or_else(|| bad("there are no values"))?;
    for (i, frame) in values.iter().enumerate() {
        let single = std::slice::from_ref(frame);
        let frame = frame.as_array().map_or(single, Vec::as_slice);
        let want: Vec<f64> = frame.iter().filter_map(Value::as_f64).collect();
        let got: Vec<f64> = sound.channels().iter().map(|channel| channel[i].into()).collect();
        close(&format!("sample {i}"), &want, &got, 1e-7)?;
        close("the mix", &[want.iter().sum::<f64>() / want.len() as f64], &[sound.mix()[i].into()], 1e-7)?;
    }
    Ok(())
}
