//! The distribution of the colours of single pixels.

use super::logit::check_range;
use super::{Bijector, Direction, Mode};
use crate::nn::{Buffer, Init, Scope};
use crate::ops::{ln, log_sigmoid, log_softmax, sigmoid, sum_event};
use crate::shape::check_event;
use crate::{Error, Result, Structure};
use candle_core::{DType, Device, Tensor, Var};

/// Histogram equalisation: `z = logit(F(x))`, F being the distribution function of the density that spreads the share
/// p_k of colour k in its channel evenly over the bin of that colour: `F(x) = p_0 + ... + p_(k-1) + p_k f` for an x at
/// the fraction f of bin k.
///
/// `log|det dz/dx| = sum ln(bins p_k / (h - l)) - ln F - ln(1 - F)` over all colours of the range [l, h]. Noise that is
/// uniform within a bin, as dequantisation adds, stays uniform on a piece of the unit interval as long as the colour's
/// share of the data, so frequent colours get most of it; an affine map leaves all bins equally wide.
///
/// Shares are `1e-7 + (1 - 1e-7 bins - 2e-6) softmax(log_shares)`, and a share of 1e-6 lies beyond either end of the
/// colours: further out the density is zero. [`Bijector::initialize`] sets the shares to those of its batch, once, and
/// they are trained from there on. Weight: `log_shares` (C, bins), 0 at first; buffer: `initialized` (1, u8).
#[derive(Clone, Debug)]
pub struct Equalize {
    shape: [usize; 3],
    bins: usize,
    range: [f64; 2],
    log_shares: Tensor,
    initialized: Buffer,
}

/// The least share of a colour.
const LEAST: f64 = 1e-7;
/// The share beyond either end.
const BEYOND: f64 = 1e-6;

/// Of each colour of each channel, (C bins): its share, and the sums of the shares below and above it.
struct Shares {
    own: Tensor,
    below: Tensor,
    above: Tensor,
}

impl Shares {
    /// Those of the given colours.
    fn at(&self, colours: &Tensor) -> Result<Self> {
        let select = |t: &Tensor| Ok::<_, Error>(t.index_select(&colours.flatten_all()?, 0)?.reshape(colours.shape())?);
        Ok(Self { own: select(&self.own)?, below: select(&self.below)?, above: select(&self.above)? })
    }
}

impl Equalize {
    /// The map of images of `shape` (C, H, W) with `bins` colours that fill `range`, [l, h].
    ///
    /// # Errors
    /// When the range has no inside, or a name is taken in `scope`.
    pub fn new(shape: [usize; 3], bins: usize, range: [f64; 2], scope: &Scope) -> Result<Self> {
        check_range(range)?;
        Ok(Self {
            shape,
            bins,
            range,
            log_shares: scope.weight("log_shares", (shape[0], bins), Init::Zeros)?,
            initialized: scope.buffer("initialized", &Tensor::zeros(1, DType::U8, scope.device())?)?,
        })
    }

    fn shares(&self) -> Result<Shares> {
        let (dtype, device) = (self.log_shares.dtype(), self.log_shares.device());
        let room = 1.0 - LEAST * self.bins as f64 - 2.0 * BEYOND;
        let own = log_softmax(&self.log_shares)?.exp()?.affine(room, LEAST)?;
        // Summed from either end, so that both tails are exact.
        let strictly_lower = (Tensor::tril2(self.bins, dtype, device)? - Tensor::eye(self.bins, dtype, device)?)?;
        let above = own.matmul(&strictly_lower)?;
        let below = own.matmul(&strictly_lower.t()?.contiguous()?)?;
        Ok(Shares {
            own: own.flatten_all()?,
            below: (below + BEYOND)?.flatten_all()?,
            above: (above + BEYOND)?.flatten_all()?,
        })
    }

    /// The index of each of the colours (B, C, H, W) among those of all channels.
    fn index(&self, colour: &Tensor) -> Result<Tensor> {
        let first: Vec<u32> = (0..self.shape[0]).map(|c| (c * self.bins) as u32).collect();
        let first = Tensor::from_vec(first, (1, self.shape[0], 1, 1), colour.device())?;
        Ok(colour.to_dtype(DType::U32)?.broadcast_add(&first)?)
    }

    /// The colours, as whole numbers in the dtype of x, and the fractions of their bins at which x lies.
    fn split(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let bins = self.bins_in_unit();
        let at = x.affine(bins, -self.range[0] * bins)?;
        let colour = at.detach().floor()?.clamp(0.0, self.bins as f64 - 1.0)?;
        let rest = (at - &colour)?;
        Ok((colour, rest))
    }

    /// Bins per unit of x.
    fn bins_in_unit(&self) -> f64 {
        self.bins as f64 / (self.range[1] - self.range[0])
    }

    /// The log-derivative of z, summed over each image, u and v being F and 1 - F.
    fn log_det(&self, own: &Tensor, log_u: &Tensor, log_v: &Tensor) -> Result<Tensor> {
        sum_event(&((ln(own)? + self.bins_in_unit().ln())? - (log_u + log_v)?)?)
    }

    /// The colours that z falls into, as whole numbers in the dtype of z.
    fn find(&self, z: &Tensor, shares: &Shares) -> Result<Tensor> {
        let numbers = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
        let (below, above) = (numbers(&shares.below)?, numbers(&shares.above)?);
        let plane = self.shape[1] * self.shape[2];
        let colour = |(i, z): (usize, f64)| {
            let channel = i / plane % self.shape[0] * self.bins;
            let channel = channel..channel + self.bins;
            let share = 1.0 / (1.0 + z.abs().exp());
            (match z < 0.0 {
                true => below[channel].partition_point(|below| *below <= share).saturating_sub(1),
                false => above[channel].partition_point(|above| *above > share).min(self.bins - 1),
            }) as f64
        };
        let found = numbers(z)?.into_iter().enumerate().map(colour).collect::<Vec<f64>>();
        Ok(Tensor::from_vec(found, z.shape(), &Device::Cpu)?.to_dtype(z.dtype())?.to_device(z.device())?)
    }

    /// Sets the shares to those of the colours of x.
    fn set(&self, x: &Tensor) -> Result<()> {
        let (colour, _) = self.split(x)?;
        let mut counts = vec![1.0; self.shape[0] * self.bins];
        let indices = self.index(&colour)?.flatten_all()?.to_device(&Device::Cpu)?;
        indices.to_vec1::<u32>()?.into_iter().for_each(|index| counts[index as usize] += 1.0);
        let logs: Vec<f64> = counts.iter().map(|count: &f64| count.ln()).collect();
        let logs = Tensor::from_vec(logs, self.log_shares.shape(), &Device::Cpu)?;
        let logs = logs.to_dtype(self.log_shares.dtype())?.to_device(self.log_shares.device())?;
        Var::from_tensor(&self.log_shares)?.set(&logs)?;
        self.initialized.set(&Tensor::ones(1, DType::U8, self.log_shares.device())?)
    }

    fn to_data(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let shares = self.shares()?;
        let colour = self.find(&z.detach(), &shares)?;
        let Shares { own, below, above } = shares.at(&self.index(&colour)?)?;
        // From the nearer end.
        let up = ((sigmoid(z)? - below)? / &own)?;
        let down = ((sigmoid(&z.neg()?)? - above)? / &own)?;
        let rest = z.lt(0.0)?.where_cond(&up, &down.affine(-1.0, 1.0)?)?;
        // Rounding may leave a point just outside of its bin, and far outside of a small one.
        let ends = [colour.ne(0.0)?, colour.ne(self.bins as f64 - 1.0)?];
        let within = (&rest + (rest.clamp(0.0, 1.0)? - &rest)?.detach())?;
        let rest = ends[0].mul(&ends[1])?.where_cond(&within, &rest)?;
        let x = (colour + rest)?.affine(1.0 / self.bins_in_unit(), self.range[0])?;
        let log_det = self.log_det(&own, &log_sigmoid(z)?, &log_sigmoid(&z.neg()?)?)?;
        Ok((x, log_det.neg()?))
    }

    fn to_latent(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (colour, rest) = self.split(x)?;
        let Shares { own, below, above } = self.shares()?.at(&self.index(&colour)?)?;
        let u = (below + (&own * &rest)?)?;
        let v = (above + (&own * rest.affine(-1.0, 1.0)?)?)?;
        // Comparisons with a NaN are false, so its row stays NaN.
        let outside = (u.le(0.0)? + v.le(0.0)?)?;
        let log = |t: &Tensor| ln(&t.maximum(f64::from(f32::MIN_POSITIVE))?.minimum(1.0)?);
        let (log_u, log_v) = (log(&u)?, log(&v)?);
        let log_det = self.log_det(&own, &log_u, &log_v)?;
        let outside = outside.flatten_from(1)?.max(1)?;
        let never = (log_det.zeros_like()? + f64::NEG_INFINITY)?;
        Ok(((log_u - log_v)?, outside.where_cond(&never, &log_det)?))
    }
}

impl Bijector for Equalize {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(&self, direction: Direction, v: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        check_event("the input of an equalisation", v, &self.shape)?;
        match direction {
            Direction::Forward => self.to_data(v),
            Direction::Inverse => self.to_latent(v),
        }
    }

    fn initialize(&self, x: &Tensor, _: Option<&Tensor>) -> Result<Tensor> {
        check_event("the input of an equalisation", x, &self.shape)?;
        if self.initialized.get().to_vec1::<u8>()? == [0] {
            self.set(&x.detach())?;
        }
        Ok(self.to_latent(x)?.0)
    }

    fn structure(&self) -> Structure {
        let details = format!("{:?}: {} colours of {}", self.shape, self.bins, self.shape[0]);
        Structure::new("Equalize", details).weights([&self.log_shares])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::nn::Parameters;

    #[test]
    fn colours_that_are_equalised_take_the_bits_of_their_shares() -> Result<()> {
        let mut rng = Rng::seed(4);
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let map = Equalize::new([2, 2, 4], 256, [-0.5, 0.5], &parameters.scope())?;
        // Of 3,000 images: three in four pixels of the first channel are black, the others 200; the second is uniform.
        let colour = |i: usize, rng: &mut Rng| match (i / 8 % 2, i % 4) {
            (0, 3) => 200.0,
            (0, _) => 0.0,
            _ => rng.below(256) as f64,
        };
        let x: Vec<f64> = (0..3000 * 16).map(|i| (colour(i, &mut rng) + rng.uniform()) / 256.0 - 0.5).collect();
        let x = Tensor::from_vec(x, (3000, 2, 2, 4), &Device::Cpu)?;
        let z = map.initialize(&x, None)?;
        // z is logistic, of variance pi^2 / 3, in both.
        for channel in 0..2 {
            let z = z.narrow(1, channel, 1)?.flatten_all()?;
            let mean = z.mean(0)?.to_scalar::<f64>()?;
            let variance = z.sqr()?.mean(0)?.to_scalar::<f64>()?;
            assert!(
                mean.abs() < 0.05 && (variance - std::f64::consts::PI.powi(2) / 3.0).abs() < 0.1,
                "{mean} {variance}"
            );
        }
        let base = |z: &Tensor| -> Result<Tensor> {
            let log = (log_sigmoid(z)? + log_sigmoid(&z.neg()?)?)?;
            Ok(log.flatten_from(1)?.sum(1)?)
        };
        let bits = |x: &Tensor| -> Result<f64> {
            let (z, log_det) = map.inverse(x, None)?;
            let log_prob = (base(&z)? + log_det)?.mean(0)?.to_scalar::<f64>()?;
            Ok((16.0 * 256f64.ln() - log_prob) / (16.0 * 2f64.ln()))
        };
        // The entropies: of 3/4 and 1/4, and of 256 equal shares.
        let want = 0.5 * (2.0 - 0.75 * 3f64.log2()) + 0.5 * 8.0;
        assert!((bits(&x)? - want).abs() < 0.02, "{} for {want}", bits(&x)?);
        // Once, and no density beyond the colours.
        map.initialize(&x.narrow(0, 0, 2)?, None)?;
        assert!((bits(&x)? - want).abs() < 0.02);
        let beyond = (x.narrow(0, 0, 1)? + 2.0)?;
        assert_eq!(map.inverse(&beyond, None)?.1.to_vec1::<f64>()?, [f64::NEG_INFINITY]);
        // In f32 as well, noise on the very ends has a finite density.
        let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
        let map = Equalize::new([1, 1, 2], 256, [-0.5, 0.5], &parameters.scope())?;
        let (z, log_det) = map.inverse(&Tensor::new(&[-0.5f32, 0.5], &Device::Cpu)?.reshape((1, 1, 1, 2))?, None)?;
        let all = Tensor::cat(&[z.flatten_all()?, log_det], 0)?.to_vec1::<f32>()?;
        assert!(all.iter().all(|v| v.is_finite() && v.abs() < 40.0), "{all:?}");
        // A NaN or an infinity stays in its row, in either direction.
        let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30];
        for bad in bad.map(|bad| bad as f32) {
            let v = Tensor::new(&[0.1f32, -0.2, bad, 0.0, 0.3, 0.4], &Device::Cpu)?.reshape((3, 1, 1, 2))?;
            for (value, log_det) in [map.inverse(&v, None)?, map.forward(&v, None)?] {
                let rows = Tensor::cat(&[value.flatten_from(1)?, log_det.unsqueeze(1)?], 1)?.to_vec2::<f32>()?;
                assert!([&rows[0], &rows[2]].into_iter().flatten().all(|v| v.is_finite()), "{bad}: {rows:?}");
            }
            let log_det = map.inverse(&v, None)?.1.to_vec1::<f32>()?[1];
            assert!(if bad.is_nan() { log_det.is_nan() } else { log_det == f32::NEG_INFINITY }, "{bad}: {log_det}");
        }
        Ok(())
    }
}
