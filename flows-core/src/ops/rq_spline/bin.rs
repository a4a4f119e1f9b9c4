//! One bin of the spline: its value, its derivative and their gradients at a point.

use super::Direction;

/// One bin and a point of it.
#[derive(Clone, Copy)]
pub(super) struct Bin {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) slopes: [f64; 2],
    pub(super) offset: f64,
}

/// What value, log-derivative and their gradients need at a point of a bin.
pub(super) struct Point {
    pub(super) xi: f64,
    pub(super) slope: f64,
    pub(super) quotient: f64,
    pub(super) denominator: f64,
    pub(super) numerator: f64,
    pub(super) derivative: f64,
}

/// The gradients by what makes a bin, and by the point.
pub(super) struct BinGradient {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) slopes: [f64; 2],
    pub(super) at: f64,
}

impl Bin {
    #[inline(always)]
    pub(super) fn point(self, direction: Direction) -> Point {
        let [d0, d1] = self.slopes;
        let s = self.height / self.width;
        let twist = d0 + d1 - 2.0 * s;
        let xi = match direction {
            Direction::Forward => self.offset / self.width,
            Direction::Inverse => {
                // The root of the quadratic in the form that does not cancel.
                let excess = self.offset * twist;
                let a = self.height * (s - d0) + excess;
                let b = self.height * d0 - excess;
                let c = -s * self.offset;
                let discriminant = b * b - 4.0 * a * c;
                let root = if discriminant > 0.0 { discriminant.sqrt() } else { 0.0 };
                (2.0 * c / (-b - root)).clamp(0.0, 1.0)
            }
        };
        let rest = 1.0 - xi;
        let q = xi * rest;
        let quotient = s * xi * xi + d0 * q;
        let denominator = s + twist * q;
        let numerator = d1 * xi * xi + 2.0 * s * q + d0 * rest * rest;
        let derivative = s * s * numerator / (denominator * denominator);
        Point { xi, slope: s, quotient, denominator, numerator, derivative }
    }

    /// From the gradients by value and log-derivative.
    #[inline(always)]
    pub(super) fn gradient(self, direction: Direction, gvalue: f64, glog: f64) -> BinGradient {
        let Point { xi, slope: s, quotient: m, denominator: den, numerator: num, derivative } = self.point(direction);
        let ([d0, d1], w, h) = (self.slopes, self.width, self.height);
        let (q, rest) = (xi * (1.0 - xi), 1.0 - xi);
        let bend = 1.0 - 2.0 * q;
        let (by_num, by_den) = (1.0 / num, 1.0 / den);
        let log_xi = 2.0 * (d1 * xi + s * (1.0 - 2.0 * xi) - d0 * rest) * by_num
            - 2.0 * (d0 + d1 - 2.0 * s) * (1.0 - 2.0 * xi) * by_den;
        // The inverse x(y) has dx/dy = 1/f' and dx/dparameter = -(df/dparameter)/f': its gradient is
        // the forward one at the same point with these two weights.
        let total = (gvalue - glog * log_xi / w) / derivative;
        let (gy, gl) = match direction {
            Direction::Forward => (gvalue, glog),
            Direction::Inverse => (-total, -glog),
        };
        let scale = gy * h * by_den * by_den;
        let by_xi = scale * s * num + gl * log_xi;
        let by_s = scale * (xi * xi * den - m * bend) + gl * 2.0 * (1.0 / s + q * by_num - bend * by_den);
        let by_d0 = scale * q * (den - m) + gl * (rest * rest * by_num - 2.0 * q * by_den);
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
