//! The mixture's kernel: blocks of elements in vector registers, unit by unit.

use super::{LEAST, Mixture, SigmoidMixture};
use crate::ops::cpu::Real;
use crate::ops::most;
use crate::ops::transformer::Transformer as _;

/// Elements of a block.
pub(super) const LANES: usize = 16;

/// A number for each element of a block, in f64 for f32 too, so that logarithms of tails keep their digits; most of the
/// time is spent in exponentials, which are computed in the type itself.
pub(super) type Lanes = [f64; LANES];

/// Steps of a search at most; Newton's method needs a handful, and bisection alone about sixty.
const STEPS: usize = 128;

const ZERO: Lanes = [0.0; LANES];

/// A sigmoid of `u = scale (x - centre) + shift`, and its terms of the mixture at the points of the last evaluation.
#[derive(Clone)]
struct Unit {
    logit: Lanes,
    scale: Lanes,
    log_scale: Lanes,
    centre: Lanes,
    shift: Lanes,
    /// `sigmoid(u)` and `sigmoid(-u)`.
    up: Lanes,
    down: Lanes,
    /// Shares of the sums of `w sigmoid(u)`, `w sigmoid(-u)` and `w a sigmoid(u) sigmoid(-u)`, before division by
    /// the sums.
    shares: [Lanes; 3],
}

/// The parameters of a block of elements, and the mixture at the points of the last evaluation.
pub(super) struct Block {
    kernel: SigmoidMixture,
    /// The raw parameters, or their gradients.
    raw: Vec<Lanes>,
    units: Vec<Unit>,
    /// The sums of the units' shares.
    sums: [Lanes; 3],
    /// The logit of the mixture and the logarithm of its derivative.
    value: Lanes,
    log: Lanes,
}

/// The nearest number of type T that is at most the square root of the largest, so that what a network makes of such
/// gradients is finite; a NaN stays.
pub(super) fn number<T: Real>(x: f64) -> T {
    let most = most::<T>().wide();
    T::of(x.clamp(-most, most))
}

#[inline(always)]
fn exp<T: Real>(x: f64) -> f64 {
    T::of(x).fast_exp().wide()
}

#[inline(always)]
fn ln<T: Real>(x: f64) -> f64 {
    T::of(x).fast_ln().wide()
}

#[inline(always)]
fn softplus<T: Real>(x: f64) -> f64 {
    T::of(x).fast_softplus().wide()
}

#[inline(always)]
fn sigmoid<T: Real>(x: f64) -> f64 {
    T::of(x).fast_sigmoid().wide()
}

/// `c tanh(raw / c)` and its derivative.
#[inline(always)]
fn bounded<T: Real>(raw: f64, bound: f64) -> (f64, f64) {
    let t = T::of(raw / bound).fast_tanh().wide();
    (bound * t, 1.0 - t * t)
}

/// A number for each element; a macro, since a closure may not be inlined.
macro_rules! lanes {
    (|$i:ident| $value:expr) => {{
        let mut lanes = ZERO;
        for $i in 0..LANES {
            lanes[$i] = $value;
        }
        lanes
    }};
}

impl Block {
    pub(super) fn new(kernel: SigmoidMixture) -> Self {
        let unit = Unit {
            logit: ZERO,
            scale: ZERO,
            log_scale: ZERO,
            centre: ZERO,
            shift: ZERO,
            up: ZERO,
            down: ZERO,
            shares: [ZERO; 3],
        };
        let (raw, units) = (vec![ZERO; kernel.parameter_count()], vec![unit; kernel.units]);
        Self { kernel, raw, units, sums: [ZERO; 3], value: ZERO, log: ZERO }
    }

    /// Loads the parameters of the elements from `start` on; after the last set the first follows again.
    pub(super) fn load<T: Real>(&mut self, parameters: &[T], start: usize) {
        let p = self.raw.len();
        let sets = parameters.len() / p;
        for lane in 0..LANES {
            let set = (start + lane) % sets;
            for (raw, value) in self.raw.iter_mut().zip(&parameters[set * p..(set + 1) * p]) {
                raw[lane] = value.wide();
            }
        }
    }

    /// The units from the raw parameters.
    #[inline(always)]
    fn prepare<T: Real>(&mut self) {
        let k = self.kernel.units;
        for (j, unit) in self.units.iter_mut().enumerate() {
            let [first, second, third] = [self.raw[j], self.raw[k + j], self.raw[2 * k + j]];
            match self.kernel.mixture {
                Mixture::DeepSigmoid => {
                    (unit.logit, unit.shift) = (third, second);
                    for i in 0..LANES {
                        let a = softplus::<T>(first[i]);
                        unit.scale[i] = if a < LEAST { LEAST } else { a };
                        unit.log_scale[i] = ln::<T>(unit.scale[i]);
                    }
                }
                Mixture::Logistic(bound) => {
                    (unit.logit, unit.centre) = (first, second);
                    for i in 0..LANES {
                        let s = bounded::<T>(third[i], bound).0;
                        (unit.scale[i], unit.log_scale[i]) = (exp::<T>(-s), -s);
                    }
                }
            }
        }
    }

    /// The log-gain t and the offset b of `y = e^t g(x) + b`, and the derivative of t with respect to its raw
    /// parameter.
    #[inline(always)]
    fn outer<T: Real>(&self) -> (Lanes, Lanes, Lanes) {
        let Mixture::Logistic(bound) = self.kernel.mixture else { return (ZERO, ZERO, ZERO) };
        let k = self.kernel.units;
        let raw = &self.raw[3 * k];
        let (mut gain, mut slope) = (ZERO, ZERO);
        for i in 0..LANES {
            (gain[i], slope[i]) = bounded::<T>(raw[i], bound);
        }
        (gain, self.raw[3 * k + 1], slope)
    }

    /// Evaluates the mixture at x, with each sum as the logarithm of a sum of exponentials.
    #[inline(always)]
    fn mix<T: Real>(&mut self, x: &Lanes) {
        // Finite, so that it can be subtracted from minus infinity.
        let (mut tops, mut weight) = ([[f64::MIN; LANES]; 3], [f64::MIN; LANES]);
        for unit in &mut self.units {
            for i in 0..LANES {
                let u = unit.scale[i] * (x[i] - unit.centre[i]) + unit.shift[i];
                let near = -u.abs();
                let e = exp::<T>(near);
                let h = 1.0 / (1.0 + e);
                let positive = u >= 0.0;
                unit.up[i] = if positive { h } else { e * h };
                unit.down[i] = if positive { e * h } else { h };
                // The terms of the first two sums, without the powers of h.
                let logit = unit.logit[i];
                let logs = [logit + if positive { 0.0 } else { u }, logit + if positive { -u } else { 0.0 }];
                for j in 0..2 {
                    unit.shares[j][i] = logs[j];
                    tops[j][i] = if logs[j] > tops[j][i] { logs[j] } else { tops[j][i] };
                }
                weight[i] = if logit > weight[i] { logit } else { weight[i] };
            }
        }
        for unit in &mut self.units {
            for i in 0..LANES {
                // The term of the third sum, divided by the largest terms of the other two and multiplied by the
                // largest weight: a sum of numbers that are small where the term matters, however large u is.
                let share = (unit.shares[0][i] - tops[0][i]) + (unit.shares[1][i] - tops[1][i]);
                let log = share + (weight[i] - unit.logit[i]) + unit.log_scale[i];
                unit.shares[2][i] = log;
                tops[2][i] = if log > tops[2][i] { log } else { tops[2][i] };
            }
        }
        self.sums = [ZERO; 3];
        for unit in &mut self.units {
            for i in 0..LANES {
                let h = if unit.up[i] > unit.down[i] { unit.up[i] } else { unit.down[i] };
                let powers = [h, h, h * h];
                for j in 0..3 {
                    unit.shares[j][i] = exp::<T>(unit.shares[j][i] - tops[j][i]) * powers[j];
                    self.sums[j][i] += unit.shares[j][i];
                }
            }
        }
        for i in 0..LANES {
            let [rise, fall, slope] = self.sums.map(|sum| ln::<T>(sum[i]));
            let (up, down) = (tops[0][i] + rise, tops[1][i] + fall);
            self.value[i] = up - down;
            // The sum of the weights is that of the first two sums.
            let total = (if up > down { up } else { down }) + softplus::<T>(-self.value[i].abs());
            self.log[i] = (tops[2][i] + slope) - rise - fall + (total - weight[i]);
        }
    }

    /// Value and log-derivative, which may be infinite, or NaN at infinity.
    #[inline(always)]
    pub(super) fn evaluate<T: Real>(&mut self, at: &Lanes) -> (Lanes, Lanes) {
        self.prepare::<T>();
        let (gain, offset, _) = self.outer::<T>();
        if self.kernel.inverted {
            let target = lanes!(|i| (at[i] - offset[i]) * exp::<T>(-gain[i]));
            let root = self.search::<T>(&target);
            self.mix::<T>(&root);
            (root, lanes!(|i| -(self.log[i] + gain[i])))
        } else {
            self.mix::<T>(at);
            (lanes!(|i| self.value[i] * exp::<T>(gain[i]) + offset[i]), lanes!(|i| self.log[i] + gain[i]))
        }
    }

    /// The points at which the logit of the mixture is `target`, by Newton's method inside a bracket: the method of
    /// [`increasing_root`](crate::ops::increasing_root), for all lanes at once.
    #[inline(always)]
    fn search<T: Real>(&mut self, target: &Lanes) -> Lanes {
        let epsilon = T::epsilon().wide();
        // The root lies between the roots of the single units; the search starts at the root of the mean of all u.
        let (mut low, mut high) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
        let mut top = [f64::MIN; LANES];
        for unit in &self.units {
            for i in 0..LANES {
                let root = unit.centre[i] + (target[i] - unit.shift[i]) / unit.scale[i];
                low[i] = if root < low[i] { root } else { low[i] };
                high[i] = if root > high[i] { root } else { high[i] };
                top[i] = if unit.logit[i] > top[i] { unit.logit[i] } else { top[i] };
            }
        }
        let (mut moments, mut weights) = (ZERO, ZERO);
        for unit in &self.units {
            for i in 0..LANES {
                let w = exp::<T>(unit.logit[i] - top[i]);
                moments[i] += w * (target[i] - unit.shift[i] + unit.scale[i] * unit.centre[i]);
                weights[i] += w * unit.scale[i];
            }
        }
        let mut x = lanes!(|i| moments[i] / weights[i]);
        let mut last = lanes!(|i| high[i] - low[i]);
        for _ in 0..STEPS {
            self.mix::<T>(&x);
            let mut going = false;
            for i in 0..LANES {
                let excess = self.value[i] - target[i];
                low[i] = if excess < 0.0 { x[i] } else { low[i] };
                high[i] = if excess > 0.0 { x[i] } else { high[i] };
                let newton = excess * exp::<T>(-self.log[i]);
                let next = x[i] - newton;
                let exact = excess.abs() <= 4.0 * epsilon * (1.0 + target[i].abs());
                let inside = next >= low[i] && next <= high[i] && newton.abs() <= 0.5 * last[i].abs();
                // Where the slope is almost 0, a step from an exact value may lead anywhere.
                let close = exact && next >= low[i] && next <= high[i];
                let next = if inside || close {
                    next
                } else if exact {
                    x[i]
                } else {
                    0.5 * low[i] + 0.5 * high[i]
                };
                let step = next - x[i];
                // NaN and the infinities, whose excess is NaN, are left as they are.
                let moved = step.abs() > 0.0 && next.is_finite();
                going |= moved && !exact && step.abs() > epsilon * x[i].abs();
                x[i] = if moved { next } else { x[i] };
                last[i] = step;
            }
            if !going {
                break;
            }
        }
        x
    }

    /// The gradient with respect to the input of [`Self::evaluate`], given its output and the gradients with respect to
    /// that; the gradients with respect to the parameters are kept for [`Self::add_gradients`].
    #[inline(always)]
    pub(super) fn gradient<T: Real>(&mut self, [input, output]: &[Lanes; 2], weights: &[Lanes; 2]) -> Lanes {
        self.prepare::<T>();
        let (gain, _, gain_slope) = self.outer::<T>();
        self.mix::<T>(if self.kernel.inverted { output } else { input });
        for sum in &mut self.sums {
            *sum = lanes!(|i| 1.0 / sum[i]);
        }
        for unit in &mut self.units {
            for (share, inverse) in unit.shares.iter_mut().zip(&self.sums) {
                for i in 0..LANES {
                    share[i] *= inverse[i];
                }
            }
        }
        let [mut gy, mut glog] = *weights;
        if self.kernel.inverted {
            // x(y) has dx/dy = 1/y' and dx/dparameter = -(dy/dparameter)/y': its gradients are those of the
            // mixture at the same point, for other gradients gy and glog.
            let mut bend = ZERO;
            for Unit { scale, up, down, shares: [p, q, r], .. } in &self.units {
                for i in 0..LANES {
                    bend[i] += scale[i] * (q[i] * up[i] - p[i] * down[i] + r[i] * (down[i] - up[i]));
                }
            }
            // The bound of the exponent, beyond which the gradient would overflow; less than the logarithm of the largest
            // number, which rounds to one whose exponential is infinite.
            let most = (T::max_value().wide().ln() - 0.01).min(500.0);
            gy = lanes!(|i| {
                let steep = -self.log[i] - gain[i];
                (glog[i] * bend[i] - gy[i]) * exp::<T>(if steep > most { most } else { steep })
            });
            glog = lanes!(|i| -glog[i]);
        }
        let inner = lanes!(|i| gy[i] * exp::<T>(gain[i]));
        let mass = [lanes!(|i| sigmoid::<T>(self.value[i])), lanes!(|i| sigmoid::<T>(-self.value[i]))];
        let (k, mut gx) = (self.kernel.units, ZERO);
        for (j, unit) in self.units.iter().enumerate() {
            let Unit { scale, log_scale, centre, up, down, shares: [p, q, r], .. } = unit;
            let (mut by_logit, mut by_u) = (ZERO, ZERO);
            for i in 0..LANES {
                let (of_up, of_down) = (inner[i] - glog[i], -inner[i] - glog[i]);
                let w = mass[0][i] * p[i] + mass[1][i] * q[i];
                by_logit[i] = of_up * p[i] + of_down * q[i] + glog[i] * (r[i] + w);
                by_u[i] = of_up * p[i] * down[i] - of_down * q[i] * up[i] + glog[i] * r[i] * (down[i] - up[i]);
                gx[i] += by_u[i] * scale[i];
            }
            let x = if self.kernel.inverted { output } else { input };
            match self.kernel.mixture {
                Mixture::DeepSigmoid => {
                    let raw = self.raw[j];
                    let slope = lanes!(|i| if scale[i] > LEAST { sigmoid::<T>(raw[i]) } else { 0.0 });
                    self.raw[j] = lanes!(|i| (by_u[i] * x[i] + glog[i] * r[i] / scale[i]) * slope[i]);
                    self.raw[k + j] = by_u;
                    self.raw[2 * k + j] = by_logit;
                }
                Mixture::Logistic(bound) => {
                    self.raw[j] = by_logit;
                    self.raw[k + j] = lanes!(|i| -by_u[i] * scale[i]);
                    // With respect to the logarithm of the scale, which is -c tanh(raw / c).
                    let by_log = lanes!(|i| by_u[i] * (x[i] - centre[i]) * scale[i] + glog[i] * r[i]);
                    self.raw[2 * k + j] = lanes!(|i| by_log[i] * ((log_scale[i] / bound).powi(2) - 1.0));
                }
            }
        }
        if let Mixture::Logistic(_) = self.kernel.mixture {
            self.raw[3 * k] = lanes!(|i| (inner[i] * self.value[i] + glog[i]) * gain_slope[i]);
            self.raw[3 * k + 1] = gy;
        }
        if self.kernel.inverted { lanes!(|i| -gy[i]) } else { gx }
    }

    /// Adds the gradients with respect to the parameters of one element.
    pub(super) fn add_gradients<T: Real>(&self, lane: usize, sums: &mut [T]) {
        for (sum, raw) in sums.iter_mut().zip(&self.raw) {
            *sum += number::<T>(raw[lane]);
        }
    }
}
