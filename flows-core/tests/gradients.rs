//! The gradients used in training equal those of a plain backward pass.

use candle_core::{DType, Device, Tensor, backprop::GradStore};
use flows_core::distributions::Distribution;
use flows_core::flows::*;
use flows_core::nn::{Activation, Mlp, Mode, Network, NetworkConfig, Output, Parameters};
use flows_core::testing::{difference, perturb};
use flows_core::train::{LossGradients, forward_kl};
use flows_core::{Result, Rng};

const CPU: &Device = &Device::Cpu;
const ROWS: usize = 6;

/// A small flow of each architecture over three columns.
fn flows(context: Option<usize>) -> Result<Vec<(&'static str, Flow)>> {
    let network = || NetworkConfig::Mlp { hidden: vec![8], activation: Activation::Tanh };
    let build = |name: &&'static str| {
        let model = match NamedFlow::named(name)? {
            NamedFlow::Nsf(m) => Nsf { layers: 2, network: NetworkConfig::residual(8, 1), ..m }.into(),
            NamedFlow::Iaf(m) => Iaf { layers: 2, network: network(), ..m }.into(),
            NamedFlow::Maf(m) => Maf { layers: 2, network: network(), batch_norm: false, ..m }.into(),
            NamedFlow::NsfAutoregressive(m) => NsfAutoregressive { layers: 2, network: network(), ..m }.into(),
            NamedFlow::Naf(_) => Naf { layers: 2, network: network(), units: 3 }.into(),
            NamedFlow::Bnaf(m) => Bnaf { layers: 2, factor: 3, ..m }.into(),
            NamedFlow::Umnn(m) => Umnn { layers: 2, network: network(), embedding: 3, integrand: vec![6], ..m }.into(),
            other => other,
        };
        let config = FlowConfig { context, ..FlowConfig::new(3, model) };
        let flow = Flow::on(config, DType::F64, CPU, &mut Rng::seed(1))?;
        perturb(flow.parameters(), 0.05, &mut Rng::seed(2))?;
        Ok((*name, flow))
    };
    NamedFlow::NAMES.iter().map(build).collect()
}

/// Fails unless `got` has the gradients of `want` for every weight of the flow.
fn same(what: &str, flow: &Flow, want: &GradStore, got: &GradStore) -> Result<()> {
    for (name, var) in flow.parameters().trainable() {
        let (want, got) = (want.get(&var), got.get(&var));
        assert_eq!(want.is_some(), got.is_some(), "{what}: the gradient of `{name}`");
        let (Some(want), Some(got)) = (want, got) else { continue };
        let off = difference(want, got)?;
        assert!(off < 1e-9, "{what}: the gradient of `{name}` differs by {off}");
    }
    Ok(())
}

#[test]
fn of_the_likelihood_and_of_samples() -> Result<()> {
    for context in [None, Some(2)] {
        for (name, flow) in flows(context)? {
            let given = context.map(|width| Rng::seed(3).normal_tensor((ROWS, width), DType::F64, CPU)).transpose()?;
            let x = flow.sample(ROWS, given.as_ref(), &mut Rng::seed(4))?.detach();
            // Passes change buffers: start each from the same state.
            let start = flow.parameters().snapshot()?.into_iter().collect();
            let likelihood = || forward_kl(&flow, &x, given.as_ref(), &mut Rng::seed(5));
            let samples = || {
                let (x, log_prob) = flow.sample_with_log_prob(ROWS, given.as_ref(), &mut Rng::seed(6))?;
                Ok((log_prob + (x.sqr()?.sum(1)? * 0.3)?)?.mean_all()?)
            };
            let losses: [(&str, &dyn Fn() -> Result<Tensor>); 2] = [("likelihood", &likelihood), ("samples", &samples)];
            for (what, loss) in losses {
                flow.parameters().load(&start)?;
                let want = loss()?.backward()?;
                flow.parameters().load(&start)?;
                let got = LossGradients::of(&loss()?)?;
                let Some(got) = got.gradients else { panic!("{name}: the loss is not finite") };
                assert!(flow.parameters().trainable().iter().any(|(_, var)| want.get(var).is_some()), "{name}");
                same(&format!("{what} of {name}, context {context:?}"), &flow, &want, &got)?;
            }
        }
    }
    Ok(())
}

/// Pieces share a graph of samples, which their backward passes traverse concurrently.
#[test]
fn of_pieces_that_share_a_graph() -> Result<()> {
    const ROWS: usize = 400;
    for (name, flow) in flows(None)?.into_iter().filter(|(name, _)| ["maf", "nsf", "iaf"].contains(name)) {
        let (x, log_prob) = flow.sample_with_log_prob(ROWS, None, &mut Rng::seed(6))?;
        let loss = |x: &Tensor, log_prob: &Tensor| Ok((log_prob + (x.sqr()?.sum(1)? * 0.3)?)?.mean_all()?);
        let want = loss(&x, &log_prob)?.backward()?;
        for _ in 0..5 {
            let got = LossGradients::of_pieces(ROWS, 4, &mut Rng::seed(0), |rows, _| {
                let part = |t: &Tensor| t.narrow(0, rows.start, rows.len());
                loss(&part(&x)?, &part(&log_prob)?)
            })?;
            let Some(got) = got.gradients else { panic!("{name}: the loss is not finite") };
            same(name, &flow, &want, &got)?;
        }
    }
    Ok(())
}

/// Two concurrent backward passes through one network's node.
#[test]
fn of_two_losses_of_one_network() -> Result<()> {
    let parameters = Parameters::new(DType::F64, CPU, Rng::seed(0));
    let network = Mlp::new(3, &[16], Output::new(2), None, Activation::Tanh, &parameters.scope())?;
    let h = network.forward(&Rng::seed(1).normal_tensor((64, 3), DType::F64, CPU)?, None, &mut Mode::evaluation())?;
    let losses = [h.sum_all()?, h.sqr()?.sum_all()?];
    let want = [losses[0].backward()?, losses[1].backward()?];
    for _ in 0..200 {
        let (one, other) = rayon::join(|| losses[0].backward(), || losses[1].backward());
        for (want, got) in want.iter().zip([one?, other?]) {
            for (name, var) in parameters.trainable() {
                let (Some(want), Some(got)) = (want.get(&var), got.get(&var)) else {
                    panic!("no gradient of `{name}`")
                };
                assert!(difference(want, got)? < 1e-12, "`{name}`");
            }
        }
    }
    Ok(())
}
