//! Comparison of spectrograms, filter banks and what is built on them with numpy, librosa and PyTorch, read from golden
//! cases.

mod golden_files;

use candle_core::{DType, Device, Tensor, Var};
use flows_core::testing::close;
use flows_core::{Error, Result, Rng};
use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;
use waveglow::audio::{
    AudioConfig, Complex, Denoiser, GriffinLim, LogMel, MelBank, MelScale, MultiResolutionStft, Padding, Spectrogram,
    Stft,
};

/// The cases of other parts of the audio front end.
const ELSEWHERE: [&str; 4] = ["resample", "mfcc", "f0", "mcd"];

/// One golden file.
struct Golden {
    metadata: HashMap<String, String>,
    tensors: HashMap<String, Tensor>,
}

fn bad(message: impl Into<String>) -> Error {
    Error::Data(message.into())
}

fn row(values: &[f64]) -> Result<Tensor> {
    Ok(Tensor::new(values, &Device::Cpu)?)
}

/// Whether there is anything to check for this file.
fn check(path: &Path) -> Result<bool> {
    let golden = Golden::read(path)?;
    match golden.metadata.get("case").map(String::as_str) {
        Some(case) if ELSEWHERE.contains(&case) => return Ok(false),
        Some("stft") => golden.stft(),
        Some("istft") => golden.inverse_stft(),
        Some("mel_bank") => golden.mel_bank(),
        Some("log_mel") => golden.log_mel(Padding::Centred),
        Some("log_mel_uncentred") => golden.log_mel(Padding::Uncentred),
        Some("bias_denoiser") => golden.denoiser(),
        Some("griffin_lim") => golden.griffin_lim(),
        Some("mrstft") => golden.multi_resolution(),
        Some(other) => Err(bad(format!("the case `{other}` is unknown"))),
        None => golden.tone(),
    }?;
    Ok(true)
}

impl Golden {
    fn read(path: &Path) -> Result<Self> {
        let (metadata, tensors) = golden_files::read(path, DType::F64)?;
        Ok(Self { metadata, tensors })
    }

    fn text(&self, name: &str) -> Result<&str> {
        self.metadata.get(name).map(String::as_str).ok_or_else(|| bad(format!("the metadata has no `{name}`")))
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<T> {
        self.text(name)?.parse().map_err(|_| bad(format!("`{name}` is no number")))
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| bad(format!("there is no tensor `{name}`")))
    }

    fn values(&self, name: &str) -> Result<Vec<f64>> {
        Ok(self.tensor(name)?.flatten_all()?.to_vec1()?)
    }

    /// A tensor (bins, frames) as (frames, bins).
    fn frames(&self, name: &str) -> Result<Vec<f64>> {
        Ok(self.tensor(name)?.t()?.contiguous()?.flatten_all()?.to_vec1()?)
    }

    /// A number, or one by default where the metadata does not have it.
    fn number_or<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        if self.metadata.contains_key(name) { self.number(name) } else { Ok(default) }
    }

    /// The settings of the case; those that it does not have are Tacotron 2's.
    fn settings(&self, padding: Padding) -> Result<AudioConfig> {
        let defaults = AudioConfig::default();
        let fft = self.number_or("n_fft", defaults.fft)?;
        let scale = match self.metadata.get("scale").map(String::as_str) {
            Some("htk") => MelScale::Htk,
            Some("slaney") | None => MelScale::Slaney,
            Some(other) => return Err(bad(format!("the scale `{other}` is unknown"))),
        };
        Ok(AudioConfig {
            rate: self.number("sampling_rate")?,
            fft,
            hop: self.number_or("hop", fft / 4)?,
            window: self.number_or("win", fft)?,
            bands: self.number_or("n_mels", defaults.bands)?,
            low: self.number_or("fmin", defaults.low)?,
            high: self.number_or("fmax", defaults.high)?,
            scale,
            padding,
        })
    }

    fn transform(&self) -> Result<Stft<f64>> {
        let fft = self.number("n_fft")?;
        Stft::new(fft, self.number("hop")?, self.number_or("win", fft)?, Padding::Centred)
    }

    fn stft(&self) -> Result<()> {
        let stft = self.transform()?;
        let lengths: Vec<&str> = self.tensors.keys().filter_map(|name| name.strip_suffix(".x")).collect();
        if lengths.is_empty() {
            return Err(bad("there are no signals"));
        }
        for n in lengths {
            let x = self.values(&format!("{n}.x"))?;
            let spectrogram = stft.transform(&x)?;
            let parts: [fn(&Complex<f64>) -> f64; 2] = [|z| z.re, |z| z.im];
            for (part, name) in parts.into_iter().zip(["re", "im"]) {
                let got: Vec<f64> = spectrogram.values().iter().map(part).collect();
                close(&format!("{n}.{name}"), &row(&self.frames(&format!("{n}.{name}"))?)?, &row(&got)?, 1e-10)?;
            }
            let inverse = format!("{n}.istft");
            if self.tensors.contains_key(&inverse) {
                close(&inverse, self.tensor(&inverse)?, &row(&stft.inverse(&spectrogram, x.len())?)?, 1e-10)?;
            }
        }
        if stft.transform(&[]).is_ok() { Err(bad("a signal without samples has a spectrogram")) } else { Ok(()) }
    }

    fn inverse_stft(&self) -> Result<()> {
        let stft = self.transform()?;
        let pairs = self.frames("re")?.into_iter().zip(self.frames("im")?);
        let spectrogram = Spectrogram::new(pairs.map(|(re, im)| Complex::new(re, im)).collect(), stft.bins())?;
        let want = self.values("y")?;
        close("y", &row(&want)?, &row(&stft.inverse(&spectrogram, want.len())?)?, 1e-9)
    }

    fn mel_bank(&self) -> Result<()> {
        let settings = self.settings(Padding::Centred)?;
        let same_area: bool = self.number("area_normalised")?;
        let bank = MelBank::<f64>::with_area(&settings, same_area)?;
        if bank.empty_filters() != self.number::<usize>("empty_filters")? {
            return Err(bad(format!("{} filters are empty", bank.empty_filters())));
        }
        close("centre_hz", self.tensor("centre_hz")?, &row(bank.centres())?, 1e-12)?;
        let (starts, lengths, mut values) =
            (self.values("start")?, self.values("length")?, self.values("values")?.into_iter());
        // As dense matrices, since a weight at the edge of a filter may be rounded to 0.
        let (bands, bins) = (settings.bands, settings.fft / 2 + 1);
        let (mut want, mut got) = (vec![0.0; bands * bins], vec![0.0; bands * bins]);
        for (band, (&start, &length)) in starts.iter().zip(&lengths).enumerate() {
            for (bin, value) in (start as usize..).zip(values.by_ref().take(length as usize)) {
                want[band * bins + bin] = value;
            }
            let (start, weights) = bank.filter(band).ok_or_else(|| bad(format!("there is no band {band}")))?;
            got[band * bins + start..][..weights.len()].copy_from_slice(weights);
        }
        close("the weights", &row(&want)?, &row(&got)?, 1e-12)?;
        let by_default = MelBank::<f64>::new(&settings)?;
        let same = (0..bands).all(|band| by_default.filter(band) == bank.filter(band));
        if same == (same_area == (settings.scale == MelScale::Slaney)) {
            Ok(())
        } else {
            Err(bad("the scale does not say which filters have the same area"))
        }
    }

    fn log_mel(&self, padding: Padding) -> Result<()> {
        let settings = self.settings(padding)?;
        // HiFi-GAN adds to the powers.
        let offset = if self.text("formula")?.contains("1e-9)") { 1e-9 } else { 0.0 };
        let log_mel = LogMel::with_power_offset(&settings, offset)?;
        let x = Var::from_tensor(&self.tensor("audio")?.unsqueeze(0)?)?;
        let mel = log_mel.forward(&x)?;
        close("mel", &self.tensor("mel")?.unsqueeze(0)?, &mel, 1e-9)?;
        let single = log_mel.forward(&x.to_dtype(DType::F32)?)?;
        close("mel in f32", &mel, &single, 1e-2)?;
        if let Some(weights) = self.tensors.get("gy") {
            let gradients = mel.broadcast_mul(weights)?.sum_all()?.backward()?;
            let gradient = gradients.get(&x).ok_or_else(|| bad("there is no gradient"))?;
            close("grad.audio", &self.tensor("grad.audio")?.unsqueeze(0)?, gradient, 1e-8)?;
        }
        Ok(())
    }

    fn denoiser(&self) -> Result<()> {
        let denoiser = Denoiser::new(self.transform()?, self.values("bias")?)?;
        let want = self.values("denoised")?;
        let got = denoiser.apply(&self.values("audio")?, self.number("strength")?)?;
        close("denoised", &row(&want)?, &row(&got)?.narrow(0, 0, want.len())?, 1e-9)
    }

    fn griffin_lim(&self) -> Result<()> {
        let stft = self.transform()?;
        let magnitudes = self.frames("magnitude")?;
        let samples = self.values("audio")?.len();
        let reached: HashMap<String, [f64; 2]> =
            serde_json::from_str(self.text("spectral_convergence")?).map_err(|e| bad(e.to_string()))?;
        for (settings, [_, greatest]) in reached {
            let words: Vec<&str> = settings.split([' ', ',']).collect();
            let ["momentum", momentum, "", iterations, "iterations"] = words[..] else {
                return Err(bad(format!("`{settings}` is unknown")));
            };
            let number = |text: &str| text.parse::<f64>().map_err(|e| bad(format!("{text}: {e}")));
            let griffin_lim = GriffinLim { iterations: number(iterations)? as usize, momentum: number(momentum)? };
            let y = griffin_lim.signal(&stft, &magnitudes, samples, &mut Rng::seed(1))?;
            let sum = |f: &dyn Fn(f64, f64) -> f64, other: &[f64]| {
                magnitudes.iter().zip(other).map(|(&a, &b)| f(a, b)).sum::<f64>()
            };
            let again = stft.transform(&y)?.magnitudes();
            let off = (sum(&|a, b| (a - b).powi(2), &again) / sum(&|a, _| a * a, &again)).sqrt();
            if off.is_nan() || off > 1.1 * greatest {
                return Err(bad(format!("{settings}: the convergence is {off}, not {greatest} or less")));
            }
        }
        Ok(())
    }

    fn multi_resolution(&self) -> Result<()> {
        let resolutions: Vec<[usize; 3]> =
            serde_json::from_str(self.text("resolutions")?).map_err(|e| bad(e.to_string()))?;
        let x = Var::from_tensor(&self.tensor("x")?.unsqueeze(0)?)?;
        let y = self.tensor("y")?.unsqueeze(0)?;
        let loss = MultiResolutionStft::new(&resolutions)?.loss(&x, &y)?;
        close("loss", self.tensor("loss")?, &loss, 1e-8)?;
        let gradients = loss.backward()?;
        let gradient = gradients.get(&x).ok_or_else(|| bad("there is no gradient"))?;
        // Relative to the largest, which is small.
        let want = self.tensor("grad.x")?.unsqueeze(0)?;
        let scale = want.abs()?.max_all()?.to_scalar::<f64>()?.min(1.0);
        close("grad.x", &(want / scale)?, &(gradient / scale)?, 1e-8)
    }

    /// A tone with its filter bank and spectrogram, by default settings. The bank is of f32 numbers.
    fn tone(&self) -> Result<()> {
        let log_mel = LogMel::new(&self.settings(Padding::Centred)?)?;
        let bank = &log_mel.front::<f64>().bank;
        let ones = Tensor::eye(bank.bands(), DType::F64, &Device::Cpu)?.flatten_all()?.to_vec1()?;
        close("filter_bank", &self.tensor("filter_bank")?.flatten_all()?, &row(&bank.transpose(&ones)?)?, 1e-8)?;
        let mel = log_mel.of(&self.values("audio")?)?;
        close("mel", &self.tensor("mel")?.flatten_all()?, &row(&mel)?, 1e-6)
    }
}

#[test]
fn golden_audio() {
    let Some(root) = golden_files::root() else { return };
    let mut failures = Vec::new();
    for folder in ["audio", "mel"].map(|name| root.join(name)) {
        let files = std::fs::read_dir(&folder)
            .unwrap_or_else(|e| panic!("{}: {e}; FLOWS_GOLDEN must name the folder of golden cases", folder.display()));
        let mut count = 0;
        for file in files {
            let path = file.expect("a folder that can be listed").path();
            if path.extension().is_none_or(|extension| extension != "safetensors") {
                continue;
            }
            match check(&path) {
                Ok(checked) => count += usize::from(checked),
                Err(error) => failures.push(format!("{}: {error}", path.display())),
            }
        }
        if count == 0 {
            failures.push(format!("no golden case under {} passes", folder.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
