//! Couplings.

use crate::families::{families, over};
use crate::networks::{mlp, residual_net};
use flows_core::Result;
use flows_core::bijectors::univariate::Affine;
use flows_core::bijectors::{Coupling, Mask};
use flows_core::nn::{Activation, Output, ResidualNet, ResidualNetSettings};
use flows_core::testing::Case;
use std::sync::Arc;

pub fn couplings(cases: &mut Vec<Case>) -> Result<()> {
    let masks: [(&[usize], Mask); 12] = [
        (&[1], Mask::Halves { swap: false }),
        (&[2], Mask::Halves { swap: false }),
        (&[2], Mask::Halves { swap: true }),
        (&[5], Mask::Halves { swap: true }),
        (&[2], Mask::Alternating { odd: false }),
        (&[5], Mask::Alternating { odd: true }),
        (&[5], Mask::Custom(vec![true, true, false, true, true])),
        (&[4], Mask::Custom(vec![false, false, false, true])),
        (&[3, 2], Mask::Halves { swap: false }),
        (&[2, 2, 2], Mask::Alternating { odd: false }),
        (&[1, 2, 3], Mask::Checkerboard { odd: true }),
        (&[3, 3], Mask::Checkerboard { odd: false }),
    ];
    let affine = || Arc::new(Affine::default());
    for (shape, mask) in masks {
        let name = format!("coupling {shape:?} {mask:?}");
        let other = mask.clone();
        cases.push(Case::new(&name, move |scope| {
            Ok(Box::new(Coupling::new(shape, &mask, affine(), None, &mlp(), scope)?))
        }));
        let conditional = Case::new(format!("{name}, context"), move |scope| {
            let coupling = Coupling::new(shape, &other, affine(), Some(2), &residual_net(), scope)?;
            Ok(Box::new(coupling.with_kept_map(affine(), scope)?))
        });
        cases.push(conditional.given([2]));
    }
    for family in families()? {
        cases.push(over(&family, format!("coupling {}", family.name), |scope, univariate| {
            let mask = Mask::Alternating { odd: false };
            let coupling = Coupling::new(&[5], &mask, univariate.clone(), None, &mlp(), scope)?;
            Ok(Box::new(coupling.with_kept_map(univariate, scope)?))
        }));
        let conditional = over(&family, format!("coupling {}, context", family.name), |scope, univariate| {
            let mask = Mask::Halves { swap: false };
            Ok(Box::new(Coupling::new(&[3], &mask, univariate, Some(2), &mlp(), scope)?))
        });
        cases.push(conditional.given([2]));
    }
    cases.push(Case::new("coupling with a network of one's own", |scope| {
        let settings = ResidualNetSettings {
            inputs: 4,
            output: Output::new(8),
            context: None,
            hidden: 6,
            blocks: 1,
            activation: Activation::Softplus,
            dropout: 0.0,
        };
        let network = Box::new(ResidualNet::new(settings, scope)?);
        let mask = Mask::Checkerboard { odd: false };
        Ok(Box::new(Coupling::with_network(&[2, 2, 2], &mask, Arc::new(Affine::default()), network, scope)?))
    }));
    Ok(())
}
