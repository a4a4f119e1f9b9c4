//! `ffjord solve`: the solver on well-known equations.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ffjord::solver::{Equation, Method, Solution, Solver};
use flows_core::cli::{OutputArgs, print_or_json};
use flows_core::plot::{Colour, Figure, Panel};
use flows_core::{Error, Result};
use serde_json::json;
use std::path::PathBuf;

/// Solve an ordinary differential equation, to compare solvers and tolerances
///
/// Prints the times and states as CSV, and the numbers of evaluations and steps on standard error. A solve that fails
/// reports why, and ends with status 1.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  ffjord solve lotka-volterra
  ffjord solve van-der-pol --tolerance 1e-9 --end 20 --points 400 --plot limit-cycle.png
  ffjord solve lorenz --method rk4 --step 0.01 --json
  ffjord solve van-der-pol --initial 3,-1 --begin 5 --end 0")]
pub struct SolveArgs {
    /// The equation
    #[arg(value_parser = equations())]
    problem: Equation,
    /// dopri5, tsit5, bosh3 or adaptive-heun, or with a fixed step euler, midpoint or rk4
    #[arg(long, value_name = "M", default_value_t = Method::Dopri5)]
    method: Method,
    /// Relative and absolute tolerance of adaptive methods [default: 1e-6]
    #[arg(long, value_name = "TOL", allow_negative_numbers = true)]
    tolerance: Option<f64>,
    /// The step of methods with a fixed step [default: 0.01]
    #[arg(long, value_name = "H", allow_negative_numbers = true)]
    step: Option<f64>,
    /// The first time
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    begin: f64,
    /// The last time, which may be before the first
    #[arg(long, value_name = "T", default_value_t = 10.0, allow_negative_numbers = true)]
    end: f64,
    /// Number of times at which the state is printed, including both ends
    #[arg(long, value_name = "N", default_value_t = 101, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    points: u32,
    /// The state at the first time, separated by commas [default: one typical of the equation]
    #[arg(long, value_name = "VALUES", value_delimiter = ',', allow_hyphen_values = true)]
    initial: Option<Vec<f64>>,
    /// The largest number of steps, including rejected ones
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    max_steps: usize,
    /// Also plot the solution over time, as .png or .svg
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

fn equations() -> impl TypedValueParser {
    let values = Equation::ALL.map(|equation| PossibleValue::new(equation.name()).help(equation.about()));
    PossibleValuesParser::new(values).try_map(|name| name.parse::<Equation>())
}

pub fn run(args: SolveArgs) -> Result<()> {
    let SolveArgs { problem, begin, end, output, .. } = args;
    let initial = args.initial.clone().unwrap_or_else(|| problem.initial());
    let names = problem.variables();
    if initial.len() != names.len() {
        let message = format!("the state has {} values ({}): give as many to --initial", names.len(), names.join(", "));
        return Err(Error::Config(message));
    }
    if ![begin, end].iter().chain(&initial).all(|number| number.is_finite()) {
        return Err(Error::Config("give finite numbers to --begin, --end and --initial".into()));
    }
    if args.plot.as_ref().is_some_and(|path| path.extension().is_none_or(|e| e != "png" && e != "svg")) {
        return Err(Error::Config("--plot writes .png or .svg: give the file one of these extensions".into()));
    }
    let (tolerance, step) = (args.tolerance.unwrap_or(1e-6), args.step.unwrap_or(0.01));
    let setting = match (args.method.is_adaptive(), args.tolerance, args.step) {
        (true, _, Some(_)) => {
            return Err(Error::Config(format!("{} chooses its own steps: omit --step", args.method)));
        }
        (false, Some(_), _) => {
            return Err(Error::Config(format!("{} has a fixed step: give --step, not --tolerance", args.method)));
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
    let row = |(t, y): (&f64, &Vec<f64>)| {
        let values: String = y.iter().map(|v| format!(",{v}")).collect();
        format!("\n{t}{values}")
    };
    let rows: String = times.iter().zip(&states).map(row).collect();
    let value = json!({
        "method": args.method, setting.0: setting.1, "result": status, "stats": stats,
        "variables": names, "times": times[..states.len()], "states": states,
    });
    print_or_json(output, &value, format_args!("t,{}{rows}", names.join(",")))?;
    output.note(format!(
        "{} evaluations, {} steps accepted, {} rejected",
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
