//! The speed of the audio front end, for ten seconds at 22,050 Hz. Compare with
//! `librosa.feature.melspectrogram(y=y, sr=22050, n_fft=1024, hop_length=256, n_mels=80, fmax=8000, power=1)`
//! and `numpy.log(numpy.maximum(mel, 1e-5))`.

use candle_core::{DType, Device, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use flows_core::bijectors::Bijector;
use flows_core::{Result, Rng};
use std::hint::black_box;
use waveglow::audio::{AudioConfig, LogMel, Mdct, MultiResolutionStft};

const SAMPLES: usize = 220_160;

fn signal(samples: usize) -> Result<Tensor> {
    Ok((Rng::seed(1).normal_tensor((1, samples), DType::F32, &Device::Cpu)? * 0.1)?)
}

fn spectrograms(criterion: &mut Criterion) -> Result<()> {
    let log_mel = LogMel::new(&AudioConfig::default())?;
    let tensor = signal(SAMPLES)?;
    let samples: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
    let stft = &log_mel.front::<f32>().stft;
    let spectrogram = stft.transform(&samples)?;
    criterion.bench_function("log-mel", |b| b.iter(|| black_box(log_mel.of(&samples))));
    criterion.bench_function("stft", |b| b.iter(|| black_box(stft.transform(&samples))));
    criterion.bench_function("inverse stft", |b| b.iter(|| black_box(stft.inverse(&spectrogram, samples.len()))));
    let x = Var::from_tensor(&tensor)?;
    let step = || -> Result<_> { Ok(log_mel.forward(&x)?.sum_all()?.backward()?) };
    criterion.bench_function("log-mel and its gradient", |b| b.iter(|| black_box(step())));
    Ok(())
}

fn others(criterion: &mut Criterion) -> Result<()> {
    let x = signal(SAMPLES)?.unsqueeze(0)?;
    let mdct = Mdct::new(SAMPLES, 256)?;
    criterion.bench_function("mdct", |b| b.iter(|| black_box(mdct.inverse(&x, None))));
    // A second of sound, as in training.
    let (y, x) = (signal(22_050)?, Var::from_tensor(&(signal(22_050)? * 0.5)?)?);
    let distance = MultiResolutionStft::default();
    let step = || -> Result<_> { Ok(distance.loss(&x, &y)?.backward()?) };
    criterion.bench_function("multi-resolution stft loss and its gradient", |b| b.iter(|| black_box(step())));
    Ok(())
}

fn benchmarks(criterion: &mut Criterion) {
    spectrograms(criterion).expect("settings that are valid");
    others(criterion).expect("settings that are valid");
}

criterion_group!(benches, benchmarks);
criterion_main!(benches);
