//! The spline's kernel: its loops run over chunks of elements, in vector registers.

use super::bin::Bin;
use super::{Direction, Ends, RqSpline, RqSplineSettings};
use crate::Result;
use crate::ops::cpu::Real;
use crate::ops::simd::dispatch;
use crate::ops::transformer::Transformer;
use candle_core::Tensor;
use rayon::prelude::*;

/// About as many elements make a chunk: enough for long loops, few enough for the first-level cache.
const CHUNK: usize = 128;

/// The bins that the points of a chunk fall into.
///
/// In f64 for f32 too: the size of a bin is the difference of two knots, and in f32 a narrow or steep bin would keep
/// few digits of it.
struct Bins {
    index: Vec<usize>,
    /// Their lower ends and their sizes, along x and y.
    x: Vec<f64>,
    y: Vec<f64>,
    width: Vec<f64>,
    height: Vec<f64>,
    /// The slopes at both ends.
    slopes: [Vec<f64>; 2],
    /// The distances of the points from the lower ends, along x or y.
    offset: Vec<f64>,
}

/// The softmaxes of raw widths and of raw heights: 2 K exponentials for each element, and the inverses of
/// their two sums. In f64 as well, so that the shares add up to 1: the last bin would take up the difference.
struct Shares {
    exponentials: Vec<f64>,
    norms: Vec<[f64; 2]>,
}

/// The points of a chunk, the gradients with respect to their values and log-derivatives, and room for those with
/// respect to the points.
struct ChunkGradient<'a, T> {
    x: &'a [T],
    gvalues: &'a [T],
    glogs: &'a [T],
    gx: &'a mut [T],
}

/// The sizes of an element's bins along an axis.
#[derive(Clone, Copy)]
struct Sizes<'a> {
    exponentials: &'a [f64],
    least: f64,
    scale: f64,
}

impl Sizes<'_> {
    #[inline(always)]
    fn get(self, i: usize) -> f64 {
        self.least + self.scale * self.exponentials[i]
    }

    /// The lower end of a bin, the first bin's being `low`.
    #[inline(always)]
    fn start(self, index: usize, low: f64) -> f64 {
        let mut start = low;
        for i in 0..index {
            start += self.get(i);
        }
        start
    }
}

/// `ln v`, corrected for the rounding of v, which matters near 1.
#[inline(always)]
fn ln<T: Real>(v: f64) -> T {
    let rounded = T::of(v);
    let lost = T::of(v - rounded.wide()) / rounded;
    rounded.fast_ln() + if lost.abs() <= T::epsilon() { lost } else { T::zero() }
}

impl Bins {
    #[inline(always)]
    fn get(&self, i: usize) -> Bin {
        Bin {
            width: self.width[i],
            height: self.height[i],
            slopes: [self.slopes[0][i], self.slopes[1][i]],
            offset: self.offset[i],
        }
    }
}

impl RqSplineSettings {
    /// Writes the x of as many z, and adds the log-derivatives to `log`; raw parameters are (P, N).
    pub(crate) fn forward_rows<T: Real>(self, z: &[T], raw: &[T], x: &mut [T], log: &mut [T]) {
        let (n, p) = (z.len(), self.parameter_count());
        let mut rows = vec![T::zero(); n * p];
        for (j, raw) in raw.chunks_exact(n).enumerate() {
            rows[j..].iter_mut().step_by(p).zip(raw).for_each(|(row, &raw)| *row = raw);
        }
        let kernel = RqSpline { settings: self, direction: Direction::Forward };
        let mut logs = vec![T::zero(); n];
        kernel.evaluate_chunk(z, &rows, &kernel.shares(&rows), x, &mut logs);
        log.iter_mut().zip(logs).for_each(|(log, own)| *log += own);
    }
}

impl RqSpline {
    fn outside<T: Real>(&self, at: T) -> bool {
        !(at >= T::of(self.settings.low) && at <= T::of(self.settings.high))
    }

    /// The length of the interval, less the smallest size of every bin.
    fn room(&self) -> f64 {
        let RqSplineSettings { bins, low, high, min_bin, .. } = self.settings;
        (high - low) * (1.0 - min_bin * bins as f64)
    }

    /// The widths and the heights of the bins of a row.
    #[inline(always)]
    fn sizes<'a>(&self, shares: &'a Shares, row: usize) -> [Sizes<'a>; 2] {
        let RqSplineSettings { bins: k, low, high, min_bin, .. } = self.settings;
        let (widths, heights) = shares.exponentials[row * 2 * k..(row + 1) * 2 * k].split_at(k);
        let [width_norm, height_norm] = shares.norms[row];
        let (least, room) = ((high - low) * min_bin, self.room());
        [
            Sizes { exponentials: widths, least, scale: room * width_norm },
            Sizes { exponentials: heights, least, scale: room * height_norm },
        ]
    }

    fn shares<T: Real>(&self, raw: &[T]) -> Shares {
        let (k, p) = (self.settings.bins, self.settings.parameter_count());
        let rows = raw.len() / p;
        let mut exponentials = vec![0.0; rows * 2 * k];
        let mut norms = vec![[0.0; 2]; rows];
        dispatch(
            #[inline(always)]
            || {
                for (out, raw) in exponentials.chunks_exact_mut(2 * k).zip(raw.chunks_exact(p)) {
                    for (out, raw) in out.chunks_exact_mut(k).zip(raw.chunks_exact(k)) {
                        let top = raw.iter().fold(T::neg_infinity(), |m, &v| if v > m { v } else { m });
                        for (o, &v) in out.iter_mut().zip(raw) {
                            *o = v.wide() - top.wide();
                        }
                    }
                }
                for v in exponentials.iter_mut() {
                    *v = T::wide_exp(*v);
                }
                for (norms, row) in norms.iter_mut().zip(exponentials.chunks_exact(2 * k)) {
                    for (norm, axis) in norms.iter_mut().zip(row.chunks_exact(k)) {
                        *norm = 1.0 / axis.iter().fold(0.0, |sum, v| sum + v);
                    }
                }
            },
        );
        Shares { exponentials, norms }
    }

    /// The bins of the points `x`; points outside the interval are moved to its ends.
    fn bins<T: Real, R: Real>(&self, x: &[T], raw: &[R], shares: &Shares) -> Bins {
        let RqSplineSettings { bins: k, low, high, min_slope, .. } = self.settings;
        let (n, p, rows) = (x.len(), self.settings.parameter_count(), shares.norms.len());
        let zeros = || vec![0.0; n];
        let mut bins = Bins {
            index: vec![0; n],
            x: zeros(),
            y: zeros(),
            width: zeros(),
            height: zeros(),
            slopes: [zeros(), zeros()],
            offset: zeros(),
        };
        let mut slopes = vec![R::zero(); 2 * n];
        for (i, &at) in x.iter().enumerate() {
            let row = i % rows;
            let [widths, heights] = self.sizes(shares, row);
            let (search, other) = match self.direction {
                Direction::Forward => (widths, heights),
                Direction::Inverse => (heights, widths),
            };
            let at = at.wide().max(low).min(high);
            let (mut index, mut start) = (0, low);
            let mut end = low + search.get(0);
            while index + 1 < k && at >= end {
                index += 1;
                start = end;
                end += search.get(index);
            }
            let other_start = other.start(index, low);
            // The ends are exact, so that there is no gap between adjacent bins, or between the last bin and the tail.
            let last = index + 1 == k;
            let size = if last { high - start } else { end - start };
            let other_size = if last { high - other_start } else { (other_start + other.get(index)) - other_start };
            bins.index[i] = index;
            bins.offset[i] = at - start;
            (bins.x[i], bins.width[i], bins.y[i], bins.height[i]) = match self.direction {
                Direction::Forward => (start, size, other_start, other_size),
                Direction::Inverse => (other_start, other_size, start, size),
            };
            for (end, slopes) in slopes.chunks_exact_mut(n).enumerate() {
                slopes[i] = self.settings.slope_index(index + end).map_or(R::zero(), |j| raw[row * p + 2 * k + j]);
            }
        }
        dispatch(
            #[inline(always)]
            || {
                for (out, raw) in bins.slopes.iter_mut().zip(slopes.chunks_exact(n)) {
                    for (out, raw) in out.iter_mut().zip(raw) {
                        *out = min_slope + raw.wide_softplus();
                    }
                }
            },
        );
        if self.settings.ends == Ends::Linear {
            for (i, &index) in bins.index.iter().enumerate() {
                if index == 0 {
                    bins.slopes[0][i] = 1.0;
                }
                if index + 1 == k {
                    bins.slopes[1][i] = 1.0;
                }
            }
        }
        bins
    }

    /// Elements of a chunk: whole rows where all rows have the same parameters.
    fn chunk<T, R>(&self, x: &[T], parameters: &[R]) -> usize {
        let columns = parameters.len() / self.settings.parameter_count();
        if columns < x.len() { columns * (CHUNK / columns).max(1) } else { CHUNK }
    }

    fn evaluate_chunk<T: Real, R: Real>(&self, x: &[T], raw: &[R], shares: &Shares, values: &mut [T], logs: &mut [T]) {
        let bins = self.bins(x, raw, shares);
        let (low, high) = (T::of(self.settings.low), T::of(self.settings.high));
        dispatch(
            #[inline(always)]
            || {
                for i in 0..x.len() {
                    let bin = bins.get(i);
                    let point = bin.point(self.direction);
                    let value = T::of(match self.direction {
                        Direction::Forward => bins.y[i] + bin.height * (point.quotient / point.denominator),
                        Direction::Inverse => bins.x[i] + point.xi * bin.width,
                    });
                    // Rounding may leave a point just outside; a NaN stays.
                    let value = if value < low { low } else { value };
                    values[i] = if value > high { high } else { value };
                    let log = ln::<T>(point.derivative);
                    logs[i] = if self.direction == Direction::Forward { log } else { -log };
                }
            },
        );
        for (i, &at) in x.iter().enumerate().filter(|(_, at)| self.outside(**at)) {
            (values[i], logs[i]) = match self.settings.ends {
                _ if at.is_nan() => (at, at),
                Ends::Linear => (at, T::zero()),
                Ends::Closed | Ends::Periodic => {
                    (at.max(T::of(self.settings.low)).min(T::of(self.settings.high)), T::neg_infinity())
                }
            };
        }
    }

    /// Writes the gradients with respect to the points, and returns the sums of those with respect to the sizes of bins
    /// and the slopes, for each row of `raw` in its order.
    fn chunk_gradient<T: Real, R: Real>(&self, chunk: ChunkGradient<'_, T>, raw: &[R], shares: &Shares) -> Vec<f64> {
        let ChunkGradient { x, gvalues, glogs, gx } = chunk;
        let (k, p) = (self.settings.bins, self.settings.parameter_count());
        let rows = raw.len() / p;
        let mut bins = self.bins(x, raw, shares);
        dispatch(
            #[inline(always)]
            || {
                for i in 0..x.len() {
                    let g = bins.get(i).gradient(self.direction, gvalues[i].wide(), glogs[i].wide());
                    // The gradients replace the bins, which are not needed any more.
                    (bins.x[i], bins.y[i], bins.width[i], bins.height[i]) = (g.x, g.y, g.width, g.height);
                    (bins.slopes[0][i], bins.slopes[1][i]) = (g.slopes[0], g.slopes[1]);
                    gx[i] = T::of(g.at);
                }
            },
        );
        let mut sums = vec![0.0; raw.len()];
        for (i, &at) in x.iter().enumerate() {
            if self.outside(at) {
                gx[i] = if self.settings.ends == Ends::Linear { gvalues[i] } else { T::zero() };
                continue;
            }
            let row = i % rows;
            let (index, sums) = (bins.index[i], &mut sums[row * p..(row + 1) * p]);
            let (shares, slopes) = sums.split_at_mut(2 * k);
            for (shares, (start, size)) in
                shares.chunks_exact_mut(k).zip([(bins.x[i], bins.width[i]), (bins.y[i], bins.height[i])])
            {
                // The last bin ends exactly at `high`, so its size is that less its lower end.
                let (before, own) = if index + 1 == k { (start - size, 0.0) } else { (start, size) };
                shares[..index].iter_mut().for_each(|g| *g += before);
                shares[index] += own;
            }
            for (end, g) in bins.slopes.iter().enumerate() {
                if let Some(j) = self.settings.slope_index(index + end) {
                    slopes[j] += g[i];
                }
            }
        }
        sums
    }

    /// Writes the gradients with respect to the raw parameters, given those with respect to sizes and slopes.
    fn raw_gradient<T: Real>(&self, raw: &[T], shares: &Shares, sums: &[f64], gp: &mut [T]) {
        let (k, p, room) = (self.settings.bins, self.settings.parameter_count(), self.room());
        let softmaxes = shares.exponentials.chunks_exact(2 * k).zip(&shares.norms);
        let rows = raw.chunks_exact(p).zip(sums.chunks_exact(p)).zip(softmaxes);
        dispatch(
            #[inline(always)]
            || {
                for (((raw, sums), (exponentials, norms)), gp) in rows.zip(gp.chunks_exact_mut(p)) {
                    let softmaxes = exponentials.chunks_exact(k).zip(norms);
                    let axes = sums.chunks_exact(k).zip(gp.chunks_exact_mut(k));
                    for ((exponentials, norm), (sums, gp)) in softmaxes.zip(axes) {
                        let mut mean = 0.0;
                        for (e, g) in exponentials.iter().zip(sums) {
                            mean += e * g;
                        }
                        let (mean, scale) = (mean * norm, room * norm);
                        for ((out, e), g) in gp.iter_mut().zip(exponentials).zip(sums) {
                            *out = T::of(e * (g - mean) * scale);
                        }
                    }
                    for ((out, raw), g) in gp[2 * k..].iter_mut().zip(&raw[2 * k..]).zip(&sums[2 * k..]) {
                        *out = T::of(raw.fast_sigmoid().wide() * g);
                    }
                }
            },
        );
    }

    /// The values of points, followed by their log-derivatives; points may be of another type than raw parameters.
    pub(super) fn values<T: Real, R: Real>(&self, x: &[T], parameters: &[R]) -> Vec<T> {
        let p = self.settings.parameter_count();
        let mut packed = vec![T::zero(); 2 * x.len()];
        let (values, logs) = packed.split_at_mut(x.len());
        let size = self.chunk(x, parameters);
        let shared = (parameters.len() < x.len() * p).then(|| self.shares(parameters));
        let chunks = x.par_chunks(size).zip(values.par_chunks_mut(size)).zip(logs.par_chunks_mut(size));
        chunks.enumerate().for_each(|(i, ((x, values), logs))| match &shared {
            Some(shares) => self.evaluate_chunk(x, parameters, shares, values, logs),
            None => {
                let raw = &parameters[i * size * p..(i * size + x.len()) * p];
                self.evaluate_chunk(x, raw, &self.shares(raw), values, logs);
            }
        });
        packed
    }

    /// The gradients with respect to the points and the raw parameters, given that with respect to [`Self::values`].
    pub(super) fn differentiate<T: Real, R: Real>(&self, x: &[T], parameters: &[R], grad: &[T]) -> (Vec<T>, Vec<R>) {
        let p = self.settings.parameter_count();
        let (gvalues, glogs) = grad.split_at(x.len());
        let mut gx = vec![T::zero(); x.len()];
        let mut gp = vec![R::zero(); parameters.len()];
        let size = self.chunk(x, parameters);
        let inputs = x.par_chunks(size).zip(gvalues.par_chunks(size)).zip(glogs.par_chunks(size));
        let chunks = inputs.zip(gx.par_chunks_mut(size));
        let chunks = chunks.map(|(((x, gvalues), glogs), gx)| ChunkGradient { x, gvalues, glogs, gx });
        if parameters.len() < x.len() * p {
            let shares = self.shares(parameters);
            // A sum for each chunk, added up in the order of the chunks.
            let sums: Vec<Vec<f64>> = chunks.map(|chunk| self.chunk_gradient(chunk, parameters, &shares)).collect();
            let mut total = vec![0.0; parameters.len()];
            for sum in &sums {
                total.iter_mut().zip(sum).for_each(|(t, s)| *t += s);
            }
            self.raw_gradient(parameters, &shares, &total, &mut gp);
        } else {
            let parameters = parameters.par_chunks(size * p).zip(gp.par_chunks_mut(size * p));
            chunks.zip(parameters).for_each(|(chunk, (raw, gp))| {
                let shares = self.shares(raw);
                let sums = self.chunk_gradient(chunk, raw, &shares);
                self.raw_gradient(raw, &shares, &sums, gp);
            });
        }
        (gx, gp)
    }
}

impl Transformer for RqSpline {
    const NAME: &'static str = "rq-spline";

    fn parameter_count(&self) -> usize {
        self.settings.parameter_count()
    }

    fn evaluate<T: Real>(&self, x: &[T], parameters: &[T]) -> Vec<T> {
        self.values(x, parameters)
    }

    fn gradients<T: Real>(&self, x: &[T], parameters: &[T], _: &[T], grad: &[T]) -> (Vec<T>, Vec<T>) {
        self.differentiate(x, parameters, grad)
    }

    fn plain(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        self.composed(x, parameters)
    }
}
