//! What holds of every Glow.

use candle_core::{DType, Device, Tensor};
use flows_core::bijectors::Bijector;
use flows_core::distributions::{Distribution, Transformed};
use flows_core::nn::{Mode, Network, Parameters};
use flows_core::testing::{Case, difference, each, gradient_difference, measure, perturb};
use flows_core::train::{FlowLoss, Loss, Memory};
use flows_core::{Result, Rng};
use glow::{
    Condition, CouplingKind, Dequantizer, Encoder, Glow, GlowConfig, Mixing, TopPrior, coupling, dequantizer, flow,
    from_state_dict, injector, read_state_dict, state_dict,
};
use std::collections::HashMap;

const CPU: &Device = &Device::Cpu;

fn config(shape: [usize; 3], levels: usize, coupling: CouplingKind, mixing: Mixing) -> GlowConfig {
    GlowConfig { levels, steps: 2, hidden: 6, coupling, mixing, ..GlowConfig::new(shape) }
}

fn configs() -> Vec<(&'static str, GlowConfig)> {
    use {CouplingKind::*, Mixing::*};
    vec![
        ("affine, LU", config([1, 4, 4], 2, Affine, Lu)),
        ("additive, plain", config([1, 4, 8], 2, Additive, Plain)),
        ("affine, shuffled", config([3, 2, 4], 1, Affine, Shuffle)),
        ("additive, reversed, LU at the top", {
            GlowConfig { top_mixing: Some(Lu), ..config([2, 4, 4], 2, Additive, Reverse) }
        }),
    ]
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let spline = config([1, 4, 4], 1, CouplingKind::Spline, Mixing::Lu);
    let mixture = config([1, 4, 4], 1, CouplingKind::Mixture, Mixing::Lu);
    let equalized = GlowConfig { bits: 2, equalize: true, ..config([2, 4, 4], 1, CouplingKind::Affine, Mixing::Lu) };
    let further = [("spline", spline), ("mixture", mixture), ("equalised", equalized)];
    for (name, config) in configs().into_iter().chain(further) {
        let build = move |scope: &_| flow(&config, scope);
        // Where a difference crosses one of ReLU's kinks it is off by so much.
        let case = Case::new(name, build).noise(0.03).overflows().gradient_tolerance(0.02);
        // Close to the ends of the colours f32 tells few numbers apart, and logits lie far from each other.
        cases.push(if name == "equalised" { case.within(-3.0, 3.0) } else { case });
    }
    for kind in [
        CouplingKind::Affine,
        CouplingKind::Bounded,
        CouplingKind::Additive,
        CouplingKind::Spline,
        CouplingKind::Mixture,
    ] {
        let case = Case::new(format!("coupling, {kind:?}"), move |scope| {
            Ok(Box::new(coupling([4, 3, 2], kind, 5, None, scope)?))
        });
        cases.push(case.overflows().gradient_tolerance(0.02));
        let case = Case::new(format!("coupling, {kind:?}, given features"), move |scope| {
            Ok(Box::new(coupling([4, 3, 2], kind, 4, Some(2), scope)?))
        });
        cases.push(case.given([2, 3, 2]).noise(0.1).overflows().gradient_tolerance(0.02));
    }
    let injector = Case::new("injector", |scope| Ok(Box::new(injector([3, 3, 2], 2, 5, scope)?)));
    cases.push(injector.given([2, 3, 2]).overflows().gradient_tolerance(0.02));
    // Features are larger than, as large as and smaller than the image.
    for (coupling, scale, given) in [(CouplingKind::Affine, 4, [1, 2, 2]), (CouplingKind::Additive, 8, [1, 1, 1])] {
        let config = conditional([1, 8, 8], coupling, scale);
        let case = Case::new(format!("given images {scale} times smaller"), move |scope| flow(&config, scope));
        cases.push(case.given(given).noise(0.03).overflows().gradient_tolerance(0.02));
    }
    let noise = Case::new("dequantizer", |scope| dequantizer(&learnt_noise(), scope));
    cases.push(noise.given([1, 2, 4]).within(-1.0, 1.0).noise(0.05).overflows().gradient_tolerance(0.02));
    cases
}

/// A model of small images that learns the noise within the values of colours.
fn learnt_noise() -> GlowConfig {
    let dequantizer = Some(Dequantizer { steps: 2, hidden: 4, features: 3, blocks: 1 });
    GlowConfig { dequantizer, bits: 2, ..config([1, 2, 4], 1, CouplingKind::Affine, Mixing::Lu) }
}

/// A model of three levels conditional on smaller images.
fn conditional(shape: [usize; 3], coupling: CouplingKind, scale: usize) -> GlowConfig {
    let condition = Some(Condition { features: 3, blocks: 1, ..Condition::new(scale) });
    GlowConfig { steps: 1, hidden: 4, condition, ..config(shape, 3, coupling, Mixing::Lu) }
}

/// Runs a check over all cases and reports all that fail.
fn all(check: impl Fn(&Case) -> Result<()> + Sync) {
    each(&cases(), check).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_part_keeps_its_promises() {
    let folder = tempfile::tempdir().unwrap();
    all(|case| case.all(folder.path()));
}

/// Needs a GPU: `cargo test --features cuda`.
#[cfg(feature = "cuda")]
#[test]
fn devices_agree() -> Result<()> {
    let device = Device::new_cuda(0)?;
    all(|case| case.agrees_on(&device));
    Ok(())
}

#[test]
fn a_prior_of_classes_is_exact() -> Result<()> {
    let mut rng = Rng::seed(1);
    let parameters = Parameters::new(DType::F64, CPU, Rng::seed(0));
    let prior = TopPrior::new([4, 2, 3], Some(3), &parameters.scope())?;
    perturb(&parameters, 0.3, &mut rng)?;
    let z = rng.normal_tensor((5, 4, 2, 3), DType::F64, CPU)?;
    let classes = Tensor::new(&[[0u32], [2], [1], [2], [0]], CPU)?;
    let report = measure(&prior, &parameters, &z, Some(&classes), &mut rng)?;
    assert!(report.worst() < 1e-6, "{report:?}");
    let x = prior.forward(&Tensor::zeros((2, 4, 2, 3), DType::F64, CPU)?, Some(&Tensor::new(&[[0u32], [1]], CPU)?))?.0;
    assert!(difference(&x.get(0)?, &x.get(1)?)? > 0.0);
    for bad in [Tensor::new(&[[3f64]], CPU)?, Tensor::new(&[[0.5f64]], CPU)?, Tensor::new(&[0u32], CPU)?] {
        assert!(prior.forward(&z.narrow(0, 0, 1)?, Some(&bad)).is_err());
    }
    assert!(prior.forward(&z, None).is_err());
    Ok(())
}

#[test]
fn class_features_affect_every_level() -> Result<()> {
    let mut rng = Rng::seed(1);
    let parameters = Parameters::new(DType::F64, CPU, Rng::seed(0));
    let of_classes = GlowConfig {
        classes: Some(3),
        class_features: Some(2),
        ..config([1, 4, 4], 2, CouplingKind::Affine, Mixing::Lu)
    };
    let flow = flow(&of_classes, &parameters.scope())?;
    let z = rng.normal_tensor((5, 16), DType::F64, CPU)?;
    let classes = Tensor::new(&[[0u32], [2], [1], [2], [0]], CPU)?;
    flow.initialize(&flow.forward(&z, Some(&classes))?.0, Some(&classes))?;
    perturb(&parameters, 0.1, &mut rng)?;
    let report = measure(flow.as_ref(), &parameters, &z, Some(&classes), &mut rng)?;
    let log_det = report.forward_log_det.max(report.inverse_log_det);
    // Finite differences cross kinks of ReLU.
    assert!(report.round_trip < 1e-10 && log_det < 1e-10 && report.worst() < 0.02, "{report:?}");
    // The same noise for two classes: the parts split off at the first and the last level both change.
    let zeros = Tensor::zeros((2, 16), DType::F64, CPU)?;
    let x = flow.forward(&zeros, Some(&Tensor::new(&[[0u32], [1]], CPU)?))?.0;
    let of_one = flow.inverse(&x, Some(&Tensor::new(&[[0u32], [0]], CPU)?))?.0;
    for leaves in [of_one.narrow(1, 0, 8)?, of_one.narrow(1, 8, 8)?] {
        assert!(difference(&leaves.get(0)?, &leaves.get(1)?)? > 1e-3);
    }
    for bad in [Tensor::new(&[[3f64]], CPU)?, Tensor::new(&[[0.5f64]], CPU)?, Tensor::new(&[0u32], CPU)?] {
        assert!(flow.forward(&z.narrow(0, 0, 1)?, Some(&bad)).is_err());
    }
    assert!(flow.forward(&z, None).is_err());
    Ok(())
}

#[test]
fn bits_follow_the_paper() -> Result<()> {
    let glow =
        Glow::new(GlowConfig { bits: 5, ..config([1, 2, 2], 1, CouplingKind::Affine, Mixing::Lu) }, &mut Rng::seed(0))?;
    // A uniform density over [-1/2, 1/2] takes all bits; 1/2 nat more per dimension takes 1/2 nat less.
    assert!((glow.bits(0.0) - 5.0).abs() < 1e-12);
    assert!((glow.bits(2.0) - (5.0 - 0.5 / 2f64.ln())).abs() < 1e-12);
    let images = Tensor::new(&[0u8, 7, 8, 255], CPU)?.reshape((1, 1, 2, 2))?;
    let x = glow.dequantize(&images, &mut Rng::seed(0))?;
    let bins = ((x + 0.5)? * 32.0)?.flatten_all()?.to_vec1::<f32>()?;
    assert_eq!(bins.iter().map(|v| v.floor()).collect::<Vec<_>>(), [0.0, 0.0, 1.0, 31.0]);
    assert!(bins.iter().all(|v| v.fract() > 0.0));
    let back = glow.quantize(&glow.dequantize(&images, &mut Rng::seed(1))?)?.flatten_all()?.to_vec1::<f32>()?;
    assert_eq!(back, [0.0, 0.0, 1.0 / 31.0, 1.0]);
    let wild = Tensor::new(&[-9f32, 9.0, f32::NAN, f32::INFINITY], CPU)?;
    assert_eq!(glow.quantize(&wild)?.to_vec1::<f32>()?, [0.0, 1.0, 0.0, 1.0]);
    Ok(())
}

#[test]
fn colours_of_another_convention_are_errors() -> Result<()> {
    let mut rng = Rng::seed(3);
    for (bits, dequantizer) in [(8, None), (2, Some(Dequantizer { steps: 1, hidden: 4, features: 3, blocks: 1 }))] {
        let config = config([1, 4, 4], 1, CouplingKind::Affine, Mixing::Lu);
        let glow = Glow::new(GlowConfig { bits, dequantizer, ..config }, &mut rng)?;
        let whole = rng.tensor((8, 1, 4, 4), DType::F32, CPU, |rng| rng.below(256) as f64)?;
        let unit = (&whole / 255.0)?;
        let x = glow.dequantize(&whole, &mut rng)?;
        for bad in [&whole, &(&unit + 0.3)?, &(&x - 0.5)?] {
            let errors = [
                glow.log_prob(bad, None),
                glow.log_prob_training(bad, None, &mut rng),
                glow.detached().score(bad, None),
                glow.initialize(bad, None).map(|()| bad.clone()),
            ];
            for error in errors.map(|result| result.unwrap_err().to_string()) {
                assert!(error.contains("[-1/2, 1/2]") && error.contains("`dequantize`"), "{error}");
            }
        }
        // The remedies.
        glow.initialize(&x, None)?;
        glow.log_prob(&(unit.affine(1.0, -0.5)?), None)?;
        glow.log_prob(&glow.sample_at(9.0, 4, None, &mut rng)?.clamp(-0.5, 0.5)?, None)?;
        // Ends of values and rounding are no error, nor is a NaN, which stays in its row.
        let step = 1.0 / f64::from(1u32 << bits);
        let edge = (x.zeros_like()? + (0.5 + 0.99 * step))?;
        assert!(glow.log_prob(&edge, None).is_ok() && glow.log_prob(&edge.neg()?, None).is_ok());
        let nan = Tensor::cat(&[&x.narrow(0, 0, 7)?, &(x.narrow(0, 7, 1)? * f64::NAN)?], 0)?;
        let log_prob = glow.log_prob(&nan, None)?.to_vec1::<f32>()?;
        assert!(log_prob[7].is_nan() && log_prob[..7].iter().all(|v| v.is_finite()), "{log_prob:?}");
        for bad in [&unit, &x, &(&whole - 256.0)?, &(&whole * f64::NAN)?] {
            let errors = [
                glow.dequantize(bad, &mut rng).map(drop),
                glow.with_noise(bad, &mut rng).map(drop),
                glow.bound(bad, None, 1, &mut rng).map(drop),
            ];
            for error in errors.map(|result| result.unwrap_err().to_string()) {
                assert!(error.contains("0 to 255") && error.contains("`log_prob`"), "{error}");
            }
        }
        glow.bound(&(unit * 255.0)?.round()?, None, 1, &mut rng)?;
    }
    Ok(())
}

#[test]
fn files_and_state_dicts_hold_the_whole_model() -> Result<()> {
    let rng = &mut Rng::seed(2);
    for (name, config) in configs() {
        let glow = Glow::new(config.clone(), rng)?;
        let images =
            rng.tensor((4, config.shape[0], config.shape[1], config.shape[2]), DType::F32, CPU, |rng| rng.uniform())?;
        let x = (images - 0.5)?;
        glow.initialize(&x, None)?;
        perturb(glow.parameters(), 0.05, rng)?;
        let want = glow.log_prob(&x, None)?;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("glow.safetensors");
        glow.save(&path)?;
        assert_eq!(difference(&want, &Glow::load(&path, CPU)?.log_prob(&x, None)?)?, 0.0, "{name}");

        // A scale and the column of the next convolution may both change sign.
        let mut state: HashMap<String, Tensor> = state_dict(&glow)?.into_iter().collect();
        let turn = |t: &Tensor, axis: usize| -> Result<Tensor> {
            let mut signs = vec![1f32; t.dim(axis)?];
            signs[1] = -1.0;
            let along: Vec<usize> = t.dims().iter().enumerate().map(|(i, &d)| if i == axis { d } else { 1 }).collect();
            Ok(t.broadcast_mul(&Tensor::from_vec(signs, along, CPU)?)?)
        };
        for (suffix, axis) in [("actnorm.scale", 1), ("invconv.weight", 1), ("invconv.w_u", 1), ("invconv.s_sign", 0)] {
            for (_, tensor) in state.iter_mut().filter(|(name, _)| name.ends_with(suffix)) {
                *tensor = turn(tensor, axis)?;
            }
        }
        let side = [config.shape[1], config.shape[2]];
        let module = state.iter().map(|(name, t)| (format!("module.{name}"), t.clone())).collect();
        let again = from_state_dict(module, side, 8, CPU)?;
        assert!(difference(&want, &again.log_prob(&x, None)?)? < 1e-5, "{name}");
        state.remove("blocks.0.prior.scale");
        let error = from_state_dict(state, side, 8, CPU).unwrap_err().to_string();
        assert!(error.contains("blocks.0.prior.scale"), "{error}");
    }
    Ok(())
}

#[test]
fn a_broken_state_dict_is_an_error() {
    // 322 bytes of which the storage of a tensor has three values, not five.
    let pickle = [
        &b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n"[..],
        b"X\x01\0\0\x000tQK\0K\x01\x85K\x01\x85tRs.",
    ]
    .concat();
    let entry = |name: &str, bytes: &[u8], central: bool| {
        let sizes = [(bytes.len() as u32).to_le_bytes(); 2].concat();
        let head: &[u8] = if central { b"PK\x01\x02\x14\0\x14\0" } else { b"PK\x03\x04\x14\0" };
        let rest = [&[name.len() as u8, 0][..], &vec![0; if central { 16 } else { 2 }]].concat();
        let content = if central { &[][..] } else { bytes };
        [head, &[0; 12], &sizes, &rest, name.as_bytes(), content].concat()
    };
    let (name, local) = ("archive/data.pkl", entry("archive/data.pkl", &pickle, false));
    let directory = entry(name, &pickle, true);
    let [length, start] = [&directory, &local].map(|part| (part.len() as u32).to_le_bytes());
    let end = [&b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..], &length, &start, &[0; 2]].concat();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.pt");
    std::fs::write(&path, [local, directory, end].concat()).unwrap();
    let error = read_state_dict(&path).unwrap_err();
    let said = error.to_string();
    assert!(error.is_bad_use() && said.contains("3 values should have 5") && said.contains("state_dict()"), "{said}");
}

#[test]
fn what_the_layout_of_others_has_no_place_for_is_an_error() -> Result<()> {
    let plain = config([1, 4, 4], 2, CouplingKind::Affine, Mixing::Lu);
    for other in [
        GlowConfig { equalize: true, ..plain.clone() },
        GlowConfig { top_steps: Some(3), ..plain.clone() },
        GlowConfig { coupling: CouplingKind::Spline, ..plain.clone() },
    ] {
        let glow = Glow::new(other.clone(), &mut Rng::seed(0))?;
        assert!(state_dict(&glow).is_err(), "{other:?}");
        // All of it is in a file.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("glow.safetensors");
        glow.save(&path)?;
        assert_eq!(Glow::load(&path, CPU)?.config(), &other);
    }
    let last = |top_steps| -> Result<usize> {
        let glow = Glow::new(GlowConfig { top_steps, ..plain.clone() }, &mut Rng::seed(0))?;
        let actnorms = |level: usize| {
            let names = glow.parameters().names();
            let found =
                move |name: &&String| name.starts_with(&format!("levels.{level}.")) && name.ends_with("actnorm.shift");
            names.iter().filter(found).count()
        };
        assert_eq!(actnorms(0), plain.steps);
        Ok(actnorms(1))
    };
    assert_eq!((last(None)?, last(Some(5))?), (plain.steps, 5));
    Ok(())
}

#[test]
fn features_lie_where_the_image_does() -> Result<()> {
    // An impulse in one corner of the image reaches the same corner at every size, and not the opposite one.
    let parameters = Parameters::new(DType::F64, CPU, Rng::seed(0));
    let encoder = Encoder::new([1, 4, 4], 2, 0, &[[16, 16], [4, 4], [2, 2]], &parameters.scope())?;
    perturb(&parameters, 0.3, &mut Rng::seed(1))?;
    let zeros = Tensor::zeros((1, 1, 4, 4), DType::F64, CPU)?;
    let impulse = zeros.slice_assign(&[0..1, 0..1, 0..1, 3..4], &Tensor::ones((1, 1, 1, 1), DType::F64, CPU)?)?;
    let change = (encoder.forward(&impulse, None, &mut Mode::evaluation())?
        - encoder.forward(&zeros, None, &mut Mode::evaluation())?)?
    .abs()?;
    let mut start = 0;
    for side in [16usize, 4] {
        let part = change.narrow(1, start, 2 * side * side)?.reshape((2, side, side))?.sum(0)?.to_vec2::<f64>()?;
        assert!(part[0][side - 1] > 0.0, "{side}");
        assert!(part[side - 1].iter().all(|v| *v == 0.0) && part.iter().all(|row| row[0] == 0.0), "{side}");
        start += 2 * side * side;
    }
    assert_eq!(change.dim(1)?, start + 2 * 2 * 2);
    assert!(Encoder::new([1, 4, 4], 2, 0, &[[3, 3]], &parameters.scope().enter("odd")).is_err());
    Ok(())
}

#[test]
fn an_image_conditional_model_is_saved_and_needs_its_context() -> Result<()> {
    let rng = &mut Rng::seed(4);
    let glow = Glow::new(conditional([3, 8, 8], CouplingKind::Affine, 2), rng)?;
    let x = (rng.uniform_tensor((5, 3, 8, 8), DType::F32, CPU)? - 0.5)?;
    let small = rng.tensor((5, 3, 4, 4), DType::F32, CPU, |rng| rng.below(256) as f64)?;
    let given = glow.context_of(&small)?;
    glow.initialize(&x, Some(&given))?;
    perturb(glow.parameters(), 0.05, rng)?;
    let want = glow.log_prob(&x, Some(&given))?;
    let folder = tempfile::tempdir().unwrap();
    glow.save(folder.path().join("glow.safetensors"))?;
    let again = Glow::load(folder.path().join("glow.safetensors"), CPU)?;
    assert_eq!(difference(&want, &again.detached().score(&x, Some(&given))?)?, 0.0);
    assert_eq!(glow.parts().iter().sum::<usize>(), 192);
    assert!(difference(&x, &glow.decode(&glow.latent(&x, Some(&given))?, Some(&given))?)? < 1e-4);
    // Other context images give other densities.
    assert!(difference(&want, &glow.log_prob(&x, Some(&given.neg()?))?)? > 1e-3);
    assert!(glow.log_prob(&x, None).is_err() && glow.context_of(&x).is_err());
    assert!(state_dict(&glow).unwrap_err().to_string().contains("lower resolution"));
    Ok(())
}

#[test]
fn logits_are_part_of_the_bijection() -> Result<()> {
    let mut rng = Rng::seed(5);
    // The bits do not depend on where the Jacobian of the logit is accounted for.
    let config = GlowConfig { logit: Some(0.05), ..config([1, 4, 4], 2, CouplingKind::Affine, Mixing::Lu) };
    let glow = Glow::on(config.clone(), DType::F64, CPU, &mut rng)?;
    let x = (rng.uniform_tensor((6, 1, 4, 4), DType::F64, CPU)? - 0.5)?;
    glow.initialize(&x, None)?;
    let tensors = glow.parameters().tensors().into_iter().collect();
    let of_logits = Glow::with_tensors(GlowConfig { logit: None, ..config }, DType::F64, CPU, tensors)?;
    let p = x.affine(0.9, 0.5)?;
    let y = (&p / (1.0 - &p)?)?.log()?;
    let jacobian = (&p * (1.0 - &p)?)?.log()?.neg()?.affine(1.0, 0.9f64.ln())?.flatten_from(1)?.sum(1)?;
    // Logits are no colours.
    let of_logits: &Transformed = &of_logits;
    let want = (of_logits.log_prob(&y, None)? + jacobian)?;
    assert!(difference(&want, &glow.log_prob(&x, None)?)? < 1e-10);
    // Samples are values in range again.
    let drawn = glow.sample(20, None, &mut rng)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?;
    assert!(drawn < 0.5 + 0.05 / 0.9 + 1e-9, "{drawn}");
    Ok(())
}

#[test]
fn learnt_noise_bounds_the_probability() -> Result<()> {
    let mut rng = Rng::seed(6);
    let config = learnt_noise();
    let glow = Glow::on(config.clone(), DType::F64, CPU, &mut rng)?;
    let images = rng.tensor((16, 1, 2, 4), DType::F64, CPU, |rng| rng.below(256) as f64)?;
    glow.initialize(&glow.dequantize(&images, &mut rng)?, None)?;
    perturb(glow.parameters(), 0.1, &mut rng)?;
    let (x, log_density) = glow.with_noise(&images, &mut rng)?;
    let noise = (x.affine(4.0, 2.0)? - (&images / 64.0)?.floor()?)?.flatten_all()?.to_vec1::<f64>()?;
    assert!(noise.iter().all(|u| *u > 0.0 && *u < 1.0) && log_density.is_some());

    // The density of the noise is that of the flow from a normal, given the midpoints of the values.
    let own = glow.parameters().tensors().into_iter();
    let own = own.filter_map(|(name, tensor)| Some((name.strip_prefix("dequantizer.")?.to_string(), tensor)));
    let scope = Parameters::saved(DType::F64, CPU, own.collect()).scope();
    let middles = (&images / 64.0)?.floor()?.affine(0.25, 0.125 - 0.5)?;
    let noise = Tensor::from_vec(noise, (16, 1, 2, 4), CPU)?;
    let (z, log_det) = dequantizer(&config, &scope)?.inverse(&noise, Some(&middles))?;
    let normal = z.flatten_from(1)?.sqr()?.sum(1)?.affine(-0.5, -4.0 * std::f64::consts::TAU.ln())?;
    let log_density = log_density.unwrap();
    assert!(difference(&log_density, &(normal + log_det)?)? < 1e-9);

    // With one draw the bound is the difference of log-densities; with more it uses the mean of the ratios and is
    // tighter.
    let draw = |rng: &mut Rng| -> Result<Tensor> {
        let (x, log_density) = glow.with_noise(&images, rng)?;
        Ok((glow.log_prob(&x, None)? - log_density.unwrap())?)
    };
    let mut seeded = Rng::seed(7);
    let (first, second) = (draw(&mut seeded)?, draw(&mut seeded)?);
    assert!(difference(&first, &glow.bound(&images, None, 1, &mut Rng::seed(7))?)? < 1e-9);
    let mean = ((first.exp()? + second.exp()?)? / 2.0)?.log()?;
    assert!(difference(&mean, &glow.bound(&images, None, 2, &mut Rng::seed(7))?)? < 1e-9);
    assert!(glow.bound(&images, None, 0, &mut rng).is_err());

    // The loss is the bound, with gradients for all weights, whether activations are stored or recomputed.
    let loss = |memory: Memory| glow.loss(memory, &images, None, &mut Rng::seed(9));
    let scalar = || -> Result<Tensor> {
        match loss(Memory::Store)? {
            FlowLoss::Graph(loss) => Ok(loss),
            FlowLoss::Known(_) => unreachable!("the graph is kept"),
        }
    };
    let bound = glow.bound(&images, None, 1, &mut Rng::seed(9))?.mean_all()?.to_scalar::<f64>()?;
    assert!((scalar()?.to_scalar::<f64>()? + bound).abs() < 1e-9);
    let worst = gradient_difference(scalar, glow.parameters(), &[], &mut rng)?;
    assert!(worst < 0.02, "{worst}");
    let (stored, again) = (loss(Memory::Store)?.gradients()?, loss(Memory::Recompute)?.gradients()?);
    assert!((stored.value - again.value).abs() < 1e-9);
    let (Some(stored), Some(again)) = (stored.gradients, again.gradients) else { panic!("no gradients") };
    for (name, var) in glow.parameters().trainable() {
        let (Some(a), Some(b)) = (stored.get(&var), again.get(&var)) else { panic!("no gradient of {name}") };
        assert!(difference(a, b)? < 1e-9, "{name}");
    }
    let folder = tempfile::tempdir().unwrap();
    glow.save(folder.path().join("glow.safetensors"))?;
    let loaded = Glow::load(folder.path().join("glow.safetensors"), CPU)?;
    let again = loaded.bound(&images, None, 1, &mut Rng::seed(9))?.mean_all()?.to_scalar::<f64>()?;
    assert_eq!(again, bound);
    Ok(())
}

#[test]
fn invalid_settings_are_errors() {
    let good = config([1, 4, 4], 2, CouplingKind::Affine, Mixing::Lu);
    for bad in [
        GlowConfig { shape: [1, 6, 4], ..good.clone() },
        GlowConfig { shape: [0, 4, 4], ..good.clone() },
        GlowConfig { bits: 0, ..good.clone() },
        GlowConfig { bits: 9, ..good.clone() },
        GlowConfig { levels: 0, ..good.clone() },
        GlowConfig { steps: 0, ..good.clone() },
        GlowConfig { top_steps: Some(0), ..good.clone() },
        GlowConfig { hidden: 0, ..good.clone() },
        GlowConfig { classes: Some(0), ..good.clone() },
        GlowConfig { class_features: Some(2), ..good.clone() },
        GlowConfig { classes: Some(2), class_features: Some(0), ..good.clone() },
        GlowConfig { logit: Some(0.5), ..good.clone() },
        GlowConfig { logit: Some(0.05), equalize: true, ..good.clone() },
        GlowConfig { logit: Some(f64::NAN), ..good.clone() },
        GlowConfig { dequantizer: Some(Dequantizer { steps: 0, ..Default::default() }), ..good.clone() },
        GlowConfig { condition: Some(Condition::new(3)), ..good.clone() },
        GlowConfig { condition: Some(Condition::new(8)), ..good.clone() },
        GlowConfig { condition: Some(Condition { features: 0, ..Condition::new(2) }), ..good.clone() },
        GlowConfig { condition: Some(Condition::new(2)), classes: Some(2), ..good.clone() },
    ] {
        assert!(Glow::new(bad.clone(), &mut Rng::seed(0)).is_err(), "{bad:?}");
    }
}

/// A model saved by an earlier version loads unchanged.
#[test]
fn an_old_model_is_read() -> Result<()> {
    let glow = Glow::load(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/glow.safetensors"), CPU)?;
    let ramp = Tensor::arange(0f32, 128.0, CPU)?.affine(1.0 / 128.0, -0.5)?.reshape((2, 1, 8, 8))?;
    let want = Tensor::new(&[-0.4329f32, -31.4328], CPU)?;
    let got = glow.log_prob(&ramp, None)?;
    assert!(difference(&got, &want)? < 1e-3, "{got}");
    Ok(())
}
