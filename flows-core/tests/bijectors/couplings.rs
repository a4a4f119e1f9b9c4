//! Couplings.

use crate::families::{families, over};
use crate::networks::{convolutions, mlp, residual_net};
use flows_core::Result;
use flows_core::bijectors::univariate::Affine;
use flows_core::bijectors::{Coupling, Elementwise, Mask};
use flows_core::nn::{Activation, ConvNetConfig, Mlp, Output, ResidualNet, ResidualNetSettings};
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

pub fn over_channels(cases: &mut Vec<Case>) -> Result<()> {
    let halves = |swap| Mask::Halves { swap };
    let alternating = |odd| Mask::Alternating { odd };
    let masks: [(&[usize], Mask); 8] = [
        (&[4, 2, 3], halves(false)),
        (&[3, 2, 2], halves(true)),
        (&[5, 1, 3], alternating(true)),
        (&[3, 2, 2], Mask::Custom(vec![true, false, true])),
        (&[4, 5], halves(false)),
        (&[3, 4], halves(true)),
        (&[5, 3], alternating(false)),
        (&[2, 1], alternating(true)),
    ];
    for (shape, mask) in masks {
        let name = format!("coupling over channels {shape:?} {mask:?}");
        let other = mask.clone();
        cases.push(Case::new(&name, move |scope| {
            let affine = Arc::new(Affine::default());
            Ok(Box::new(Coupling::convolutional(shape, &mask, affine, None, &convolutions(), scope)?))
        }));
        let conditional = Case::new(format!("{name}, context"), move |scope| {
            let (affine, network) =
                (Arc::new(Affine::default()), ConvNetConfig { activation: Activation::Silu, ..convolutions() });
            let coupling = Coupling::convolutional(shape, &other, affine.clone(), Some(2), &network, scope)?;
            Ok(Box::new(coupling.with_kept_map(affine, scope)?))
        });
        cases.push(conditional.given([&[2], &shape[1..]].concat()));
    }
    cases.push(
        Case::new("coupling over channels, one context for all positions", move |scope| {
            let affine = Arc::new(Affine::default());
            Ok(Box::new(Coupling::convolutional(&[2, 4], &halves(false), affine, Some(3), &convolutions(), scope)?))
        })
        .given([3]),
    );
    cases.push(
        Case::new("coupling over channels of one position", move |scope| {
            let network = Mlp::new(3, &[6], Output::new(4), None, Activation::Tanh, scope)?;
            Ok(Box::new(Coupling::over_channels(
                &[5],
                &halves(false),
                Arc::new(Affine::exp()),
                Box::new(network),
                scope,
            )?))
        })
        .overflows(),
    );
    for family in families()? {
        cases.push(over(&family, format!("coupling of images {}", family.name), move |scope, univariate| {
            Ok(Box::new(Coupling::convolutional(&[2, 2, 2], &halves(false), univariate, None, &convolutions(), scope)?))
        }));
        let of_signals =
            over(&family, format!("coupling of signals {}, context", family.name), move |scope, univariate| {
                Ok(Box::new(Coupling::convolutional(
                    &[3, 2],
                    &alternating(true),
                    univariate,
                    Some(2),
                    &convolutions(),
                    scope,
                )?))
            });
        cases.push(of_signals.given([2, 2]));
        let elementwise = over(&family, format!("signals {}, given channels", family.name), |scope, univariate| {
            let start = univariate.identity().into_iter().flat_map(|value| [value; 2]).collect();
            let network = convolutions().build(1, 3, None, Output::near(start), scope)?;
            Ok(Box::new(Elementwise::over_channels(&[2, 2], univariate, Box::new(network))?))
        });
        cases.push(elementwise.given([3, 2]));
    }
    Ok(())
}
