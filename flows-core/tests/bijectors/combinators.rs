//! Bijectors composed of other bijectors.

use crate::networks::{Flatten, mlp, residual_net};
use candle_core::{Device, Tensor};
use flows_core::Result;
use flows_core::bijectors::univariate::Affine;
use flows_core::bijectors::*;
use flows_core::nn::{Activation, Mlp, Output, Scope};
use flows_core::testing::Case;
use std::sync::Arc;

/// A coupling over three numbers, in its own scope.
fn part(name: &str, context: Option<usize>, scope: &Scope) -> Result<Box<dyn Bijector>> {
    let (mask, affine) = (Mask::Alternating { odd: false }, Arc::new(Affine::default()));
    Ok(Box::new(Coupling::new(&[3], &mask, affine, context, &mlp(), &scope.enter(name))?))
}

/// One level: a scale per channel after a squeeze, and a prior of the channels that leave if `kept` channels stay.
fn level(data: &[usize], kept: Option<usize>, scope: &Scope) -> Result<Level> {
    let squeeze = Squeeze::new(data, 2)?;
    let shape = squeeze.latent_shape().to_vec();
    let norm = ActNorm::new(&shape, &scope.enter("norm"))?;
    let flow = Box::new(Chain::new(vec![Box::new(norm), Box::new(squeeze)])?);
    let prior = kept.map(|kept| -> Result<SplitPrior> {
        let (scope, positions) = (scope.enter("prior"), &shape[1..]);
        let n = kept * positions.iter().product::<usize>();
        let network = Mlp::new(n, &[6], Output::new(3), None, Activation::Tanh, &scope.enter("network"))?;
        let leaving = [&[shape[0] - kept], positions].concat();
        let affine = Elementwise::conditional(&leaving, Arc::new(Affine::default()), 3, &mlp(), &scope)?;
        Ok(SplitPrior::embedded(Box::new(Flatten(Box::new(network))), Box::new(affine)))
    });
    Ok(Level { flow, prior: prior.transpose()? })
}

pub fn combinators(cases: &mut Vec<Case>) -> Result<()> {
    cases.push(Case::new("chain of one", |s| Ok(Box::new(Chain::new(vec![part("a", None, s)?])?))));
    cases.push(
        Case::new("chain of chains, context", |s| {
            let inner = Chain::new(vec![part("a", Some(2), s)?, part("b", None, s)?])?;
            let matrix = LuLinear::new(3, Start::Random, Some(Order::Reverse), &s.enter("lu"))?;
            Ok(Box::new(Chain::new(vec![Box::new(inner), Box::new(matrix), part("c", Some(2), s)?])?))
        })
        .given([2]),
    );
    cases.push(Case::new("inverse of an inverse", |s| Ok(Box::new(Inverse(Box::new(Inverse(part("a", None, s)?)))))));
    cases.push(Case::new("inverse, context", |s| Ok(Box::new(Inverse(part("a", Some(2), s)?)))).given([2]));
    cases.push(
        Case::new("concatenation, context", |s| {
            Ok(Box::new(Concatenate::new(vec![
                part("a", Some(2), s)?,
                Box::new(Triangular::new(1, &s.enter("b"))?),
                Box::new(Inverse(part("c", None, s)?)),
            ])?))
        })
        .given([2]),
    );
    cases.push(Case::new("stack of one", |s| Ok(Box::new(Stack::new(vec![part("a", None, s)?])?))));
    cases.push(
        Case::new("stack, context", |s| Ok(Box::new(Stack::new(vec![part("a", Some(2), s)?, part("b", None, s)?])?)))
            .given([2]),
    );
    cases.push(Case::new("some elements", |s| Ok(Box::new(Indexed::new(part("a", None, s)?, &[2, 3], [5, 0, 2])?))));
    cases.push(Case::new("all elements", |s| Ok(Box::new(Indexed::new(part("a", None, s)?, &[3], 0..3)?))));
    cases.push(Case::new("reshape", |_| Ok(Box::new(Reshape::new(&[2, 3], &[3, 1, 2])?))));
    cases.push(Case::new("flatten", |_| Ok(Box::new(Reshape::flatten(&[2, 2, 2])))));
    for (data, factor) in [(&[1, 4, 2][..], 2), (&[2, 3, 6], 3), (&[2, 6], 3), (&[1, 8], 4), (&[2, 2, 2], 1)] {
        cases.push(Case::new(format!("squeeze {data:?} by {factor}"), move |_| {
            Ok(Box::new(Squeeze::new(data, factor)?))
        }));
    }
    cases.push(
        Case::new("embedded context", |s| {
            let network = Mlp::new(6, &[5], Output::new(2), None, Activation::Tanh, &s.enter("network"))?;
            Ok(Box::new(Embed::new(Box::new(Flatten(Box::new(network))), part("a", Some(2), s)?)))
        })
        .given([2, 3]),
    );
    cases.push(
        Case::new("standardized context", |s| {
            let standardize = Standardize::new(&[2], &s.enter("context"))?;
            standardize.fit(&Tensor::new(&[[1f32, 2.0], [3.0, 6.0], [4.0, 9.0]], &Device::Cpu)?)?;
            Ok(Box::new(Embed::new(Box::new(standardize), part("a", Some(2), s)?)))
        })
        .given([2]),
    );
    cases.push(Case::new("multi-scale of one level", |s| {
        Ok(Box::new(MultiScale::new(vec![level(&[1, 2, 2], None, s)?])?))
    }));
    for (data, kept) in [(&[1, 4, 4][..], 2), (&[1, 4, 4], 3), (&[1, 4, 4], 1), (&[1, 8], 1), (&[4, 4], 6)] {
        for prior in [false, true] {
            let name = format!("multi-scale of {data:?}, {kept} channels kept, split prior {prior}");
            cases.push(Case::new(name, move |s| {
                let first = level(data, prior.then_some(kept), &s.enter(0))?;
                let mut rest = first.flow.latent_shape().to_vec();
                rest[0] = kept;
                Ok(Box::new(MultiScale::new(vec![first, level(&rest, None, &s.enter(1))?])?))
            }));
        }
    }
    Ok(())
}

/// Combinators around chains longer than a segment, with dropout and batch statistics inside.
pub fn nested() -> Vec<Case> {
    fn chain(normalised: bool, context: Option<usize>, s: &Scope) -> Result<Box<dyn Bijector>> {
        let mut steps: Vec<Box<dyn Bijector>> = Vec::new();
        for i in 0..10 {
            let (mask, scope) = (Mask::Alternating { odd: i % 2 == 1 }, s.enter(i));
            steps.push(Box::new(Coupling::new(
                &[3],
                &mask,
                Arc::new(Affine::default()),
                context,
                &residual_net(),
                &scope,
            )?));
            if normalised && i % 4 == 0 {
                steps.push(Box::new(BatchNorm::new(&[3], 0.2, &scope)?));
            }
        }
        Ok(Box::new(Chain::new(steps)?))
    }
    let (mut cases, context) = (Vec::new(), Some(2));
    cases.push(Case::new("long chain, context", move |s| chain(false, context, s)).given([2]));
    cases.push(Case::new("long chain with batch norm", |s| chain(true, None, s)));
    cases.push(Case::new("long chain, inverse", |s| Ok(Box::new(Inverse(chain(true, None, s)?)))));
    cases.push(Case::new("long chains side by side", |s| {
        Ok(Box::new(Concatenate::new(vec![chain(false, None, &s.enter("a"))?, chain(true, None, &s.enter("b"))?])?))
    }));
    cases.push(Case::new("long chains stacked", |s| {
        Ok(Box::new(Stack::new(vec![chain(true, None, &s.enter("a"))?, chain(false, None, &s.enter("b"))?])?))
    }));
    cases.push(Case::new("long chain on some elements", |s| {
        Ok(Box::new(Indexed::new(chain(true, None, s)?, &[2, 2], [3, 0, 1])?))
    }));
    cases.push(
        Case::new("long chain, embedded context", move |s| {
            let network = Mlp::new(6, &[5], Output::new(2), None, Activation::Tanh, &s.enter("network"))?;
            Ok(Box::new(Embed::new(Box::new(Flatten(Box::new(network))), chain(true, context, s)?)))
        })
        .given([2, 3]),
    );
    cases
}
