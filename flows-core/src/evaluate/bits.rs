//! Bits per dimension.

use super::Mean;
use crate::text::plural;
use serde::Serialize;
use std::f64::consts::LN_2;
use std::fmt;

/// `-log_likelihood / (dimensions ln 2)`: a log-likelihood in nats per event, as bits per dimension.
pub fn bits_per_dimension(log_likelihood: f64, dimensions: usize) -> f64 {
    -log_likelihood / (dimensions as f64 * LN_2)
}

/// The bits per dimension of discrete data, such as the channel values of an image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BitsPerDimension {
    /// The mean over the events.
    pub bits_per_dimension: f64,
    /// The standard error of the mean.
    pub standard_error: f64,
    /// The number of dimensions of an event.
    pub dimensions: usize,
    /// The mean log-density of the events as the model sees them, in nats.
    pub log_likelihood: f64,
}

impl BitsPerDimension {
    /// The bits per dimension of events with these log-densities; `bits` converts a log-density, accounting for the
    /// scale of the model's data.
    pub fn of(log_densities: &[f64], dimensions: usize, bits: impl FnOnce(f64) -> f64) -> Self {
        let Mean { mean, standard_error } = Mean::of(log_densities);
        let standard_error = standard_error / (dimensions as f64 * LN_2);
        Self { bits_per_dimension: bits(mean), standard_error, dimensions, log_likelihood: mean }
    }
}

/// The bits per dimension of images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ImageBits {
    /// The number of images.
    pub images: usize,
    /// Their bits.
    #[serde(flatten)]
    pub bits: BitsPerDimension,
    /// Bits per value that the images had before padding, if they were padded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_unpadded_dimension: Option<f64>,
    /// The number of values per image before padding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpadded_dimensions: Option<usize>,
}

impl ImageBits {
    /// The [`BitsPerDimension`] of images with these log-densities; `unpadded` is the number of values that an image
    /// had before padding, if known.
    pub fn of(
        log_densities: &[f64],
        dimensions: usize,
        unpadded: Option<usize>,
        bits: impl FnOnce(f64) -> f64,
    ) -> Self {
        let bits = BitsPerDimension::of(log_densities, dimensions, bits);
        let unpadded = unpadded.filter(|unpadded| *unpadded != dimensions);
        Self {
            images: log_densities.len(),
            bits,
            bits_per_unpadded_dimension: unpadded.map(|n| bits.bits_per_dimension * dimensions as f64 / n as f64),
            unpadded_dimensions: unpadded,
        }
    }

    /// A description for the user, with what the images were `given` and a `note` on the figure, either of which may be
    /// empty.
    pub fn text(&self, given: &str, note: &str) -> String {
        let (bits, dimensions) = (self.bits, self.bits.dimensions);
        let unpadded = self.bits_per_unpadded_dimension.zip(self.unpadded_dimensions);
        let unpadded = unpadded.map_or(String::new(), |(bits, n)| format!(", {bits:.4} over the {n} before padding"));
        let images = plural(self.images, "image");
        format!("{bits} bits/dim{given} over {dimensions} dimensions{unpadded}  ({images}{note})")
    }
}

/// Shown as the mean and its standard error.
impl fmt::Display for BitsPerDimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Mean { mean: self.bits_per_dimension, standard_error: self.standard_error }.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nats_become_bits() {
        assert_eq!(bits_per_dimension(-6.0 * LN_2, 3), 2.0);
        let bits = BitsPerDimension::of(&[-2.0 * LN_2, -4.0 * LN_2], 3, |nats| 8.0 + bits_per_dimension(nats, 3));
        assert!((bits.bits_per_dimension - 9.0).abs() < 1e-12);
        assert!((bits.standard_error - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(bits.to_string(), "9.0000 ± 0.3333");
        let padded = ImageBits::of(&[-2.0 * LN_2, -4.0 * LN_2], 3, Some(2), |nats| 8.0 + bits_per_dimension(nats, 3));
        assert_eq!((padded.bits, padded.images), (bits, 2));
        let text =
            "9.0000 ± 0.3333 bits/dim given x over 3 dimensions, 13.5000 over the 2 before padding  (2 images; y)";
        assert_eq!(padded.text(" given x", "; y"), text);
    }
}
