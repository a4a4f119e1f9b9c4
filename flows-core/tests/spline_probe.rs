//! probe
use candle_core::{DType, Device, Tensor, Var};
use flows_core::bijectors::{univariate::*, *};
use flows_core::nn::*;
use flows_core::testing::*;
use flows_core::{Result, Rng};
use std::sync::Arc;

#[test]
fn probe() -> Result<()> {
    let mut rng = Rng::seed(1);
    for (name, u) in [
        ("linear", RqSpline::linear_tails(8, 3.0)?),
        ("closed", RqSpline::closed(5, -4.0, 5.0)?),
        ("circular", RqSpline::circular(4, -3.2, 3.2)?),
    ] {
        let p = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(3));
        let e = Elementwise::new(&[3], Arc::new(u), &p.scope())?;
        perturb(&p, 1.0, &mut rng)?;
        let z = rng.normal_tensor((20, 3), DType::F64, &Device::Cpu)?.clamp(-2.9, 2.9)?;
        println!("{name} {:?}", measure(&e, &p, &z, None, &mut rng)?);
        let p = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(3));
        let e = Coupling::new(
            &[5],
            &Mask::Alternating { odd: true },
            Arc::new(u),
            Some(2),
            &NetworkConfig::residual(16, 2),
            &p.scope(),
        )?
        .with_kept_map(Arc::new(u), &p.scope())?;
        perturb(&p, 0.3, &mut rng)?;
        let z = rng.normal_tensor((6, 5), DType::F64, &Device::Cpu)?.clamp(-2.9, 2.9)?;
        let c = rng.normal_tensor((6, 2), DType::F64, &Device::Cpu)?;
        println!("{name} {:?}", measure(&e, &p, &z, Some(&c), &mut rng)?);
        let p = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(3));
        let e = Autoregressive::new(
            5,
            Arc::new(u),
            Some(2),
            Some(vec![3, 1, 0, 2, 4]),
            &NetworkConfig::residual(16, 1),
            &p.scope(),
        )?;
        perturb(&p, 0.3, &mut rng)?;
        println!("{name} {:?}", measure(&e, &p, &z, Some(&c), &mut rng)?);
        println!("{}", e.structure());
    }
    let _: Option<(Var, Tensor)> = None;
    Ok(())
}
