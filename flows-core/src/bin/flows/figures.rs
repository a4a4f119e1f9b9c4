//! `flows figures`: the pictures of a textbook introduction to normalizing flows.

mod energies;
mod maps;

use clap::Args;
use flows_core::plot::Figure;
use flows_core::{Error, Result, Rng};
use std::path::PathBuf;

/// Draw the pictures of a textbook introduction
///
/// Simple maps of the normal distribution, each with its exact density and samples, the change of variables on
/// the line, and the four energies of Rezende and Mohamed (2015) fitted by planar flows of 2, 8 and 32 layers.
/// Writes figures.png, energies.png and an SVG of each figure; takes a few minutes.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  flows figures
  flows figures --out pictures --quick")]
pub struct FiguresArgs {
    /// The folder to write to
    #[arg(long, default_value = "figures")]
    pub out: PathBuf,
    /// What samples and fits are drawn from
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Steps of each fit of a planar flow to an energy; there are 12, from three starts each
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: u64,
    /// Rough pictures in a few seconds, to see that everything works
    #[arg(long)]
    pub quick: bool,
    /// Print the figures of the fits as JSON
    #[arg(long)]
    pub json: bool,
}

/// How fine the pictures are.
struct Detail {
    /// Points a side of the grid on which a density is evaluated.
    grid: usize,
    /// Points of a histogram.
    draws: usize,
    /// Steps of a fit.
    steps: u64,
    /// Fits of which the best is shown: reverse KL is content with a part of the target, and which part depends on
    /// the start.
    starts: usize,
}

impl Detail {
    fn new(args: &FiguresArgs) -> Self {
        match args.quick {
            true => Self { grid: 40, draws: 1000, steps: args.steps.min(10), starts: 1 },
            false => Self { grid: 250, draws: 20_000, steps: args.steps, starts: 3 },
        }
    }
}

/// Writes all figures and prints how well the energies are fitted.
///
/// # Errors
/// When a file cannot be written or a fit diverges.
pub fn run(args: &FiguresArgs) -> Result<()> {
    const PANEL: (u32, u32) = (360, 348);
    std::fs::create_dir_all(&args.out).map_err(|e| Error::file(&args.out, e))?;
    let detail = Detail::new(args);
    let mut rng = Rng::seed(args.seed);
    let mut page = Figure::new(4, PANEL);
    for (name, panel) in maps::panels(&detail, &mut rng)? {
        Figure::new(1, PANEL).panel(panel.clone()).write(args.out.join(name).with_extension("svg"))?;
        page = page.panel(panel);
    }
    page.write(args.out.join("figures.png"))?;

    let (figure, fits) = energies::figure(&detail, &mut rng)?;
    figure.write(args.out.join("energies.png"))?;
    figure.write(args.out.join("energies.svg"))?;
    println!("{}", if args.json { energies::json(&fits)? } else { energies::table(&fits) });
    Ok(())
}
