//! Bringing one configuration near another by permutation, rotation and reflection.

use super::places::centred_basis;
use crate::assignment::assign;
use flows_core::ops::orthogonal_factor;

/// Turns the configuration z into one as near to x as may be, both given by their (N - 1) D coordinates:
/// the best order of the particles and the best rotation or reflection in turn, which ends where
/// neither brings z nearer by itself (Klein, Kramer & Noe, Equivariant Flow Matching, 2023, take one
/// turn). Particles that are not `alike` keep their order.
pub(super) fn align((n, d): (usize, usize), alike: bool, x: &[f64], z: &mut [f64]) {
    const TURNS: usize = 2;
    let basis = centred_basis(n);
    let particles = |coordinates: &[f64]| -> Vec<f64> {
        let mut out = vec![0.0; n * d];
        for (row, of_row) in basis.chunks_exact(n).zip(coordinates.chunks_exact(d)) {
            for (&v, out) in row.iter().zip(out.chunks_exact_mut(d)) {
                out.iter_mut().zip(of_row).for_each(|(out, &c)| *out += v * c);
            }
        }
        out
    };
    let (fixed, mut moved) = (particles(x), particles(z));
    for _ in 0..TURNS {
        if alike {
            let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
            let costs = fixed.chunks_exact(d).map(|a| moved.chunks_exact(d).map(|b| distance(a, b)).collect());
            let order = assign(&costs.collect::<Vec<_>>());
            moved = order.iter().flat_map(|&i| &moved[i * d..(i + 1) * d]).copied().collect();
        }
        let mut product = vec![0.0; d * d];
        for (a, b) in fixed.chunks_exact(d).zip(moved.chunks_exact(d)) {
            for (row, &a) in product.chunks_exact_mut(d).zip(a) {
                row.iter_mut().zip(b).for_each(|(out, &b)| *out += a * b);
            }
        }
        let Some(turn) = orthogonal_factor(&product, d) else { break };
        for row in moved.chunks_exact_mut(d) {
            let turned: Vec<f64> =
                turn.chunks_exact(d).map(|t| t.iter().zip(row.iter()).map(|(t, v)| t * v).sum()).collect();
            row.copy_from_slice(&turned);
        }
    }
    for (row, z) in basis.chunks_exact(n).zip(z.chunks_exact_mut(d)) {
        z.fill(0.0);
        for (&v, at) in row.iter().zip(moved.chunks_exact(d)) {
            z.iter_mut().zip(at).for_each(|(z, &c)| *z += v * c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_core::Rng;

    /// A configuration that was permuted, and turned a little or reflected, is found again.
    #[test]
    fn symmetric_configurations_meet() {
        let mut rng = Rng::seed(0);
        for (n, d) in [(4, 2), (6, 3), (13, 3)] {
            let positions: Vec<f64> = (0..n * d).map(|_| 3.0 * rng.normal()).collect();
            let basis = centred_basis(n);
            let coordinates = |positions: &[f64]| -> Vec<f64> {
                let sum = |row: &[f64], c: usize| row.iter().enumerate().map(|(i, v)| v * positions[i * d + c]).sum();
                basis.chunks_exact(n).flat_map(|row| (0..d).map(move |c| sum(row, c)).collect::<Vec<f64>>()).collect()
            };
            let x = coordinates(&positions);
            let order = rng.permutation(n);
            let (sin, cos) = 0.2f64.sin_cos();
            let turned: Vec<f64> = order
                .iter()
                .flat_map(|&i| {
                    let mut row = positions[i as usize * d..][..d].to_vec();
                    (row[0], row[1]) = (cos * row[0] - sin * row[1], sin * row[0] + cos * row[1]);
                    row
                })
                .collect();
            let mut z = coordinates(&turned);
            align((n, d), true, &x, &mut z);
            assert!(x.iter().zip(&z).all(|(a, b)| (a - b).abs() < 1e-9), "{n} particles");
            // Whatever it is given, its size stays.
            let mut other: Vec<f64> = (0..x.len()).map(|_| rng.normal()).collect();
            let size = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>();
            let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            let before = (size(&other), distance(&x, &other));
            align((n, d), true, &x, &mut other);
            assert!((size(&other) - before.0).abs() < 1e-9 && distance(&x, &other) < before.1);
        }
    }

    #[test]
    fn a_plane_has_no_best_rotation() {
        assert_eq!(orthogonal_factor(&[1.0, 2.0, 2.0, 4.0], 2), None);
        assert_eq!(orthogonal_factor(&[f64::NAN; 4], 2), None);
    }
}
