//! Planar, radial, Sylvester and residual maps.

use flows_core::Result;
use flows_core::bijectors::*;
use flows_core::nn::LipschitzActivation;
use flows_core::testing::Case;

pub fn variational(cases: &mut Vec<Case>) -> Result<()> {
    for (dim, context) in [(1, None), (2, None), (5, None), (1, Some(2)), (5, Some(2))] {
        let mut push = |case: Case| cases.push(if context.is_some() { case.given([2]) } else { case });
        let at = format!("{dim}, context {context:?}");
        push(Case::new(format!("planar {at}"), move |s| Ok(Box::new(Planar::new(dim, context, s)?))));
        push(Case::new(format!("radial {at}"), move |s| Ok(Box::new(Radial::new(dim, context, s)?))));
        for basis in [
            SylvesterBasis::Orthogonal { columns: 1 },
            SylvesterBasis::Orthogonal { columns: dim },
            SylvesterBasis::Householder { reflections: 2 },
            SylvesterBasis::Triangular { flip: false },
            SylvesterBasis::Triangular { flip: true },
        ] {
            push(Case::new(format!("Sylvester {at}, {basis:?}"), move |s| {
                Ok(Box::new(Sylvester::new(dim, basis, context, s)?))
            }));
        }
    }
    for (dim, context) in [(1, None), (2, None), (5, None), (1, Some(2)), (5, Some(2))] {
        for (activation, hidden, roulette) in [
            (LipschitzActivation::LipSwish, vec![16, 16], Some(Roulette::Poisson { rate: 2.0 })),
            (LipschitzActivation::LipSwish, vec![], None),
            (LipschitzActivation::Elu, vec![8], Some(Roulette::Geometric { stop: 0.5 })),
        ] {
            let name = format!("residual {dim}, context {context:?}, {activation:?} {hidden:?} {roulette:?}");
            // Gradients depend on the singular vectors, whose error is the square root of this tolerance.
            let settings = ResidualSettings { hidden, activation, roulette, tolerance: 1e-15, coefficient: 0.8 };
            let case = Case::new(name, move |s| Ok(Box::new(Residual::new(dim, &settings, context, s)?)));
            let case = case.gradient_tolerance(1e-6);
            cases.push(if context.is_some() { case.given([2]) } else { case });
        }
    }
    Ok(())
}
