//! The energies of Rezende and Mohamed (2015), fitted by planar flows.

use super::Detail;
use candle_core::{DType, Device};
use flows_core::cli::work_bar;
use flows_core::data::Energy;
use flows_core::distributions::Distribution;
use flows_core::flows::{Flow, FlowConfig, PlanarFlow};
use flows_core::plot::{Figure, Grid, Panel};
use flows_core::train::{Observer, OptimizerConfig, Schedule, StepEvent, TrainConfig, Trainer, reverse_kl};
use flows_core::{Result, Rng};
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde::Serialize;
use std::ops::ControlFlow;
use std::time::Instant;

/// How well a flow fits an energy.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Fit {
    energy: Energy,
    layers: usize,
    /// KL(q || p) in nats from the best start.
    kl: f64,
    /// KL(q || p) in nats from every start.
    starts: Vec<f64>,
    /// Seconds for all starts together.
    seconds: f64,
}

/// The number of planar maps in each column.
const DEPTHS: [usize; 3] = [2, 8, 32];
const BATCH: usize = 256;

/// A figure with a row for each energy: the exact density, and the best fit of each depth.
pub(super) fn figure(detail: &Detail, device: &Device, quiet: bool, rng: &mut Rng) -> Result<(Figure, Vec<Fit>)> {
    let mut jobs = Vec::new();
    for energy in Energy::ALL {
        for layers in DEPTHS {
            jobs.extend((0..detail.starts).map(|_| (energy, layers, rng.fork())));
        }
    }
    let progress = work_bar(detail.steps as usize * jobs.len(), "fitting", quiet);
    let work = |(energy, layers, rng): (Energy, usize, Rng)| -> Result<(Flow, Fit)> {
        let start = Instant::now();
        let flow = fit(energy, layers, detail.steps, device, rng.clone(), &progress)?;
        let kl = divergence(&flow, energy, &mut rng.clone())?;
        Ok((flow, Fit { energy, layers, kl, starts: vec![kl], seconds: start.elapsed().as_secs_f64() }))
    };
    let fits = match device.is_cpu() {
        true => jobs.into_par_iter().map(work).collect::<Result<Vec<_>>>()?,
        false => jobs.into_iter().map(work).collect::<Result<Vec<_>>>()?,
    };
    progress.finish_and_clear();

    let grid = Grid::new((-4.0, 4.0), (-4.0, 4.0), detail.grid)?;
    let z = grid.points(DType::F32, device)?;
    let bare = |title: String| Panel::new(title).equal_aspect().without_ticks();
    let mut figure = Figure::new(1 + DEPTHS.len(), (220, 220));
    let mut kept = Vec::new();
    for (i, starts) in fits.chunks(detail.starts).enumerate() {
        let best = starts.iter().min_by(|a, b| a.1.kl.total_cmp(&b.1.kl));
        let Some((flow, Fit { energy, layers, kl, .. })) = best else { continue };
        if i % DEPTHS.len() == 0 {
            let truth = grid.density(&energy.log_density(&z)?)?;
            figure = figure.panel(bare(format!("exp(−{energy}), exact")).density(truth));
        }
        let title = format!("K = {layers}, KL {kl:.2}");
        figure = figure.panel(bare(title).density(grid.density(&flow.log_prob(&z, None)?)?));
        let seconds = starts.iter().map(|(_, fit)| fit.seconds).sum();
        let all = starts.iter().map(|(_, fit)| fit.kl).collect();
        kept.push(Fit { energy: *energy, layers: *layers, kl: *kl, starts: all, seconds });
    }
    Ok((figure, kept))
}

/// Fits a flow of `layers` planar maps to `energy` by reverse KL, with the paper's annealing of the energy over the
/// first fifth of the steps.
fn fit(
    energy: Energy,
    layers: usize,
    steps: u64,
    device: &Device,
    mut rng: Rng,
    progress: &ProgressBar,
) -> Result<Flow> {
    let flow = Flow::on(FlowConfig::new(2, PlanarFlow { layers }), DType::F32, device, &mut rng)?;
    // Random offsets, so that not all planes pass through the origin.
    for (_, b) in flow.parameters().trainable().into_iter().filter(|(name, _)| name.ends_with(".b")) {
        b.set(&rng.normal_tensor(b.shape().clone(), b.dtype(), b.device())?)?;
    }
    let config = TrainConfig {
        steps,
        optimizer: OptimizerConfig::adam(3e-2),
        schedule: Schedule::Cosine { warmup: 0, floor: 0.01 },
        clip_norm: Some(10.0),
        ..Default::default()
    };
    let loss = |step: u64, rng: &mut Rng| {
        let beta = (0.01 + step as f64 / (0.2 * steps as f64)).min(1.0);
        reverse_kl(&flow, |z| Ok((energy.log_density(z)? * beta)?), BATCH, rng)
    };
    Trainer::new(flow.parameters(), config, rng)?.run(loss, None, &mut Bar(progress))?;
    Ok(flow)
}

/// KL(q || p) for the normalised p.
fn divergence(flow: &Flow, energy: Energy, rng: &mut Rng) -> Result<f64> {
    let up_to_constant = reverse_kl(flow, |z| energy.log_density(z), 20_000, rng)?;
    Ok(f64::from(up_to_constant.to_scalar::<f32>()?) + energy.log_normalizer()?)
}

/// Advances a progress bar at every step.
struct Bar<'a>(&'a ProgressBar);

impl Observer for Bar<'_> {
    fn step(&mut self, _: &StepEvent) -> Result<ControlFlow<()>> {
        self.0.inc(1);
        Ok(ControlFlow::Continue(()))
    }
}

pub(super) fn table(fits: &[Fit]) -> String {
    let row = |f: &Fit| {
        let starts: String = f.starts.iter().map(|kl| format!("{kl:8.3}")).collect();
        format!("{:6}  {:2}  {:8.3}  {:7.1}{starts}\n", f.energy.name(), f.layers, f.kl, f.seconds)
    };
    let rows: String = fits.iter().map(row).collect();
    format!("energy   K  KL (nats)  seconds  KL of each start\n{}", rows.trim_end())
}
