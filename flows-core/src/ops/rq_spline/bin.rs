//! One bin of the spline: its value, its derivative and their gradients at a point.
//!
//! Everything is written as sums and products of positive numbers, with both xi and 1 - xi, so that
//! nothing cancels where slopes differ by orders of magnitude.

use super::Direction;

/// A bin and a point in it.
#[derive(Clone, Copy)]
pub(crate) struct Bin {
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) slopes: [f64; 2],
    pub(crate) offset: f64,
}

/// The quantities from which value, log-derivative and their gradients at a point of a bin are computed.
pub(crate) struct Point {
    pub(crate) xi: f64,
    /// 1 - xi.
    rest: f64,
    slope: f64,
    pub(crate) quotient: f64,
    pub(crate) denominator: f64,
    numerator: f64,
    pub(crate) derivative: f64,
}

/// The gradients with respect to the position (x, y), the sizes and the slopes of a bin, and to the point.
pub(crate) struct BinGradient {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) slopes: [f64; 2],
    pub(crate) at: f64,
}

/// xi and 1 - xi where the spline has risen by `eta` of its bin.
///
/// The root `2 s eta / (b + sqrt(b^2 - 4 a c))` of the quadratic of Durkan et al., equations 6 to 8, has
/// `b = tilt + 2 s eta` and the discriminant `tilt^2 + 4 s^2 eta (1 - eta)`.
#[inline(always)]
fn root(eta: f64, s: f64, [d0, d1]: [f64; 2]) -> (f64, f64) {
    let rest = 1.0 - eta;
    let tilt = d0 * rest - d1 * eta;
    let large = tilt.abs() + (tilt * tilt + 4.0 * s * s * eta * rest).sqrt();
    let rising = tilt >= 0.0;
    let small = 2.0 * s * if rising { eta } else { rest };
    let norm = 1.0 / (large + small);
    let (small, large) = (small * norm, large * norm);
    if rising { (small, large) } else { (large, small) }
}

impl Bin {
    #[inline(always)]
    pub(crate) fn point(self, direction: Direction) -> Point {
        let [d0, d1] = self.slopes;
        let s = self.height / self.width;
        let (xi, rest) = match direction {
            Direction::Forward => {
                let xi = self.offset / self.width;
                (xi, 1.0 - xi)
            }
            Direction::Inverse => root(self.offset / self.height, s, self.slopes),
        };
        let q = xi * rest;
        let quotient = s * xi * xi + d0 * q;
        let denominator = s * (xi * xi + rest * rest) + (d0 + d1) * q;
        let numerator = d1 * xi * xi + 2.0 * s * q + d0 * rest * rest;
        let share = s / denominator;
        let derivative = share * numerator * share;
        Point { xi, rest, slope: s, quotient, denominator, numerator, derivative }
    }

    /// The gradients, given those with respect to value and log-derivative.
    #[inline(always)]
    pub(crate) fn gradient(self, direction: Direction, gvalue: f64, glog: f64) -> BinGradient {
        let Point { xi, rest, slope: s, quotient: m, denominator: den, numerator: num, derivative } =
            self.point(direction);
        let ([d0, d1], w, h) = (self.slopes, self.width, self.height);
        let q = xi * rest;
        let (by_num, by_den) = (1.0 / num, 1.0 / den);
        let log_xi =
            2.0 * (d1 * xi + s * (rest - xi) - d0 * rest) * by_num - 2.0 * (d0 + d1 - 2.0 * s) * (rest - xi) * by_den;
        // The inverse x(y) has dx/dy = 1/f' and dx/dparameter = -(df/dparameter)/f': its gradients are
        // the forward ones at the same point, with these two in place of the given gradients.
        let total = (gvalue - glog * log_xi / w) / derivative;
        let (gy, gl) = match direction {
            Direction::Forward => (gvalue, glog),
            Direction::Inverse => (-total, -glog),
        };
        let scale = gy * h * by_den * by_den;
        let by_xi = scale * s * num + gl * log_xi;
        let by_s = q * (scale * (d1 * xi * xi - d0 * rest * rest) + gl * 2.0 * ((d0 + d1) * by_den / s + by_num));
        let by_d0 = scale * q * (s * rest * rest + d1 * q) + gl * (rest * rest * by_num - 2.0 * q * by_den);
        let by_d1 = -scale * m * q + gl * (xi * xi * by_num - 2.0 * q * by_den);
        let at = match direction {
            Direction::Forward => by_xi / w,
            Direction::Inverse => total,
        };
        BinGradient {
            x: -by_xi / w,
            y: gy,
            width: -(by_xi * xi + by_s * s) / w,
            height: gy * m * by_den + by_s / w,
            slopes: [by_d0, by_d1],
            at,
        }
    }
}
