//! Gradient norms and clipping.

use super::slices::{CHUNK, Updatable, with_values};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use rayon::prelude::*;

/// The Euclidean norm of the gradients of all `weights` together; not finite if any gradient is
/// not.
///
/// Squares are summed in f64 on the CPU, weight by weight, so the result does not depend on the
/// number of threads.
///
/// # Errors
/// When no weight has a gradient, or the device fails.
pub fn gradient_norm(weights: &[(String, Var)], grads: &GradStore) -> Result<f64> {
    let mut total = None;
    let mut elsewhere = Vec::new();
    for grad in weights.iter().filter_map(|(_, var)| grads.get(var)) {
        let square = match (grad.device(), grad.dtype()) {
            (Device::Cpu, DType::F32) => with_values(grad, square_sum::<f32>)?,
            (Device::Cpu, DType::F64) => with_values(grad, square_sum::<f64>)?,
            (_, dtype) => {
                let exact = if dtype == DType::F64 { dtype } else { DType::F32 };
                elsewhere.push(grad.to_dtype(exact)?.sqr()?.sum_all()?);
                0.0
            }
        };
        total = Some(total.unwrap_or(0.0) + square);
    }
    let mut total = total.ok_or_else(|| {
        Error::Config("the loss depends on no weight: compute it from the model's output without `detach`".into())
    })?;
    if !elsewhere.is_empty() {
        // One transfer for all weights of a device.
        let squares = Tensor::stack(&elsewhere, 0)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        total += squares.to_vec1::<f64>()?.iter().sum::<f64>();
    }
    Ok(total.sqrt())
}

/// Scales the gradients of all `weights` by `max_norm / norm` where their norm is above `max_norm`,
/// and returns the norm before scaling. Non-finite gradients are left as they are: check that the norm
/// is finite.
///
/// Pascanu, Mikolov and Bengio 2013 (arXiv:1211.5063), algorithm 1.
///
/// # Errors
/// Same as [`gradient_norm`].
pub fn clip_by_norm(weights: &[(String, Var)], grads: &mut GradStore, max_norm: f64) -> Result<f64> {
    let norm = gradient_norm(weights, grads)?;
    if norm.is_finite() && norm > max_norm {
        for (_, var) in weights {
            if let Some(grad) = grads.get(var) {
                let clipped = grad.affine(max_norm / norm, 0.0)?;
                grads.insert(var, clipped);
            }
        }
    }
    Ok(norm)
}

fn square_sum<T: Updatable>(values: &[T]) -> f64 {
    // Eight running sums: the compiler vectorises them, and each loses less to rounding.
    let chunk = |values: &[T]| {
        let mut sums = [0.0f64; 8];
        let mut blocks = values.chunks_exact(8);
        for block in &mut blocks {
            for (sum, value) in sums.iter_mut().zip(block) {
                let value = value.to_f64();
                *sum += value * value;
            }
        }
        let rest: f64 = blocks.remainder().iter().map(|v| v.to_f64() * v.to_f64()).sum();
        sums.iter().sum::<f64>() + rest
    };
    if values.len() <= CHUNK {
        return chunk(values);
    }
    // Chunks of fixed length, summed in order.
    values.par_chunks(CHUNK).map(chunk).collect::<Vec<_>>().iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn weights(values: &[Vec<f64>]) -> (Vec<(String, Var)>, GradStore) {
        let mut grads = GradStore::default();
        let mut weights = Vec::new();
        for grad in values {
            let var = Var::zeros(grad.len(), DType::F64, &Device::Cpu).unwrap();
            grads.insert(&var, Tensor::from_slice(grad, grad.len(), &Device::Cpu).unwrap());
            weights.push((String::new(), var));
        }
        (weights, grads)
    }

    #[test]
    fn clipping_scales_all_gradients_alike() {
        let (weights, mut grads) = weights(&[vec![3.0, 0.0], vec![-4.0]]);
        assert_eq!(clip_by_norm(&weights, &mut grads, 6.0).unwrap(), 5.0);
        assert_eq!(grads.get(&weights[0].1).unwrap().to_vec1::<f64>().unwrap(), [3.0, 0.0]);
        assert_eq!(clip_by_norm(&weights, &mut grads, 2.5).unwrap(), 5.0);
        assert_eq!(grads.get(&weights[1].1).unwrap().to_vec1::<f64>().unwrap(), [-2.0]);
    }

    #[test]
    fn a_non_finite_gradient_gives_a_non_finite_norm() {
        for bad in [f64::NAN, f64::INFINITY] {
            let (weights, mut grads) = weights(&[vec![1.0], vec![bad]]);
            assert!(!clip_by_norm(&weights, &mut grads, 1.0).unwrap().is_finite());
        }
        assert!(gradient_norm(&[], &GradStore::default()).is_err());
    }

    #[test]
    fn the_norm_does_not_depend_on_the_number_of_threads() {
        let mut rng = Rng::seed(0);
        let n = 3 * CHUNK + 11;
        let values: Vec<f32> = (0..n).map(|_| rng.normal() as f32).collect();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| square_sum(&values))
        };
        assert_eq!(with(1).to_bits(), with(3).to_bits());
        let plain: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
        assert!((with(1) / plain - 1.0).abs() < 1e-12);
    }
}
