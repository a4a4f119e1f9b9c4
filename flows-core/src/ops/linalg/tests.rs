use super::operations::mask;
use super::*;
use crate::nn::Parameters;
use crate::testing::{difference, gradient_difference};
use candle_core::{DType, Shape, Var};

const CPU: &Device = &Device::Cpu;

fn random(shape: impl Into<Shape>, rng: &mut Rng) -> Tensor {
    rng.normal_tensor(shape, DType::F64, CPU).unwrap()
}

/// Gradients of `sum(f(inputs) * weights)` against central differences.
fn gradients(inputs: &[&Tensor], f: impl Fn(&[Var]) -> Result<Tensor>) -> f64 {
    let rng = &mut Rng::seed(1);
    let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let weights = random(f(&vars).unwrap().shape().clone(), rng);
    let none = Parameters::new(DType::F64, CPU, Rng::seed(0));
    let named: Vec<(&str, &Var)> = vars.iter().map(|v| ("input", v)).collect();
    gradient_difference(|| Ok((f(&vars)? * &weights)?.sum_all()?), &none, &named, rng).unwrap()
}

#[test]
fn determinants() -> Result<()> {
    let a = Tensor::new(&[[[2.0, 1.0], [4.0, 5.0]], [[1.0, 2.0], [2.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]], CPU)?;
    let log_dets = log_abs_det(&a)?.to_vec1::<f64>()?;
    assert!((log_dets[0] - 6f64.ln()).abs() < 1e-14);
    assert_eq!(log_dets[1..], [f64::NEG_INFINITY; 2]);
    assert!(log_abs_det(&Tensor::new(&[[f64::NAN]], CPU)?)?.to_scalar::<f64>()?.is_nan());
    assert_eq!(log_abs_det(&Tensor::new(&[[-1f32]], CPU)?)?.to_scalar::<f32>()?, 0.0);
    let rng = &mut Rng::seed(0);
    for n in [1, 3, 20] {
        let a = random((2, 3, n, n), rng);
        assert!(gradients(&[&a], |v| log_abs_det(&v[0])) < 1e-7);
        let eye = Tensor::eye(n, DType::F64, CPU)?.broadcast_as((2, 3, n, n))?;
        assert!(difference(&eye, &a.matmul(&inverse(&a)?)?)? < 1e-10);
        assert!(gradients(&[&a], |v| inverse(&v[0])) < 1e-6);
    }
    assert!(log_abs_det(&Tensor::zeros((2, 3), DType::F64, CPU)?).is_err());
    Ok(())
}

#[test]
fn solves() -> Result<()> {
    let rng = &mut Rng::seed(2);
    let eye = (Tensor::eye(5, DType::F64, CPU)? * 4.0)?;
    let a = random((3, 5, 5), rng).broadcast_add(&eye)?;
    let b = random((3, 5, 2), rng);
    assert!(difference(&b, &a.matmul(&solve(&a, &b)?)?)? < 1e-12);
    assert!(gradients(&[&a, &b], |v| solve(&v[0], &v[1])) < 1e-7);
    // One matrix for a batch, and one right-hand side for many matrices.
    assert!(gradients(&[&a.get(0)?, &b], |v| solve(&v[0], &v[1])) < 1e-7);
    assert!(gradients(&[&a, &b.get(0)?], |v| solve(&v[0], &v[1])) < 1e-7);
    for case in 0..8 {
        let (upper, unit, transpose) = (case & 1 > 0, case & 2 > 0, case & 4 > 0);
        let mut t = a.broadcast_mul(&mask(&a, Triangular { upper, unit })?)?;
        if unit {
            t = t.broadcast_add(&(&eye / 4.0)?)?;
        }
        let op = if transpose { t.transpose(1, 2)? } else { t };
        // The full matrix is given: the other triangle must not matter.
        let x = solve_triangular(&a, &b, upper, unit, transpose)?;
        assert!(difference(&b, &op.matmul(&x)?)? < 1e-12);
        assert!(gradients(&[&a, &b], |v| solve_triangular(&v[0], &v[1], upper, unit, transpose)) < 1e-7);
    }
    assert_eq!(solve_rows(&a.get(0)?, &Tensor::zeros((0, 5), DType::F64, CPU)?)?.dims(), [0, 5]);
    assert!(!inverse(&Tensor::zeros((2, 2), DType::F64, CPU)?)?.sum_all()?.to_scalar::<f64>()?.is_finite());
    Ok(())
}

#[test]
fn cholesky_factors() -> Result<()> {
    for n in [1, 4] {
        let half = random((2, n, n), &mut Rng::seed(3));
        let a = half.matmul(&half.transpose(1, 2)?)?.broadcast_add(&Tensor::eye(n, DType::F64, CPU)?)?;
        let l = cholesky(&a)?;
        assert!(difference(&a, &l.matmul(&l.transpose(1, 2)?)?)? < 1e-12);
        assert!(gradients(&[&a], |v| cholesky(&v[0])) < 1e-7);
    }
    let error = cholesky(&Tensor::new(&[[1.0, 2.0], [2.0, 1.0]], CPU)?).unwrap_err();
    assert!(error.to_string().contains("not positive definite"));
    assert!(cholesky(&Tensor::new(&[[f64::NAN]], CPU)?).is_err());
    Ok(())
}

#[test]
fn initial_matrices() -> Result<()> {
    let n = 7;
    let values = orthogonal(n, &mut Rng::seed(4));
    let q = Tensor::from_vec(values.clone(), (n, n), CPU)?;
    assert!(difference(&Tensor::eye(n, DType::F64, CPU)?, &q.matmul(&q.t()?)?)? < 1e-13);
    let Lu { permutation, lower, upper } = lu(&values, n)?;
    let product = Tensor::from_vec(lower, (n, n), CPU)?.matmul(&Tensor::from_vec(upper, (n, n), CPU)?)?;
    let back = product.index_select(&Tensor::from_vec(permutation, n, CPU)?, 0)?;
    assert!(difference(&q, &back)? < 1e-13);
    assert!(lu(&values, 6).is_err());
    Ok(())
}
