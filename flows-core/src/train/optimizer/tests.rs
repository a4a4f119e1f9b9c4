use super::*;
use crate::Rng;
use crate::nn::Init;
use crate::train::slices::CHUNK;

fn grads(of: &[(&Tensor, Vec<f64>)]) -> GradStore {
    let mut store = GradStore::default();
    for (weight, values) in of {
        let grad = Tensor::from_vec(values.clone(), weight.shape().clone(), &Device::Cpu).unwrap();
        store.insert(weight, grad.to_dtype(weight.dtype()).unwrap());
    }
    store
}

/// The documented formulae in scalar arithmetic.
fn reference(config: &OptimizerConfig, gradients: &[f64], lr: f64, decays: bool) -> f64 {
    let (mut p, mut m, mut v) = (0.5f64, 0.0f64, 0.0f64);
    for (i, g) in gradients.iter().enumerate() {
        let t = (i + 1) as i32;
        match config {
            OptimizerConfig::Adam { beta1, beta2, eps, .. } | OptimizerConfig::AdamW { beta1, beta2, eps, .. } => {
                if let (OptimizerConfig::AdamW { weight_decay, .. }, true) = (config, decays) {
                    p -= lr * weight_decay * p;
                }
                m = beta1 * m + (1.0 - beta1) * g;
                v = beta2 * v + (1.0 - beta2) * g * g;
                let (mean, square) = (m / (1.0 - beta1.powi(t)), v / (1.0 - beta2.powi(t)));
                p -= lr * mean / (square.sqrt() + eps);
            }
            OptimizerConfig::Adamax { beta1, beta2, eps, .. } => {
                m = beta1 * m + (1.0 - beta1) * g;
                v = (beta2 * v).max(g.abs());
                p -= lr / (1.0 - beta1.powi(t)) * m / (v + eps);
            }
            OptimizerConfig::Sgd { momentum, nesterov, .. } => {
                m = if t == 1 { *g } else { momentum * m + g };
                p -= lr * if *nesterov { g + momentum * m } else { m };
            }
        }
    }
    p
}

fn all() -> Vec<OptimizerConfig> {
    vec![
        OptimizerConfig::adam(0.1),
        OptimizerConfig::adamw(0.1, 0.3),
        OptimizerConfig::adamax(0.1),
        OptimizerConfig::sgd(0.1),
        OptimizerConfig::Sgd { lr: 0.1, momentum: 0.9, nesterov: false },
        OptimizerConfig::Sgd { lr: 0.1, momentum: 0.9, nesterov: true },
    ]
}

#[test]
fn steps_are_those_of_the_formulae() {
    let gradients = [0.3, -1.2, 0.0, 5.0, 1e-3];
    for config in all() {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let weight = parameters.scope().weight("weight", (1, 2), Init::Constant(0.5)).unwrap();
        let bias = parameters.scope().weight("bias", (1, 1), Init::Constant(0.5)).unwrap();
        let idle = parameters.scope().weight("idle", (1, 1), Init::Constant(0.5)).unwrap();
        let mut optimizer = Optimizer::new(config.clone(), &parameters).unwrap();
        for g in gradients {
            optimizer.step(&grads(&[(&weight, vec![g, -g]), (&bias, vec![g])]), 0.1).unwrap();
        }
        let negated = gradients.map(|g| -g);
        let want = [reference(&config, &gradients, 0.1, true), reference(&config, &negated, 0.1, true)];
        let got = weight.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 1e-14, "{config:?}: {got} is not {want}");
        }
        let bias = bias.flatten_all().unwrap().to_vec1::<f64>().unwrap()[0];
        assert!((bias - reference(&config, &gradients, 0.1, false)).abs() < 1e-14, "{config:?}");
        assert_eq!(idle.flatten_all().unwrap().to_vec1::<f64>().unwrap(), [0.5]);
    }
}

#[test]
fn a_hand_computed_step() {
    // The first step of Adam is lr * sign(g), except for eps.
    let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
    let w = parameters.scope().weight("w", (), Init::Constant(1.0)).unwrap();
    let mut adam = Optimizer::new(OptimizerConfig::adam(0.01), &parameters).unwrap();
    adam.step(&grads(&[(&w, vec![4.0])]), 0.01).unwrap();
    assert!((w.to_scalar::<f64>().unwrap() - (1.0 - 0.01 * 4.0 / (4.0 + 1e-8))).abs() < 1e-15);
}

#[test]
fn fused_and_composed_agree_bit_for_bit_for_any_number_of_threads() {
    // Three chunks, the last one partial, and a gradient that is not contiguous.
    let shape = (2, CHUNK + 17);
    let mut rng = Rng::seed(3);
    for config in all() {
        for dtype in [DType::F32, DType::F64] {
            let start = rng.normal_tensor(shape, dtype, &Device::Cpu).unwrap();
            let gradients: Vec<Tensor> = (0..3)
                .map(|_| rng.normal_tensor((shape.1, shape.0), dtype, &Device::Cpu).unwrap().t().unwrap())
                .collect();
            let run = |threads: usize, fused: bool| {
                let var = Var::from_tensor(&start).unwrap();
                let moments: Vec<Tensor> = config.moments().iter().map(|_| var.zeros_like().unwrap()).collect();
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                for (i, grad) in gradients.iter().enumerate() {
                    let rule = config.rule(0.1, i as i64 + 1, config.weight_decay_of("weight", 2));
                    let done = pool.install(|| match fused {
                        true => rule.apply(&var, grad, &moments),
                        false => rule.composed(&var, grad, &moments),
                    });
                    done.unwrap();
                }
                let bits = var.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
                bits.to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect::<Vec<_>>()
            };
            let one = run(1, true);
            assert_eq!(one, run(3, true), "{config:?} {dtype:?}");
            // With the feature `mkl`, candle's square roots round differently.
            if cfg!(not(feature = "mkl")) {
                assert_eq!(one, run(1, false), "{config:?} {dtype:?}");
            }
        }
    }
}

#[test]
fn a_state_of_another_optimiser_is_refused() {
    let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
    parameters.scope().weight("w", 3, Init::Normal(1.0)).unwrap();
    let state = |config| Optimizer::new(config, &parameters).unwrap().state().unwrap().into_iter().collect();
    let mut adam = Optimizer::new(OptimizerConfig::adam(0.1), &parameters).unwrap();
    assert!(adam.load_state(&state(OptimizerConfig::adamax(0.1))).is_ok());
    assert!(adam.load_state(&state(OptimizerConfig::sgd(0.1))).is_err());
    let mut sgd = Optimizer::new(OptimizerConfig::sgd(0.1), &parameters).unwrap();
    assert!(sgd.load_state(&state(OptimizerConfig::adam(0.1))).is_err());
}

/// Weights `a.w`, `b.w` and `b.bias`, with two dimensions except for the bias.
fn three() -> (Parameters, Vec<Tensor>) {
    let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
    let scope = parameters.scope();
    let w = |layer: &str| scope.enter(layer).weight("w", (1, 1), Init::Constant(0.5)).unwrap();
    let weights = vec![w("a"), w("b"), scope.enter("b").weight("bias", 1, Init::Constant(0.5)).unwrap()];
    (parameters, weights)
}

fn scalars(weights: &[Tensor]) -> Vec<f64> {
    weights.iter().map(|w| w.flatten_all().unwrap().to_vec1::<f64>().unwrap()[0]).collect()
}

#[test]
fn groups_have_their_own_rates() {
    let gradients = [0.3, -1.2, 2.0];
    for config in all() {
        let (parameters, weights) = three();
        let groups = [ParameterGroup::frozen("b"), ParameterGroup::new("b.w", 0.25)];
        let mut optimizer = Optimizer::new(config.clone(), &parameters).unwrap().with_groups(&groups).unwrap();
        for g in gradients {
            optimizer.step(&grads(&weights.iter().map(|w| (w, vec![g])).collect::<Vec<_>>()), 0.1).unwrap();
        }
        let want = [reference(&config, &gradients, 0.1, true), reference(&config, &gradients, 0.025, true), 0.5];
        for (got, want) in scalars(&weights).iter().zip(want) {
            assert!((got - want).abs() < 1e-14, "{config:?}: {got} is not {want}");
        }
        assert_eq!(optimizer.weights[2].steps, 0);
    }
    // A group with its own weight decay.
    let (parameters, weights) = three();
    let decay = |weight_decay| ParameterGroup { weight_decay: Some(weight_decay), ..ParameterGroup::new("b", 1.0) };
    let config = OptimizerConfig::adamw(0.1, 0.3);
    let mut optimizer = Optimizer::new(config.clone(), &parameters).unwrap().with_groups(&[decay(0.7)]).unwrap();
    optimizer.step(&grads(&weights.iter().map(|w| (w, vec![1.0])).collect::<Vec<_>>()), 0.1).unwrap();
    let of = |weight_decay| reference(&OptimizerConfig::adamw(0.1, weight_decay), &[1.0], 0.1, true);
    for (got, want) in scalars(&weights).iter().zip([of(0.3), of(0.7), of(0.0)]) {
        assert!((got - want).abs() < 1e-14, "{got} is not {want}");
    }
    let said = |config: OptimizerConfig, group: ParameterGroup, part: &str| {
        let error = Optimizer::new(config, &parameters).unwrap().with_groups(&[group]).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    said(OptimizerConfig::adam(0.1), decay(0.1), "needs the optimiser `adamw`");
    said(config.clone(), decay(f64::NAN), "weight_decay");
    said(config.clone(), ParameterGroup::new("b", -1.0), "lr_factor");
    said(config, ParameterGroup::frozen("c"), "`a.w` is one");
}

#[test]
fn gradients_that_are_not_finite_are_refused() {
    for bad in [f64::NAN, f64::NEG_INFINITY] {
        let (parameters, weights) = three();
        let gradients = grads(&[(&weights[0], vec![1.0]), (&weights[1], vec![bad])]);
        let mut optimizer = Optimizer::new(OptimizerConfig::adam(0.1), &parameters).unwrap();
        let error = optimizer.step(&gradients, 0.1).unwrap_err();
        assert!(matches!(error, Error::Diverged(_)) && error.to_string().contains("`b.w`"), "{error}");
        assert_eq!(scalars(&weights), [0.5; 3]);
        assert!(optimizer.weights.iter().all(|w| w.steps == 0));
        // The gradient of a frozen weight is ignored.
        let mut optimizer = optimizer.with_groups(&[ParameterGroup::frozen("b")]).unwrap();
        optimizer.step(&gradients, 0.1).unwrap();
        assert!(scalars(&weights)[0] < 0.5);
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(0));
    for bad in ["kind = 'adam'\nlr = nan", "kind = 'adam'\nbeta2 = 1.0", "kind = 'sgd'\nnesterov = true"] {
        assert!(Optimizer::new(toml::from_str(bad).unwrap(), &parameters).is_err(), "{bad}");
    }
    assert!(toml::from_str::<OptimizerConfig>("kind = 'adam'\nlearning = 1.0").is_err());
}
