//! `ffjord solve`: the solver on equations by name.

use clap::{Args, ValueEnum};
use ffjord::solver::{Method, Solution, Solver};
use flows_core::cli::{OutputArgs, print, print_json};
use flows_core::plot::{Colour, Figure, Panel};
use flows_core::{Error, Result};
use serde_json::json;
use std::path::PathBuf;

/// Solve an ordinary differential equation, to see what solvers and tolerances do
///
/// Prints the times and states as CSV, and on standard error the evaluations and steps it took. A solve that cannot
/// go on says why, and ends with status 1.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  ffjord solve lotka-volterra
  ffjord solve van-der-pol --tolerance 1e-9 --end 20 --points 400 --plot limit-cycle.png
  ffjord solve lorenz --method rk4 --step 0.01 --json
  ffjord solve van-der-pol --initial 3,-1 --begin 5 --end 0")]
pub struct SolveArgs {
    /// The equation
    problem: Problem,
    /// dopri5, tsit5, bosh3, adaptive-heun, or with fixed steps euler, midpoint, rk4
    #[arg(long, value_name = "M", default_value_t = Method::Dopri5)]
    method: Method,
    /// Relative and absolute tolerance of adaptive methods [default: 1e-6]
    #[arg(long, value_name = "TOL", allow_negative_numbers = true)]
    tolerance: Option<f64>,
    /// The largest step of methods with fixed ones [default: 0.01]
    #[arg(long, value_name = "H", allow_negative_numbers = true)]
    step: Option<f64>,
    /// The first time
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    begin: f64,
    /// The last time, which may be before the first
    #[arg(long, value_name = "T", default_value_t = 10.0, allow_negative_numbers = true)]
    end: f64,
    /// Times at which the state is written, ends included
    #[arg(long, value_name = "N", default_value_t = 101, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    points: u32,
    /// The state at the first time, separated by commas; one that shows the equation unless given
    #[arg(long, value_name = "VALUES", value_delimiter = ',', allow_hyphen_values = true)]
    initial: Option<Vec<f64>>,
    /// The most steps to try
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    max_steps: usize,
    /// Draw the solution over time as well, to a .png or .svg
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Problem {
    /// Prey and predators: x' = 1.5 x - x y, y' = x y - 3 y
    LotkaVolterra,
    /// A stiff oscillator: x' = v, v' = 5 (1 - x^2) v - x
    VanDerPol,
    /// Chaos: x' = 10 (y - x), y' = x (28 - z) - y, z' = x y - 8/3 z
    Lorenz,
    /// A spring: x' = v, v' = -x
    Harmonic,
}

impl Problem {
    fn variables(self) -> &'static [&'static str] {
        match self {
            Self::LotkaVolterra => &["prey", "predators"],
            Self::VanDerPol | Self::Harmonic => &["x", "v"],
            Self::Lorenz => &["x", "y", "z"],
        }
    }

    fn initial(self) -> Vec<f64> {
        match self {
            Self::LotkaVolterra => vec![1.0, 1.0],
            Self::VanDerPol => vec![2.0, 0.0],
            Self::Lorenz => vec![1.0, 1.0, 1.0],
            Self::Harmonic => vec![1.0, 0.0],
        }
    }

    fn slope(self, y: &[f64]) -> Vec<f64> {
        match self {
            Self::LotkaVolterra => vec![1.5 * y[0] - y[0] * y[1], y[0] * y[1] - 3.0 * y[1]],
            Self::VanDerPol => vec![y[1], 5.0 * (1.0 - y[0] * y[0]) * y[1] - y[0]],
            Self::Lorenz => {
                vec![10.0 * (y[1] - y[0]), y[0] * (28.0 - y[2]) - y[1], y[0] * y[1] - 8.0 / 3.0 * y[2]]
            }
            Self::Harmonic => vec![y[1], -y[0]],
        }
    }
}

pub fn run(args: SolveArgs) -> Result<()> {
    let SolveArgs { problem, begin, end, output, .. } = args;
    let initial = args.initial.clone().unwrap_or_else(|| problem.initial());
    let names = problem.variables();
    if initial.len() != names.len() {
        let message = format!("the state has {} values ({}): give as many by --initial", names.len(), names.join(", "));
        return Err(Error::Config(message));
    }
    if ![begin, end].iter().chain(&initial).all(|number| number.is_finite()) {
        return Err(Error::Config("times and the state at the first are numbers: give finite ones".into()));
    }
    if args.plot.as_ref().is_some_and(|path| path.extension().is_none_or(|e| e != "png" && e != "svg")) {
        return Err(Error::Config("--plot draws a .png or an .svg: give the file one of these extensions".into()));
    }
    let (tolerance, step) = (args.tolerance.unwrap_or(1e-6), args.step.unwrap_or(0.01));
    let setting = match (args.method.is_adaptive(), args.tolerance, args.step) {
        (true, _, Some(_)) => {
            return Err(Error::Config(format!("{} chooses its steps: leave out --step", args.method)));
        }
        (false, Some(_), _) => {
            return Err(Error::Config(format!("{} has fixed steps: give --step, not --tolerance", args.method)));
        }
        (true, ..) => ("tolerance", tolerance),
        (false, ..) => ("step", step),
    };
    let solver = Solver { step, max_steps: args.max_steps, ..Solver::new(args.method, tolerance) };
    let last = args.points - 1;
    let times: Vec<f64> = (0..=last)
        .map(|i| if i == last { end } else { begin + (end - begin) * f64::from(i) / f64::from(last) })
        .collect();
    let Solution { states, stats, status } = solver.solve(|_, y: &Vec<f64>| Ok(problem.slope(y)), initial, &times)?;
    if output.json {
        print_json(&json!({
            "method": args.method, setting.0: setting.1, "result": status, "stats": stats,
            "variables": names, "times": times[..states.len()], "states": states,
        }))?;
    } else {
        let row = |(t, y): (&f64, &Vec<f64>)| {
            let values: String = y.iter().map(|v| format!(",{v}")).collect();
            format!("\n{t}{values}")
        };
        let rows: String = times.iter().zip(&states).map(row).collect();
        print(format_args!("t,{}{rows}", names.join(",")))?;
    }
    output.note(format!(
        "{} evaluations, {} steps taken, {} tried in vain",
        stats.evaluations, stats.accepted, stats.rejected
    ));
    if let Some(path) = &args.plot {
        let mut panel = Panel::new(format!("{}, {} {:e}", args.method, setting.0, setting.1)).labels("t", "");
        for (i, name) in names.iter().enumerate() {
            let points: Vec<(f64, f64)> = times.iter().zip(&states).map(|(t, y)| (*t, y[i])).collect();
            panel = panel.line(&points, Colour::series(i), *name);
        }
        Figure::new(1, (560, 320)).panel(panel).write(path)?;
    }
    Solution { states, stats, status }.finished().map(drop)
}
