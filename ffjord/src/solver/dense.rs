//! Dense output: the solution between the ends of a step.

use super::Method;
use super::tableau::DOPRI5_MIDDLE;

/// The weights w of `y(t + x h) = y(t) + h sum_i w_i k_i` for x in [0, 1].
///
/// Dormand-Prince: the quartic through both ends, their slopes and the midpoint, as in torchdiffeq. Tsitouras: the
/// interpolant of order 4 from his paper. Bogacki-Shampine: the cubic Hermite interpolant. Heun: a quadratic.
pub(super) fn weights(method: Method, x: f64) -> Vec<f64> {
    let b = method.tableau().b;
    let last = b.len() - 1;
    match method {
        Method::Dopri5 => {
            let (x2, x3, x4) = (x * x, x.powi(3), x.powi(4));
            // The coefficients of y1 - y0, of the midpoint minus y0, and of the slopes at both ends.
            let end = -8.0 * x4 + 14.0 * x3 - 5.0 * x2;
            let middle = 16.0 * x4 - 32.0 * x3 + 16.0 * x2;
            let slope0 = -2.0 * x4 + 5.0 * x3 - 4.0 * x2 + x;
            let slope1 = 2.0 * x4 - 3.0 * x3 + x2;
            let mut w: Vec<f64> = b.iter().zip(DOPRI5_MIDDLE).map(|(b, m)| end * b + middle * m).collect();
            w[0] += slope0;
            w[last] += slope1;
            w
        }
        Method::Tsit5 => {
            let x2 = x * x;
            vec![
                -1.0530884977290216 * x * (x - 1.329989018975141) * (x2 - 1.4364028541716352 * x + 0.7139816917074209),
                0.1017 * x2 * (x2 - 2.1966568338249752 * x + 1.294985250737463),
                2.490627285651253 * x2 * (x2 - 2.3853564547206165 * x + 1.5780346820809248),
                -16.548102889244902 * (x - 1.2171292729553325) * (x - 0.6162040603780009) * x2,
                47.37952196281928 * (x - 1.2030712083723627) * (x - 0.6580472926535473) * x2,
                -34.87065786149661 * (x - 1.2) * (x - 2.0 / 3.0) * x2,
                2.5 * (x - 1.0) * (x - 0.6) * x2,
            ]
        }
        Method::Bosh3 => {
            let mut w: Vec<f64> = b.iter().map(|b| (3.0 - 2.0 * x) * x * x * b).collect();
            w[0] += x * (1.0 - x) * (1.0 - x);
            w[last] += x * x * (x - 1.0);
            w
        }
        Method::AdaptiveHeun => vec![x - x * x / 2.0, x * x / 2.0],
        // Fixed steps end exactly at every output time.
        Method::Euler | Method::Midpoint | Method::Rk4 => b.to_vec(),
    }
}
