//! The exact density of a table whose columns are categories, real numbers and whole numbers.

mod cell;
mod column;
mod heads;
mod layout;
mod margin;
mod sample;
mod tail;
#[cfg(test)]
mod tests;
mod transform;

pub use column::{Column, Content, Numeric};
pub use margin::Margin;

use super::Distribution;
use super::checks::{check_batch, check_rows};
use crate::bijectors::{Bijector, Standardize, Support};
use crate::nn::{Made, Mode, Network, NetworkConfig, Output, Scope};
use crate::ops::kernel::with_slice;
use crate::ops::sum_event;
use crate::shape::check_context;
use crate::{Error, Result, Rng, Structure};
use candle_core::{DType, Device, Tensor};
use heads::log_probs;
use layout::{Cells, Layout};
use sample::Prefix;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The config of a [`MixedTable`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedTableConfig {
    /// The columns, in the order of the product.
    pub columns: Vec<Column>,
    /// The masked network.
    pub network: NetworkConfig,
    /// Bins of the splines.
    pub bins: usize,
    /// Width of the context, if there is one.
    #[serde(default)]
    pub context: Option<usize>,
}

impl MixedTableConfig {
    /// A table of these columns, with splines of 16 bins and a residual network of two blocks of 256 units.
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), network: NetworkConfig::residual(256, 2), bins: 16, context: None }
    }

    /// Conditions the table on `context` numbers.
    #[must_use]
    pub fn with_context(self, context: usize) -> Self {
        Self { context: Some(context), ..self }
    }

    fn check(&self) -> Result<()> {
        if self.columns.is_empty() {
            return Err(Error::Config("a table needs at least one column".into()));
        }
        if !(1..=500).contains(&self.bins) {
            return Err(Error::Config(format!("splines of {} bins: set `bins` to 1 to 500", self.bins)));
        }
        self.columns.iter().try_for_each(Column::check)
    }
}

/// The density of a row of a table with columns of several kinds, one factor a column:
///
/// ```text
/// log p(x) = sum_i log P(c_i | x_<i, context) + 1{c_i is continuous} log p(x_i | x_<i, context)
/// ```
///
/// An event is a row, (D), of f64 or f32. A category has its code; a missing number is NaN. Column i is
///
/// - a category: c_i is its code, and P a softmax;
/// - a real number: c_i is the continuous class, one of its atoms (values with a probability of their own), or missing.
///   In the continuous class, `y = spline((g(x_i) - m) e^-s)` has the logistic distribution, for the column's fixed
///   [`Margin`] g and a monotone rational-quadratic spline on [-8, 8], outside of which y has the tails of generalised
///   Pareto distributions of shape 0.03;
/// - a whole number: in the first class, `P(k) = F(k + 1/2) - F(k - 1/2)` for the distribution function F of the same
///   flow, exact also where F is close to 0 or 1. The least and the greatest number, if given, have all of F's tails. An
///   atom adds to the probability that the flow gives its value.
///
/// One masked network computes the logits and the m, s and spline of all columns, from one-hot classes and from z = g(x)
/// of numbers. The log-density is in nats of the data as they are, and refers to counting measure for categories, whole
/// numbers, atoms and missing cells. It is constant in x for automatic differentiation: gradients are those of weights
/// and context. Values are normalised in f64, so that numbers such as times in seconds may be given as f64 while weights
/// are f32; draws are f64.
///
/// Germain et al., MADE, 2015; Durkan et al., Neural Spline Flows, 2019.
///
/// ```
/// use flows_core::bijectors::Bounds;
/// use flows_core::candle_core::{Device, Tensor};
/// use flows_core::distributions::{Column, Distribution, MixedTableConfig};
/// use flows_core::flows::MixedTableModel;
/// let rng = &mut flows_core::Rng::seed(0);
/// let colour: Vec<f64> = (0..90).map(|i| f64::from(i % 3)).collect();
/// let weight: Vec<f64> = (0..90).map(|i| f64::from(i * i) + 1.0).collect();
/// let columns = [Column::category("colour", 3, &colour)?, Column::number("weight", &weight, Bounds::above(0.0))?];
/// let table = MixedTableModel::new(MixedTableConfig::new(columns), rng)?;
/// let x = Tensor::new(&[[2.0, 40.5], [0.0, 7.25]], &Device::Cpu)?;
/// assert_eq!(table.log_prob(&x, None)?.dims(), [2]);
/// // What each column contributes.
/// assert_eq!(table.log_prob_columns(&x, None)?.dims(), [2, 2]);
/// // Weights for given colours.
/// assert_eq!(table.sample_given(&x.narrow(1, 0, 1)?, None, rng)?.dims(), [2, 2]);
/// # Ok::<(), flows_core::Error>(())
/// ```
#[derive(Debug)]
pub struct MixedTable {
    layout: Arc<Layout>,
    made: Made,
    context: Option<(usize, Standardize)>,
    event: [usize; 1],
    device: Device,
}

impl MixedTable {
    /// The density of a table, which starts close to independent columns with their margins.
    ///
    /// # Errors
    /// When there is no column, a column cannot be modelled, or a size is 0 or too large.
    pub fn new(config: &MixedTableConfig, scope: &Scope) -> Result<Self> {
        config.check()?;
        let layout = Layout::new(config.columns.clone(), config.bins);
        let [inputs, outputs] = layout.groups();
        let d = layout.columns.len();
        if outputs.is_empty() {
            return Err(Error::Config("every column has one value only: leave constant columns out".into()));
        }
        let (output, scope_of_network) = (Output::near(layout.start()), scope.enter("network"));
        let made =
            config.network.build_masked_groups(d, [&inputs, &outputs], config.context, output, &scope_of_network)?;
        let context = match config.context {
            Some(width) => Some((width, Standardize::new(&[width], &scope.enter("context"))?)),
            None => None,
        };
        Ok(Self { layout: Arc::new(layout), made, context, event: [d], device: scope.device().clone() })
    }

    /// The terms of the log-density, (B, D) of the dtype of x: which columns make a row unusual.
    ///
    /// # Errors
    /// As [`Distribution::log_prob`].
    pub fn log_prob_columns(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.terms(x, context, &mut Mode::evaluation())?.to_dtype(x.dtype())?)
    }

    /// [`Self::log_prob_columns`] in training mode.
    ///
    /// # Errors
    /// As [`Distribution::log_prob_training`].
    pub fn log_prob_columns_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        Ok(self.terms(x, context, &mut Mode::training(rng))?.to_dtype(x.dtype())?)
    }

    /// The probability integral transforms of cells, `P(X_i < x_i | x_<i, context) + u P(X_i = x_i | x_<i, context)` with u
    /// uniform on [0, 1), (B, D) in f64. Those of rows that were drawn from the density are independent and uniform on
    /// [0, 1]. Categories are in the order of their codes, and missing cells come after all numbers.
    ///
    /// # Errors
    /// As [`Distribution::log_prob`].
    pub fn transforms(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        let (_, raw) = self.outputs(x, context, &mut Mode::evaluation())?;
        let shape = (x.dim(0)?, self.event[0]);
        let uniform: Vec<f64> = (0..shape.0 * shape.1).map(|_| rng.uniform()).collect();
        let values =
            [x, &raw].map(|t| t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>());
        let [x, raw] = values;
        Ok(Tensor::from_vec(transform::transforms(&self.layout, &x?, &raw?, &uniform)?, shape, &Device::Cpu)?)
    }

    /// One draw for each row of leading columns, (B, m) with m up to D: these columns as given, and the others from their
    /// distribution given them, (B, D) in f64.
    ///
    /// # Errors
    /// When a value is not one of its column, or a shape is wrong.
    pub fn sample_given(&self, leading: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.sample_with(leading, None, context, rng)
    }

    /// The rows (B, D) with draws in place of NaN, each from its column's distribution given the cells before it alone: what
    /// is known of later columns has no influence. A draw is never a missing cell, nor the category that `never` has for
    /// its column.
    ///
    /// # Errors
    /// When a value is not one of its column, or a shape is wrong.
    pub fn fill(
        &self,
        rows: &Tensor,
        never: &[Option<usize>],
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<Tensor> {
        if never.len() != self.event[0] || rows.dims().last() != Some(&self.event[0]) {
            let want = format!("(B, {}), and as many categories that are not drawn", self.event[0]);
            return Err(Error::shape("the rows to fill", rows.dims(), want));
        }
        self.sample_with(rows, Some((0, &self.never(never))), context, rng)
    }

    /// [`Self::fill`], but for the first `given` columns, where NaN is a missing cell.
    pub(crate) fn fill_after(
        &self,
        given: usize,
        rows: &Tensor,
        never: &[Option<usize>],
        rng: &mut Rng,
    ) -> Result<Tensor> {
        self.sample_with(rows, Some((given, &self.never(never))), None, rng)
    }

    /// The class of each column that is not drawn: this one, or that of missing cells.
    fn never(&self, never: &[Option<usize>]) -> Vec<Option<usize>> {
        never.iter().zip(&self.layout.columns).map(|(never, column)| never.or(column.missing_class())).collect()
    }

    /// Whether a column of numbers may have missing cells.
    pub(crate) fn may_miss(&self, column: usize) -> bool {
        self.layout.columns[column].missing_class().is_some()
    }

    fn sample_with(
        &self,
        leading: &Tensor,
        never: Option<(usize, &[Option<usize>])>,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<Tensor> {
        let (rows, columns) = leading.dims2()?;
        if columns > self.event[0] || rows == 0 {
            let want = format!("(B, up to {}) with at least one row", self.event[0]);
            return Err(Error::shape("the leading columns", leading.dims(), want));
        }
        let values = leading.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.contiguous()?;
        with_slice::<f64, _>(&values, |values| self.draw(rows, context, Prefix { values, columns, never }, rng))?
    }

    fn draw(&self, count: usize, context: Option<&Tensor>, prefix: Prefix<'_>, rng: &mut Rng) -> Result<Tensor> {
        let given = self.context_term(context, count)?;
        let given = given.map(|given| given.to_device(&Device::Cpu)).transpose()?;
        let made = match self.device.is_cpu() {
            true => self.made.clone(),
            false => {
                let weights = self.made.weights().into_iter().map(|weight| weight.to_device(&Device::Cpu));
                self.made.with_weights(&weights.collect::<candle_core::Result<Vec<_>>>()?)
            }
        };
        let rows = match made.dtype() {
            DType::F32 => sample::sample::<f32>(&self.layout, &made, count, given.as_ref(), prefix, rng)?,
            _ => sample::sample::<f64>(&self.layout, &made, count, given.as_ref(), prefix, rng)?,
        };
        Ok(Tensor::from_vec(rows, (count, self.event[0]), &self.device)?)
    }

    /// What the context adds to the network's first layer.
    fn context_term(&self, context: Option<&Tensor>, rows: usize) -> Result<Option<Tensor>> {
        match (&self.context, context) {
            (None, None) => Ok(None),
            (None, Some(_)) => {
                Err(Error::Config("this table is not conditional: give no context, or train one that is".into()))
            }
            (Some((width, standardize)), context) => {
                let context = check_context(context, *width, rows)?.to_dtype(self.made.dtype())?;
                self.made.context_term(Some(&standardize.inverse(&context, None)?.0), rows)
            }
        }
    }

    /// The cells of rows, and the network's outputs for them, (B, W) on the CPU.
    fn outputs(&self, x: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<(Cells, Tensor)> {
        let rows = check_batch(x, &self.event, context)?;
        let given = self.context_term(context, rows)?;
        let values = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let mut cells = with_slice::<f64, _>(&values, |values| self.layout.cells(values))??;
        let inputs = Tensor::from_vec(std::mem::take(&mut cells.inputs), (rows, self.layout.inputs), &Device::Cpu)?;
        let inputs = inputs.to_dtype(self.made.dtype())?.to_device(&self.device)?;
        Ok((cells, self.made.run(&inputs, given.as_ref(), mode)?.to_device(&Device::Cpu)?))
    }

    /// The terms of the log-density, (B, D) in f64 where the weights are on the CPU.
    fn terms(&self, x: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor> {
        let (mut cells, raw) = self.outputs(x, context, mode)?;
        let offsets = std::mem::take(&mut cells.offsets);
        let offsets = Tensor::from_vec(offsets, (x.dim(0)?, self.event[0]), &Device::Cpu)?;
        Ok((log_probs(&self.layout, cells, &raw)?.to_dtype(DType::F64)? + offsets)?)
    }

    fn density(&self, x: &Tensor, context: Option<&Tensor>, mode: &mut Mode<'_>) -> Result<Tensor> {
        Ok(sum_event(&self.terms(x, context, mode)?)?.to_dtype(x.dtype())?.to_device(x.device())?)
    }
}

impl Distribution for MixedTable {
    fn event_shape(&self) -> &[usize] {
        &self.event
    }

    /// Fails where a cell is none of its column: NaN where none may be missing, a code that is no category, a fraction
    /// among whole numbers. A number outside of its bounds has density 0.
    fn log_prob(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.density(x, context, &mut Mode::evaluation())
    }

    fn log_prob_training(&self, x: &Tensor, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        self.density(x, context, &mut Mode::training(rng))
    }

    /// Draws in f64, without gradients.
    fn sample(&self, count: usize, context: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor> {
        check_rows(context, count)?;
        self.draw(count, context, Prefix { values: &[], columns: 0, never: None }, rng)
    }

    /// Standardizes the context, unless already done.
    fn initialize(&self, x: &Tensor, context: Option<&Tensor>) -> Result<()> {
        let rows = check_batch(x, &self.event, context)?;
        if let Some((width, standardize)) = &self.context
            && !standardize.is_fitted()?
        {
            standardize.fit(&check_context(context, *width, rows)?.to_dtype(self.made.dtype())?)?;
        }
        Ok(())
    }

    /// The supports of the columns by name; the reals for a column with atoms or missing cells.
    fn support(&self) -> Support {
        let columns = &self.layout.columns;
        let parts = columns.iter().enumerate().map(|(i, column)| (i.to_string(), column.support()));
        let parts: Vec<_> = parts.collect();
        match parts.iter().all(|(_, part)| matches!(part, Support::Real { .. })) {
            true => Support::real(self.event),
            false => Support::named(parts),
        }
    }

    fn device(&self) -> Device {
        self.device.clone()
    }

    fn structure(&self) -> Structure {
        let Layout { columns, numbers, wholes, spline, .. } = &*self.layout;
        let categories = columns.len() - numbers.len() - wholes.len();
        let details = format!(
            "{categories} categories, {} real and {} whole numbers, splines of {} bins",
            numbers.len(),
            wholes.len(),
            spline.bins
        );
        Structure::new("Mixed table", details).part(self.made.structure())
    }
}
