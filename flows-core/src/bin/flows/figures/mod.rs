//! `flows figures`: the pictures of a textbook introduction to normalizing flows.

mod energies;
mod maps;

use clap::Args;
use flows_core::cli::{DeviceArgs, OutputArgs, print, print_json};
use flows_core::files::in_folder;
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
    /// Seed of samples and fits
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub seed: u64,
    /// Steps of each fit of a planar flow to an energy; there are 12 fits, each from three starts
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: u64,
    /// Draw rough pictures in a few seconds, to check that everything works
    #[arg(long)]
    pub quick: bool,
    /// Replace the pictures in the folder
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The level of detail of the pictures.
struct Detail {
    /// Points per side of the grid on which a density is evaluated.
    grid: usize,
    /// Samples in a histogram.
    draws: usize,
    /// Steps of a fit.
    steps: u64,
    /// Number of fits, of which the best is shown: reverse KL may cover only part of the target, depending on the
    /// start.
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
    let device = args.device.open()?;
    let is_picture = |path: PathBuf| path.extension().is_some_and(|e| e == "png" || e == "svg");
    let mut files = std::fs::read_dir(&args.out).into_iter().flatten().flatten();
    if !args.overwrite && files.any(|file| is_picture(file.path())) {
        let shown = args.out.display();
        let message = "already holds pictures; replace them by --overwrite, or choose another folder by --out";
        return Err(Error::Config(format!("{shown} {message}")));
    }
    let page_file = in_folder(&args.out, "figures.png")?;
    let detail = Detail::new(args);
    let mut rng = Rng::seed(args.seed);
    let mut page = Figure::new(4, PANEL);
    for (name, panel) in maps::panels(&detail, &mut rng)? {
        Figure::new(1, PANEL).panel(panel.clone()).write(args.out.join(name).with_extension("svg"))?;
        page = page.panel(panel);
    }
    page.write(page_file)?;

    let (figure, fits) = energies::figure(&detail, &device, args.output.quiet, &mut rng)?;
    figure.write(args.out.join("energies.png"))?;
    figure.write(args.out.join("energies.svg"))?;
    if args.output.json { print_json(&fits) } else { print(energies::table(&fits)) }
}
