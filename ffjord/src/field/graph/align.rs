//! Aligns one configuration with another by permutation, rotation and reflection.

use super::layout::centred_basis;
use crate::assignment::assign;
use flows_core::ops::orthogonal_factor;

/// Moves the configuration z of n particles in d dimensions close to x, both given by their (n - 1) d coordinates.
///
/// Alternates twice between the best permutation of the particles and the best rotation or reflection, which
/// approximates the joint optimum (Klein, Kramer & Noe, Equivariant Flow Matching, 2023, do so once). Particles that
/// are not `interchangeable` keep their order.
pub(super) fn align((n, d): (usize, usize), interchangeable: bool, x: &[f64], z: &mut [f64]) {
    const ROUNDS: usize = 2;
    let basis = centred_basis(n);
    let particles = |coordinates: &[f64]| -> Vec<f64> {
        let mut out = vec![0.0; n * d];
        for (row, coordinates) in basis.chunks_exact(n).zip(coordinates.chunks_exact(d)) {
            for (&v, out) in row.iter().zip(out.chunks_exact_mut(d)) {
                out.iter_mut().zip(coordinates).for_each(|(out, &c)| *out += v * c);
            }
        }
        out
    };
    let (fixed, mut moved) = (particles(x), particles(z));
    for _ in 0..ROUNDS {
        if interchangeable {
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
        let Some(rotation) = orthogonal_factor(&product, d) else { break };
        for row in moved.chunks_exact_mut(d) {
            let dot = |r: &[f64]| r.iter().zip(row.iter()).map(|(r, v)| r * v).sum();
            let rotated: Vec<f64> = rotation.chunks_exact(d).map(dot).collect();
            row.copy_from_slice(&rotated);
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

    /// A configuration that was permuted and rotated by a small angle is aligned exactly with the original.
    #[test]
    fn permuted_and_rotated_configurations_are_aligned() {
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
            let rotated: Vec<f64> = order
                .iter()
                .flat_map(|&i| {
                    let mut row = positions[i as usize * d..][..d].to_vec();
                    (row[0], row[1]) = (cos * row[0] - sin * row[1], sin * row[0] + cos * row[1]);
                    row
                })
                .collect();
            let mut z = coordinates(&rotated);
            align((n, d), true, &x, &mut z);
            assert!(x.iter().zip(&z).all(|(a, b)| (a - b).abs() < 1e-9), "{n} particles");
            // Alignment preserves the norm of any configuration, and brings it closer.
            let mut other: Vec<f64> = (0..x.len()).map(|_| rng.normal()).collect();
            let size = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>();
            let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            let before = (size(&other), distance(&x, &other));
            align((n, d), true, &x, &mut other);
            assert!((size(&other) - before.0).abs() < 1e-9 && distance(&x, &other) < before.1);
        }
    }

    #[test]
    fn a_singular_matrix_has_no_orthogonal_factor() {
        assert_eq!(orthogonal_factor(&[1.0, 2.0, 2.0, 4.0], 2), None);
        assert_eq!(orthogonal_factor(&[f64::NAN; 4], 2), None);
    }
}
