//! Models and audio from files.

use candle_core::{Device, Tensor};
use flows_core::files::write_atomically;
use flows_core::{Error, Result};
use std::io::Write;
use std::path::{Path, PathBuf};
use waveglow::AudioFlow;
use waveglow::audio::AudioConfig;
use waveglow::published;

/// A model of ours, or one that others have published.
pub fn load(path: PathBuf, device: &Device) -> Result<AudioFlow> {
    published::load(&path, &AudioConfig::default(), device)
}

/// A log-mel spectrogram (bands, frames) in a file of NumPy, PyTorch or safetensors.
pub fn read_mel(path: &Path) -> Result<Tensor> {
    let mel = published::read_spectrogram(path)?;
    let mel = match mel.dims() {
        [1, bands, frames] => mel.reshape((*bands, *frames))?,
        [_, _] => mel,
        got => {
            return Err(Error::file(
                path,
                Error::shape("the mel spectrogram", got, "(bands, frames) or (1, bands, frames)"),
            ));
        }
    };
    let values: Vec<f32> = mel.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?;
    match values.iter().find(|v| !v.is_finite()) {
        Some(value) => Err(Error::file(path, format!("has a {value} in the spectrogram: make it again"))),
        None => Ok(Tensor::from_vec(values, mel.shape(), &Device::Cpu)?),
    }
}

/// What is odd about a spectrogram for a model with the settings `audio`: natural logarithms of magnitudes are expected.
pub fn range_note(mel: &Tensor) -> Result<Option<String>> {
    let values = mel.flatten_all()?;
    let (low, high) = (values.min(0)?.to_scalar::<f32>()?, values.max(0)?.to_scalar::<f32>()?);
    let usual = low >= -11.6 && high <= 4.0 && high > low && low < 0.0;
    Ok((!usual).then(|| {
        format!(
            "the spectrogram has values from {low:.2} to {high:.2}, but natural logarithms of magnitudes, from -11.5 to \
             about 2, are expected: was it made with another logarithm, or normalized?"
        )
    }))
}

/// Writes a matrix as a file of NumPy, in f32.
pub fn write_npy(path: &Path, values: &[f32], [rows, columns]: [usize; 2]) -> Result<()> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // Ten bytes come before it, and a line break after it; in all a multiple of 64.
    let padded = (header.len() + 11).next_multiple_of(64) - 11;
    header.push_str(&" ".repeat(padded - header.len()));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(|e| Error::Internal(e.to_string()))?;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    write_atomically(path, |file| file.write_all(&bytes).map_err(|e| Error::unwritten(path, e)))
}
