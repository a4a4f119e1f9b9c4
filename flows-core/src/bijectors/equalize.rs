//! The distribution of the colours of single pixels.

use candle_core::{DType, Device, Tensor, Var};
use flows_core::bijectors::{Bijector, check_event};
use flows_core::nn::{Buffer, Init, Scope};
use flows_core::ops::{ln, log_sigmoid, log_softmax, sigmoid, sum_event};
use flows_core::{Error, Result, Structure};

/// Histogram equalisation: `z = logit(F(x))`, F being the distribution function of the density that has the share p_k
/// of channel c everywhere in the bin of colour k, `F(x) = p_0 + ... + p_(k-1) + p_k f` for the point f of bin k.
///
/// `log|det dz/dx| = sum ln(bins p_k) - ln F - ln(1 - F)` over all colours. Noise that is uniform within a bin, as
/// dequantisation adds, stays uniform on the unit interval, so a colour that most pixels have takes as much of it as it
/// takes of the data; an affine map can only make a narrow uniform bin a wide one.
///
/// Shares are `1e-7 + (1 - 1e-7 bins - 2e-6) softmax(log_shares)`, and 1e-6 lies beyond either end of the colours: what
/// is further out than that has no density. [`Bijector::initialize`] sets the shares to those of its batch, once, and
/// training goes on from them. Weight: `log_shares` (C, bins), 0 at first; buffer: `initialized` (1, u8).
#[derive(Debug)]
pub struct Equalize {
    shape: [usize; 3],
    bins: usize,
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
    /// Those of these colours.
    fn at(&self, colours: &Tensor) -> Result<Self> {
        let select = |t: &Tensor| Ok::<_, Error>(t.index_select(&colours.flatten_all()?, 0)?.reshape(colours.shape())?);
        Ok(Self { own: select(&self.own)?, below: select(&self.below)?, above: select(&self.above)? })
    }
}

impl Equalize {
    /// The map of images of `shape` (C, H, W) of so many colours, in [-1/2, 1/2].
    ///
    /// # Errors
    /// When a name is taken in `scope`.
    pub fn new(shape: [usize; 3], bins: usize, scope: &Scope) -> Result<Self> {
        Ok(Self {
            shape,
            bins,
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

    /// The number, of all channels' colours, of colour `colour` (B, C, H, W) of its channel.
    fn number(&self, colour: &Tensor) -> Result<Tensor> {
        let first: Vec<u32> = (0..self.shape[0]).map(|c| (c * self.bins) as u32).collect();
        let first = Tensor::from_vec(first, (1, self.shape[0], 1, 1), colour.device())?;
        Ok(colour.to_dtype(DType::U32)?.broadcast_add(&first)?)
    }

    /// The colours, as whole numbers of the type of x, and x from their lower ends on.
    fn split(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let at = x.affine(self.bins as f64, 0.5 * self.bins as f64)?;
        let colour = at.detach().floor()?.clamp(0.0, self.bins as f64 - 1.0)?;
        let rest = (at - &colour)?;
        Ok((colour, rest))
    }

    /// The log-derivative `ln(bins p) - ln u - ln v` of z, summed over each image, u and v being F and 1 - F.
    fn log_det(&self, own: &Tensor, log_u: &Tensor, log_v: &Tensor) -> Result<Tensor> {
        sum_event(&((ln(own)? + (self.bins as f64).ln())? - (log_u + log_v)?)?)
    }

    /// The colours that z falls into, as whole numbers of the type of z.
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

    /// The shares of the colours of x become the map's.
    fn set(&self, x: &Tensor) -> Result<()> {
        let (colour, _) = self.split(x)?;
        let mut counts = vec![1.0; self.shape[0] * self.bins];
        let numbers = self.number(&colour)?.flatten_all()?.to_device(&Device::Cpu)?;
        numbers.to_vec1::<u32>()?.into_iter().for_each(|number| counts[number as usize] += 1.0);
        let logs: Vec<f64> = counts.iter().map(|count: &f64| count.ln()).collect();
        let logs = Tensor::from_vec(logs, self.log_shares.shape(), &Device::Cpu)?;
        let logs = logs.to_dtype(self.log_shares.dtype())?.to_device(self.log_shares.device())?;
        Var::from_tensor(&self.log_shares)?.set(&logs)?;
        self.initialized.set(&Tensor::ones(1, DType::U8, self.log_shares.device())?)
    }
}

impl Bijector for Equalize {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn forward(&self, z: &Tensor, _: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        check_event("the input of an equalisation", z, &self.shape)?;
        let shares = self.shares()?;
        let colour = self.find(&z.detach(), &shares)?;
        let Shares { own, below, above } = shares.at(&self.number(&colour)?)?;
        // From the nearer end.
        let up = ((sigmoid(z)? - below)? / &own)?;
        let down = ((sigmoid(&z.neg()?)? - above)? / &own)?;
        let rest = z.lt(0.0)?.where_cond(&up, &down.affine(-1.0, 1.0)?)?;
        // Rounding may leave a point just outside of its bin, and far outside of a small one.
        let ends = [colour.ne(0.0)?, colour.ne(self.bins as f64 - 1.0)?];
        let within = (&rest + (rest.clamp(0.0, 1.0)? - &rest)?.detach())?;
        let rest = ends[0].mul(&ends[1])?.where_cond(&within, &rest)?;
        let x = (colour + rest)?.affine(1.0 / self.bins as f64, -0.5)?;
        let log_det = self.log_det(&own, &log_sigmoid(z)?, &log_sigmoid(&z.neg()?)?)?;
        Ok((x, log_det.neg()?))
    }

    fn inverse(&self, x: &Tensor, _: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        check_event("the input of an equalisation", x, &self.shape)?;
        let (colour, rest) = self.split(x)?;
        let Shares { own, below, above } = self.shares()?.at(&self.number(&colour)?)?;
        let u = (below + (&own * &rest)?)?;
        let v = (above + (&own * rest.affine(-1.0, 1.0)?)?)?;
        // Comparisons say no to a NaN, whose row is to stay NaN.
        let outside = (u.le(0.0)? + v.le(0.0)?)?;
        let log = |t: &Tensor| ln(&t.maximum(f64::from(f32::MIN_POSITIVE))?.minimum(1.0)?);
        let (log_u, log_v) = (log(&u)?, log(&v)?);
        let log_det = self.log_det(&own, &log_u, &log_v)?;
        let outside = outside.flatten_from(1)?.max(1)?;
        let never = (log_det.zeros_like()? + f64::NEG_INFINITY)?;
        Ok(((log_u - log_v)?, outside.where_cond(&never, &log_det)?))
    }

    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        check_event("the input of an equalisation", x, &self.shape)?;
        if self.initialized.get().to_vec1::<u8>()? == [0] {
            self.set(&x.detach())?;
        }
        Ok(self.inverse(x, context)?.0)
    }

    fn structure(&self) -> Structure {
        let details = format!("{:?}: {} colours of {}", self.shape, self.bins, self.shape[0]);
        Structure::new("Equalize", details).weights([&self.log_shares])
    }
}
