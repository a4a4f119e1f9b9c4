//! Chains of many layers.

use crate::networks::mlp;
use flows_core::Result;
use flows_core::bijectors::univariate::{Affine, DeepSigmoid, RqSpline};
use flows_core::bijectors::*;
use flows_core::nn::{LipschitzActivation, Scope};
use flows_core::testing::Case;
use std::sync::Arc;

/// Chains of 32 layers, which must still round-trip.
pub fn deep() -> Vec<Case> {
    type Layer = fn(usize, &Scope) -> Result<Box<dyn Bijector>>;
    let layers: [(&str, Layer); 11] = [
        ("affine couplings", |i, s| {
            let (mask, affine) = (Mask::Alternating { odd: i % 2 == 1 }, Arc::new(Affine::default()));
            Ok(Box::new(Coupling::new(&[5], &mask, affine, None, &mlp(), s)?))
        }),
        ("spline couplings", |i, s| {
            let (mask, spline) = (Mask::Alternating { odd: i % 2 == 1 }, Arc::new(RqSpline::linear_tails(8, 3.0)?));
            Ok(Box::new(Coupling::new(&[5], &mask, spline, None, &mlp(), s)?))
        }),
        ("autoregressive", |i, s| {
            let order = (i % 2 == 1).then(|| vec![4, 3, 2, 1, 0]);
            Ok(Box::new(Autoregressive::new(5, Arc::new(Affine::default()), None, order, &mlp(), s)?))
        }),
        ("autoregressive splines", |i, s| {
            let order = (i % 2 == 1).then(|| vec![4, 3, 2, 1, 0]);
            Ok(Box::new(Autoregressive::new(5, Arc::new(RqSpline::linear_tails(8, 3.0)?), None, order, &mlp(), s)?))
        }),
        ("deep sigmoid couplings", |i, s| {
            let (mask, sigmoid) = (Mask::Alternating { odd: i % 2 == 1 }, Arc::new(DeepSigmoid::new(4)?));
            Ok(Box::new(Coupling::new(&[5], &mask, sigmoid, None, &mlp(), s)?))
        }),
        ("LU", |_, s| Ok(Box::new(LuLinear::new(5, Start::Identity, Some(Order::Random), s)?))),
        ("steps of actnorm and 1x1 convolution", |_, s| {
            let shape = [4, 2, 2];
            let norm = ActNorm::new(&shape, &s.enter("norm"))?;
            let mix = Conv1x1::new(&shape, Start::Random, &s.enter("mix"))?;
            Ok(Box::new(Chain::new(vec![Box::new(norm), Box::new(mix)])?))
        }),
        ("planar", |_, s| Ok(Box::new(Planar::new(5, None, s)?))),
        ("radial", |_, s| Ok(Box::new(Radial::new(5, None, s)?))),
        ("Sylvester", |_, s| Ok(Box::new(Sylvester::new(5, SylvesterBasis::Orthogonal { columns: 3 }, None, s)?))),
        ("residual", |_, s| {
            let settings = ResidualSettings {
                hidden: vec![8],
                coefficient: 0.8,
                activation: LipschitzActivation::LipSwish,
                roulette: None,
                tolerance: 1e-15,
            };
            Ok(Box::new(Residual::new(2, &settings, None, s)?))
        }),
    ];
    let chain = |(name, layer): (&str, Layer)| {
        Case::new(format!("32 {name}"), move |scope| {
            let steps = (0..32).map(|i| layer(i, &scope.enter(i))).collect::<Result<_>>()?;
            Ok(Box::new(Chain::new(steps)?))
        })
        .noise(0.05)
    };
    layers.into_iter().map(chain).collect()
}
