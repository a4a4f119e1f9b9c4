//! The entry of a result that is furthest from its expected value.

use crate::{Error, Result};
use candle_core::{DType, Tensor};
use std::fmt;

/// One entry of a result and its expected value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The name of the result.
    what: String,
    /// The shape of the result.
    dims: Vec<usize>,
    /// The index of the entry, in row-major order.
    at: usize,
    /// Whether the result belongs to a weight or a buffer, whose first axis is not the batch.
    of_parameter: bool,
    want: f64,
    got: f64,
    /// `|want - got| / max(1, |want|)`.
    pub off: f64,
}

impl Entry {
    /// The entry of a batch with the largest error.
    pub fn furthest(what: impl Into<String>, want: &Tensor, got: &Tensor) -> Result<Self> {
        let what = what.into();
        if want.shape() != got.shape() {
            return Err(Error::shape(what, got.dims(), format!("{:?}", want.dims())));
        }
        let flat = |t: &Tensor| -> Result<Vec<f64>> { Ok(t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?) };
        let pairs = flat(want)?.into_iter().zip(flat(got)?).enumerate();
        let mut worst = Self { dims: want.dims().to_vec(), ..Self::of_number(what, 0.0, 0.0) };
        for (at, (want, got)) in pairs {
            let off = relative(want, got);
            if at == 0 || off > worst.off {
                worst = Self { at, want, got, off, ..worst };
            }
        }
        Ok(worst)
    }

    /// A single number.
    pub fn of_number(what: impl Into<String>, want: f64, got: f64) -> Self {
        let off = relative(want, got);
        Self { what: what.into(), dims: Vec::new(), at: 0, of_parameter: false, want, got, off }
    }

    /// Element `at` of a weight, or of its gradient, of shape `dims`.
    pub fn of_element(what: impl Into<String>, dims: &[usize], at: usize, want: f64, got: f64) -> Self {
        Self { dims: dims.to_vec(), at, of_parameter: true, ..Self::of_number(what, want, got) }
    }

    /// The same entry, as one of a weight or a buffer.
    pub fn of_parameter(self) -> Self {
        Self { of_parameter: true, ..self }
    }

    /// The same entry with another measure of its error.
    pub fn off_by(self, off: f64) -> Self {
        Self { off: if off.is_nan() { f64::INFINITY } else { off }, ..self }
    }

    /// The same entry, named as one of this pass.
    pub fn named(self, pass: &str) -> Self {
        Self { what: format!("{} in {pass}", self.what), ..self }
    }

    /// Passes if the error is at most `bound`.
    pub fn within(&self, bound: f64) -> Result<()> {
        // Written so that a NaN fails.
        if self.off <= bound { Ok(()) } else { Err(Error::Config(format!("{self}, more than {bound:e}"))) }
    }
}

/// `|want - got| / max(1, |want|)`, infinite if either is NaN.
fn relative(want: f64, got: f64) -> f64 {
    let off = if want == got { 0.0 } else { (want - got).abs() / want.abs().max(1.0) };
    if off.is_nan() { f64::INFINITY } else { off }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.at;
        let mut index = vec![0; self.dims.len()];
        for (i, size) in index.iter_mut().zip(&self.dims).rev() {
            (*i, rest) = (rest % size.max(&1), rest / size.max(&1));
        }
        write!(f, "{}", self.what)?;
        let element = |f: &mut fmt::Formatter<'_>, index: &[usize]| match index {
            [] => Ok(()),
            [i] => write!(f, ", element {i}"),
            several => write!(f, ", element {several:?}"),
        };
        match &index[..] {
            [row, rest @ ..] if !self.of_parameter => {
                write!(f, ", row {row}")?;
                element(f, rest)?;
            }
            all => element(f, all)?,
        }
        write!(f, ": got {}, wanted {}, off by {:.1e}", digits(self.got), digits(self.want), self.off)
    }
}

/// A number in six significant digits.
fn digits(v: f64) -> String {
    if v == 0.0 {
        return "0".into();
    }
    if !(1e-4..1e6).contains(&v.abs()) {
        return format!("{v:.5e}");
    }
    let decimals = (5 - v.abs().log10().floor() as i32).max(0) as usize;
    format!("{v:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn entries_are_named() -> Result<()> {
        let want = Tensor::new(&[[[1.0, 2.0], [3.0, 4e9]], [[1.0, 0.125], [7.0, 8.0]]], &Device::Cpu)?;
        let got = Tensor::new(&[[[1.0, 2.0], [3.0, 4e9]], [[1.0, 0.126], [7.0, 8.0]]], &Device::Cpu)?;
        let entry = Entry::furthest("x", &want, &got)?;
        assert_eq!(entry.to_string(), "x, row 1, element [0, 1]: got 0.126000, wanted 0.125000, off by 1.0e-3");
        assert!(entry.within(1.1e-3).is_ok());
        assert!(entry.within(1e-9).unwrap_err().to_string().ends_with("off by 1.0e-3, more than 1e-9"));
        let of_weight = entry.of_parameter().to_string();
        assert!(of_weight.starts_with("x, element [1, 0, 1]: got"), "{of_weight}");
        let nan = Entry::furthest("log", &want.get(0)?.get(0)?, &Tensor::new(&[1.0, f64::NAN], &Device::Cpu)?)?;
        assert_eq!(nan.to_string(), "log, row 1: got NaN, wanted 2.00000, off by inf");
        assert!(nan.within(1e300).is_err());
        assert!(Entry::furthest("x", &want, &want.get(0)?).unwrap_err().to_string().starts_with("x has shape"));
        Ok(())
    }

    #[test]
    fn numbers_have_six_digits() {
        let texts = [0.0, -1234567.0, 999_999.0, 1.0 / 3.0, 2e-5, f64::NEG_INFINITY].map(digits);
        assert_eq!(texts, ["0", "-1.23457e6", "999999", "0.333333", "2.00000e-5", "-inf"]);
    }
}
