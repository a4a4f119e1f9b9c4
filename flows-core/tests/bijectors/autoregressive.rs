//! Autoregressive layers, block neural autoregressive layers and monotonic integrals.

use crate::families::{families, over};
use crate::networks::{mlp, residual_net};
use flows_core::Result;
use flows_core::bijectors::univariate::{Affine, Inverted, MonotonicIntegral};
use flows_core::bijectors::{Autoregressive, BlockNeural, Elementwise, Inverse};
use flows_core::nn::{Activation, NetworkConfig, Scope};
use flows_core::testing::Case;
use std::sync::Arc;

pub fn autoregressives(cases: &mut Vec<Case>) -> Result<()> {
    for family in families()? {
        let name = format!("autoregressive {}", family.name);
        cases.push(over(&family, name.clone(), |scope, univariate| {
            Ok(Box::new(Autoregressive::new(2, univariate, None, None, &mlp(), scope)?))
        }));
        let conditional = over(&family, format!("{name}, context, own order"), |scope, univariate| {
            let (order, scope) = (Some(vec![3, 1, 0, 2, 4]), scope.clone().with_context_units(true));
            Ok(Box::new(Autoregressive::new(5, univariate, Some(2), order, &residual_net(), &scope)?))
        });
        // With more noise in the weights, splines on residual networks have slopes of 1e-4 in places.
        cases.push(conditional.given([2]).noise(0.1));
    }
    for context in [None, Some(3)] {
        let single = Case::new(format!("autoregressive of 1, context {context:?}"), move |scope| {
            let network = NetworkConfig::Mlp { hidden: vec![7], activation: Activation::Tanh };
            let scope = scope.clone().with_context_units(true);
            Ok(Box::new(Autoregressive::new(1, Arc::new(Affine::default()), context, None, &network, &scope)?))
        });
        cases.push(if context.is_some() { single.given([3]) } else { single });
        let reverse = Case::new(format!("inverse autoregressive, reversed, context {context:?}"), move |scope| {
            let order = Some(vec![4, 3, 2, 1, 0]);
            let affine = Arc::new(Affine::default());
            Ok(Box::new(Inverse(Box::new(Autoregressive::new(5, affine, context, order, &mlp(), scope)?))))
        });
        cases.push(if context.is_some() { reverse.given([3]) } else { reverse });
    }
    Ok(())
}

pub fn block_neurals(cases: &mut Vec<Case>) -> Result<()> {
    for (dim, hidden, context) in [(1, 1, None), (2, 2, None), (5, 1, None), (3, 1, Some(2))] {
        let case = Case::new(format!("block neural {dim}, {hidden} layers, context {context:?}"), move |s| {
            Ok(Box::new(BlockNeural::new(dim, hidden, 4, context, s)?))
        });
        cases.push(if context.is_some() { case.given([2]) } else { case });
    }
    Ok(())
}

pub fn integrals(cases: &mut Vec<Case>) -> Result<()> {
    let integral = |s: &Scope| MonotonicIntegral::new(3, &[6], 12, s);
    let elementwise = Case::new("elementwise monotonic integral", move |s| {
        Ok(Box::new(Elementwise::new(&[2], Arc::new(integral(s)?), s)?))
    });
    cases.push(elementwise);
    let conditional = Case::new("autoregressive monotonic integral, context", move |s| {
        let univariate = Arc::new(Inverted(integral(s)?));
        Ok(Box::new(Autoregressive::new(3, univariate, Some(2), None, &mlp(), s)?))
    });
    cases.push(conditional.given([2]));
    Ok(())
}
