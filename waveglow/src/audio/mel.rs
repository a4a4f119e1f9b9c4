//! Mel filter banks.

use super::{AudioConfig, MelScale, Sample};
use flows_core::{Error, Result};
use rayon::prelude::*;
use std::ops::Range;

/// The largest number of bands.
const MOST: usize = 1 << 16;

/// A bank of triangular filters over the bins of a spectrum, evenly spaced on a mel scale: from the centre of the band
/// below a filter rises linearly in Hz to 1 at its own centre, and falls to 0 at that of the band above. These are
/// librosa's filters.
///
/// Only the weights above 0 are stored.
#[derive(Clone, Debug)]
pub struct MelBank<T> {
    bins: usize,
    filters: Vec<Filter>,
    weights: Vec<T>,
    centres: Vec<f64>,
    /// The bins that some filter covers.
    reach: Range<usize>,
}

/// The weights of one filter.
#[derive(Clone, Debug)]
struct Filter {
    /// The first bin.
    start: usize,
    /// The place of its weights among those of the bank.
    weights: Range<usize>,
}

impl<T: Sample> MelBank<T> {
    /// The bank of these settings: filters on Slaney's scale have the same area, those on HTK's the same height.
    ///
    /// # Errors
    /// When the settings do not pass [`AudioConfig::check`], or there are more than 2^16 bands.
    pub fn new(config: &AudioConfig) -> Result<Self> {
        Self::with_area(config, config.scale == MelScale::Slaney)
    }

    /// The bank of these settings, with filters of the same area if `same_area`, the weights being multiplied by 2 over
    /// the width in Hz, else of the same height.
    ///
    /// # Errors
    /// When the settings do not pass [`AudioConfig::check`], or there are more than 2^16 bands.
    pub fn with_area(config: &AudioConfig, same_area: bool) -> Result<Self> {
        config.check()?;
        if config.bands > MOST {
            return Err(Error::Config(format!("{} `bands` are too many: give at most {MOST}", config.bands)));
        }
        let bins = config.fft / 2 + 1;
        let spacing = config.rate as f64 / config.fft as f64;
        let edges = edges(config);
        let (mut filters, mut weights, mut reach) = (Vec::new(), Vec::new(), None::<Range<usize>>);
        for edge in edges.windows(3) {
            let [below, centre, above] = [edge[0], edge[1], edge[2]];
            let height = if same_area { 2.0 / (above - below) } else { 1.0 };
            let weight = |bin: usize| {
                let hz = bin as f64 * spacing;
                height * ((hz - below) / (centre - below)).min((above - hz) / (above - centre))
            };
            // The bins in question, with one more at each end for rounding.
            let first = ((below / spacing).floor() as usize).saturating_sub(1);
            let last = ((above / spacing).ceil() as usize + 2).min(bins);
            let covered = |bin: &usize| T::of(weight(*bin)) > T::zero();
            let start = (first..last).find(covered).unwrap_or(0);
            let end = (start..last).rfind(covered).map_or(start, |bin| bin + 1);
            filters.push(Filter { start, weights: weights.len()..weights.len() + end - start });
            weights.extend((start..end).map(|bin| T::of(weight(bin).max(0.0))));
            if end > start {
                let reach = reach.get_or_insert(start..end);
                *reach = reach.start.min(start)..reach.end.max(end);
            }
        }
        let centres = edges[1..=config.bands].to_vec();
        Ok(Self { bins, filters, weights, centres, reach: reach.unwrap_or(0..0) })
    }

    /// The number of bands.
    pub fn bands(&self) -> usize {
        self.filters.len()
    }

    /// The number of bins of a spectrum.
    pub fn bins(&self) -> usize {
        self.bins
    }

    /// The bands' centres in Hz, ascending.
    pub fn centres(&self) -> &[f64] {
        &self.centres
    }

    /// The first bin with a weight above 0 of a band, and the weights from there on; none for an empty filter.
    pub fn filter(&self, band: usize) -> Option<(usize, &[T])> {
        self.filters.get(band).map(|filter| (filter.start, &self.weights[filter.weights.clone()]))
    }

    /// The number of filters so narrow that they lie between two bins: these bands are always 0. If there are any,
    /// warn: the bands are too many for the length of the transform.
    pub fn empty_filters(&self) -> usize {
        self.filters.iter().filter(|filter| filter.weights.is_empty()).count()
    }

    /// The bands of spectra, (frames, bins) to (frames, bands), both row-major.
    ///
    /// # Errors
    /// When they are not whole frames.
    pub fn apply(&self, spectra: &[T]) -> Result<Vec<T>> {
        self.per_frame(spectra, self.bins, self.bands(), |spectrum, bands| {
            self.apply_lanes(spectrum[self.reach.clone()].as_chunks::<1>().0, bands.as_chunks_mut::<1>().0);
        })
    }

    /// The transpose of [`Self::apply`], (frames, bands) to (frames, bins).
    ///
    /// # Errors
    /// When they are not whole frames.
    pub fn transpose(&self, bands: &[T]) -> Result<Vec<T>> {
        self.per_frame(bands, self.bands(), self.bins, |bands, spectrum| {
            self.transpose_lanes(bands.as_chunks::<1>().0, spectrum[self.reach.clone()].as_chunks_mut::<1>().0);
        })
    }

    /// `f` of every frame of `width` numbers, which writes `out` numbers.
    fn per_frame(&self, frames: &[T], width: usize, out: usize, f: impl Fn(&[T], &mut [T]) + Sync) -> Result<Vec<T>> {
        if !frames.len().is_multiple_of(width) {
            return Err(Error::shape("a filter bank's input", &[frames.len()], format!("whole frames of {width}")));
        }
        let mut result = vec![T::zero(); frames.len() / width * out];
        result.par_chunks_mut(out).zip(frames.par_chunks(width)).for_each(|(result, frame)| f(frame, result));
        Ok(result)
    }

    /// The bins that some filter covers.
    pub(super) fn reach(&self) -> Range<usize> {
        self.reach.clone()
    }

    /// The bands of N spectra side by side, of which the bins of [`Self::reach`] are given.
    #[inline(always)]
    pub(super) fn apply_lanes<const N: usize>(&self, bins: &[[T; N]], bands: &mut [[T; N]]) {
        for (band, filter) in bands.iter_mut().zip(&self.filters) {
            let weights = &self.weights[filter.weights.clone()];
            let mut sums = [T::zero(); N];
            for (bin, &weight) in bins[filter.start.saturating_sub(self.reach.start)..].iter().zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(bin) {
                    *sum += weight * value;
                }
            }
            *band = sums;
        }
    }

    /// The transpose of [`Self::apply_lanes`].
    #[inline(always)]
    pub(super) fn transpose_lanes<const N: usize>(&self, bands: &[[T; N]], bins: &mut [[T; N]]) {
        bins.fill([T::zero(); N]);
        for (band, filter) in bands.iter().zip(&self.filters) {
            let weights = &self.weights[filter.weights.clone()];
            for (bin, &weight) in bins[filter.start.saturating_sub(self.reach.start)..].iter_mut().zip(weights) {
                for (value, &band) in bin.iter_mut().zip(band) {
                    *value += weight * band;
                }
            }
        }
    }
}

/// The centres of the bands in Hz, with the edges of the lowest and the highest before and after them.
fn edges(config: &AudioConfig) -> Vec<f64> {
    let [low, high] = [config.low, config.high].map(|hz| to_mel(hz, config.scale));
    let step = (high - low) / (config.bands + 1) as f64;
    (0..config.bands + 2).map(|i| to_hz(low + step * i as f64, config.scale)).collect()
}

/// The frequency above which Slaney's scale is logarithmic, in Hz and in mel.
const KNEE: (f64, f64) = (1000.0, 15.0);

/// The logarithm of the ratio of frequencies one mel apart on Slaney's scale above the knee.
fn log_step() -> f64 {
    6.4f64.ln() / 27.0
}

fn to_mel(hz: f64, scale: MelScale) -> f64 {
    match scale {
        MelScale::Htk => 2595.0 * (1.0 + hz / 700.0).log10(),
        MelScale::Slaney if hz >= KNEE.0 => KNEE.1 + (hz / KNEE.0).ln() / log_step(),
        MelScale::Slaney => 3.0 * hz / 200.0,
    }
}

fn to_hz(mel: f64, scale: MelScale) -> f64 {
    match scale {
        MelScale::Htk => 700.0 * (10f64.powf(mel / 2595.0) - 1.0),
        MelScale::Slaney if mel >= KNEE.1 => KNEE.0 * ((mel - KNEE.1) * log_step()).exp(),
        MelScale::Slaney => 200.0 * mel / 3.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_core::Rng;

    #[test]
    fn scales_are_inverted() {
        for scale in [MelScale::Slaney, MelScale::Htk] {
            for hz in [0.0, 20.0, 999.9, 1000.0, 1000.1, 8000.0, 24_000.0] {
                assert!((to_hz(to_mel(hz, scale), scale) - hz).abs() < 1e-9 * hz.max(1.0));
            }
        }
        // One kHz is 1000 mel in HTK's scale, to its four digits.
        assert!((to_mel(1000.0, MelScale::Htk) - 1000.0).abs() < 0.1);
        assert!((to_mel(6400.0, MelScale::Slaney) - 42.0).abs() < 1e-12);
    }

    #[test]
    fn the_transpose_is_one() -> Result<()> {
        let rng = &mut Rng::seed(1);
        let bank = MelBank::<f64>::new(&AudioConfig { fft: 512, hop: 128, window: 512, ..AudioConfig::default() })?;
        let mut draw = |n: usize| (0..n).map(|_| rng.normal()).collect::<Vec<f64>>();
        let (spectra, bands) = (draw(3 * bank.bins()), draw(3 * bank.bands()));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let there = dot(&bank.apply(&spectra)?, &bands);
        assert!((there - dot(&spectra, &bank.transpose(&bands)?)).abs() < 1e-12);
        assert!(bank.apply(&spectra[1..]).is_err() && bank.transpose(&bands[1..]).is_err());
        Ok(())
    }

    #[test]
    fn narrow_filters_are_counted() -> Result<()> {
        let config = AudioConfig { fft: 256, hop: 64, window: 256, bands: 128, ..AudioConfig::default() };
        let bank = MelBank::<f32>::new(&config)?;
        let empty = (0..128).filter(|&band| bank.filter(band).is_some_and(|(_, weights)| weights.is_empty())).count();
        assert!(bank.empty_filters() > 10 && bank.empty_filters() == empty);
        assert!(bank.apply(&vec![1.0; 129])?.iter().filter(|&&v| v == 0.0).count() == empty);
        assert_eq!(MelBank::<f32>::new(&AudioConfig::default())?.empty_filters(), 0);
        assert!(MelBank::<f32>::new(&AudioConfig { bands: usize::MAX, ..AudioConfig::default() }).is_err());
        assert!(MelBank::<f32>::new(&AudioConfig { high: 11_026.0, ..AudioConfig::default() }).is_err());
        Ok(())
    }
}
