//! Linear maps and normalisations.

use candle_core::Tensor;
use flows_core::bijectors::*;
use flows_core::nn::Scope;
use flows_core::testing::Case;
use flows_core::{Result, Rng};

pub fn linears(cases: &mut Vec<Case>) -> Result<()> {
    for dim in [1, 2, 5] {
        for start in [Start::Identity, Start::Random] {
            let at = format!("{dim} from {start:?}");
            cases
                .push(Case::new(format!("matrix {at}"), move |s| Ok(Box::new(Matrix::new(dim, start, s)?))).noise(0.1));
            cases.push(Case::new(format!("orthogonal {at}"), move |s| Ok(Box::new(Orthogonal::new(dim, start, s)?))));
            for order in [None, Some(Order::Random), Some(Order::Reverse)] {
                cases.push(Case::new(format!("LU {at}, permuted {order:?}"), move |s| {
                    Ok(Box::new(LuLinear::new(dim, start, order.clone(), s)?))
                }));
            }
            cases.push(
                Case::new(format!("1x1 convolution {at}"), move |s| {
                    Ok(Box::new(Conv1x1::new(&[dim, 2, 3], start, s)?))
                })
                .noise(0.1),
            );
            cases.push(Case::new(format!("1x1 convolution, LU, {at}"), move |s| {
                Ok(Box::new(Conv1x1::lu(&[dim, 3], start, s)?))
            }));
        }
        cases.push(Case::new(format!("triangular {dim}"), move |s| Ok(Box::new(Triangular::new(dim, s)?))));
        for reflections in [1, dim, dim + 2] {
            cases.push(Case::new(format!("{reflections} reflections of {dim}"), move |s| {
                Ok(Box::new(Householder::new(dim, reflections, s)?))
            }));
        }
        for order in [Order::Random, Order::Reverse] {
            cases.push(Case::new(format!("permutation of {dim}, {order:?}"), move |s| {
                Ok(Box::new(Permutation::new(&[dim, 2], order.clone(), s)?))
            }));
        }
    }
    for (name, angle) in [("rotation", 1.0), ("no rotation", 0.0)] {
        cases.push(Case::new(name, move |_| {
            let scaled = FixedAffine::scale(&[2.0, -0.5])?.then(&FixedAffine::rotation2d(angle)?)?;
            Ok(Box::new(scaled.then(&FixedAffine::shift(&[1.0, -3.0])?)?))
        }));
    }
    Ok(())
}

pub fn normalisations(cases: &mut Vec<Case>) -> Result<()> {
    let batch = |shape: &[usize], scope: &Scope| -> Result<Tensor> {
        let x = Rng::seed(1).normal_tensor([&[9], shape].concat(), scope.dtype(), scope.device())?;
        Ok(((x * 3.0)? + 2.0)?)
    };
    for shape in [&[1][..], &[5], &[2, 3], &[3, 2, 2]] {
        cases.push(Case::new(format!("actnorm {shape:?}"), move |s| {
            let layer = ActNorm::new(shape, s)?;
            layer.initialize(&batch(shape, s)?, None)?;
            Ok(Box::new(layer))
        }));
        cases.push(Case::new(format!("fresh actnorm {shape:?}"), move |s| Ok(Box::new(ActNorm::new(shape, s)?))));
        cases.push(Case::new(format!("batch norm {shape:?}"), move |s| {
            let layer = BatchNorm::new(shape, 0.3, s)?;
            layer.map(Direction::Inverse, &batch(shape, s)?, None, &mut Mode::training(&mut Rng::seed(0)))?;
            Ok(Box::new(layer))
        }));
        cases.push(Case::new(format!("standardize {shape:?}"), move |s| {
            let layer = Standardize::new(shape, s)?;
            layer.fit(&batch(shape, s)?)?;
            Ok(Box::new(layer))
        }));
    }
    for shape in [[3, 4, 6], [1, 1, 5]] {
        cases.push(Case::new(format!("whitening of {shape:?}"), move |s| {
            let layer = Whiten::new(shape, s)?;
            layer.fit(&batch(&shape, s)?)?;
            Ok(Box::new(layer))
        }));
    }
    Ok(())
}
