//! Whether a model's draws are like data.

mod calibration;
mod chance;
mod classifier;
mod dependence;
mod distance;
mod tails;
mod trees;
mod variable;
mod verdict;

pub use calibration::{Calibration, Coverage, TransformedColumn, Transforms};
pub use classifier::Classifier;
pub use dependence::{Dependence, PairDifference};
pub use distance::{Distance, wasserstein};
pub(crate) use tails::{chi_squared, normal};
pub(crate) use variable::evenly;
pub use variable::{Margin, ValueShares, Variable, VariableKind};
pub use verdict::{Finding, Verdict};

use crate::{Error, Result, Rng};
use serde::Serialize;

/// The comparison of a model with data that it was not trained on.
///
/// ```
/// use flows_core::evaluate::{Check, Variable, VariableKind};
/// let rng = &mut flows_core::Rng::seed(0);
/// let mut column = |deviation: f64| (0..1000).map(|_| deviation * rng.normal()).collect::<Vec<f64>>();
/// let (data, drawn) = (column(1.0), column(0.6));
/// let x = Variable { name: "x".into(), kind: VariableKind::Number(Vec::new()), given: false, data, drawn };
/// let check = Check::of(&[x], None, &mut flows_core::Rng::seed(1))?;
/// assert!(check.margins[0].p_value() < 1e-6 && !check.verdict.good);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The rows of the data, and of the draws.
    pub rows: usize,
    /// The distances of columns, but those of the context.
    pub margins: Vec<Margin>,
    /// The differences between correlations, if there are pairs of columns.
    pub dependence: Option<Dependence>,
    /// The classifier two-sample test, if there are rows enough.
    pub classifier: Option<Classifier>,
    /// What is transformed, see [`Transforms`]; none if the model has no transforms.
    pub transforms: Option<String>,
    /// The rows that have no transform, since they are outside of the model's range.
    pub untransformed: usize,
    /// The calibration of each transformed column.
    pub calibrations: Vec<Calibration>,
    /// How many values are in the model's central intervals, of all columns of numbers together.
    pub intervals: Vec<Coverage>,
    /// What all this says.
    pub verdict: Verdict,
}

impl Check {
    /// Compares the samples of variables, and the transforms of the data.
    ///
    /// # Errors
    /// When there is no column, or the samples differ in their number of rows or have none.
    pub fn of(variables: &[Variable], transforms: Option<&Transforms>, rng: &mut Rng) -> Result<Self> {
        let rows = variables.first().map_or(0, |variable| variable.data.len());
        let all = variables.iter().flat_map(|variable| [variable.data.len(), variable.drawn.len()]);
        if rows == 0 || all.into_iter().any(|length| length != rows) {
            return Err(Error::Data(
                "data and draws are compared row by row: give as many of both, at least one".into(),
            ));
        }
        let margins =
            variables.iter().filter(|variable| !variable.given).map(|variable| variable.margin(rng)).collect();
        let mut check = Self {
            rows,
            margins,
            dependence: Dependence::of(variables, rng),
            classifier: Classifier::of(variables, rng),
            transforms: transforms.map(|transforms| transforms.of.clone()),
            untransformed: transforms.map_or(0, Transforms::without),
            calibrations: transforms.map_or(Vec::new(), Transforms::calibrations),
            intervals: transforms.map_or(Vec::new(), Transforms::intervals),
            verdict: Verdict::default(),
        };
        check.verdict = Verdict::of(&check);
        Ok(check)
    }
}
