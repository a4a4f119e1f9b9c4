//! A continuous flow as a bijector.

use super::operation::{Job, solve};
use super::trajectory::trace;
use super::{CnfSettings, Cost, Gradient, Pairing, matching};
use crate::field::{Divergence, Penalty, Probe, VectorField, composed, composed_at, no_bottleneck, value};
use crate::solver::{End, Solver};
use candle_core::{DType, Tensor};
use flows_core::bijectors::{Bijector, Direction, Mode};
use flows_core::nn::{Init, Scope};
use flows_core::{Error, Result, Rng, Structure};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The continuous flow of Chen et al. (2018) and Grathwohl et al. (2019): points move along
/// `dx/dt = f(t, x)` from the data at time 0 to the base at time T, and
/// `log|det dz/dx|` is the integral of the divergence of f along the trajectory.
///
/// Likelihoods and samples use the exact divergence; training uses the divergence of the settings, minus the
/// penalty. All rows of a batch share the solver's steps unless `row_steps` is set, so a row's result depends on the
/// others within the tolerance. A row with a number that is not finite, or beyond 1e12 if the activation is
/// unbounded, results in NaN and does not influence the steps. In f32, tolerances are at least 1e-6.
///
/// On the CPU a solve is a single operation that uses the field's kernels. On other devices, and with
/// [`Gradient::Plain`], it is a graph of candle's operations, and a row that is not finite fails its whole batch.
#[derive(Clone, Debug)]
pub struct Cnf {
    shape: [usize; 1],
    field: Arc<dyn VectorField>,
    settings: CnfSettings,
    /// The square root of the end time, (1), if it is trained.
    root: Option<Tensor>,
    cost: Arc<Mutex<Cost>>,
}

impl Cnf {
    /// A flow over vectors of `dim` numbers, conditional on a context of the given width if any.
    ///
    /// # Errors
    /// When a width is 0, a setting is out of range, or a name is already taken in `scope`.
    pub fn new(dim: usize, settings: &CnfSettings, context: Option<usize>, scope: &Scope) -> Result<Self> {
        settings.check()?;
        let cnf = Self::of(settings.field.build(dim, context, scope)?, settings)?;
        if settings.train_end_time { cnf.train_end_time(scope) } else { Ok(cnf) }
    }

    /// A flow along the given field; `settings.field` is ignored.
    ///
    /// # Errors
    /// When the field has no dimensions, a setting is out of range, or `train_end_time` is set: call
    /// [`Self::train_end_time`] instead, which takes a scope.
    pub fn with_field(field: impl VectorField + 'static, settings: &CnfSettings) -> Result<Self> {
        settings.check()?;
        if settings.train_end_time {
            let message = "a trained end time needs a scope for its weight: instead of setting `train_end_time`, call";
            return Err(Error::Config(format!("{message} `Cnf::train_end_time`")));
        }
        Self::of(Arc::new(field), settings)
    }

    fn of(field: Arc<dyn VectorField>, settings: &CnfSettings) -> Result<Self> {
        if field.dim() == 0 {
            return Err(Error::Config("a field needs at least one dimension".into()));
        }
        if settings.divergence == Divergence::BottleneckGaussian && field.bottleneck().is_none() {
            return Err(no_bottleneck());
        }
        let settings = settings.clone();
        Ok(Self { shape: [field.dim()], field, settings, root: None, cost: Arc::default() })
    }

    /// Makes the end time a weight (Grathwohl et al. 2019): `T = r^2` with the weight `sqrt_end_time` as r. Its
    /// gradient assumes that all steps of a solve scale with T; the loss of flow matching has none.
    ///
    /// # Errors
    /// When the name is already taken in `scope`.
    pub fn train_end_time(self, scope: &Scope) -> Result<Self> {
        let root = scope.weight("sqrt_end_time", 1, Init::Constant(self.settings.end_time.sqrt()))?;
        let settings = CnfSettings { train_end_time: true, ..self.settings };
        Ok(Self { root: Some(root), settings, ..self })
    }

    /// The current end time T, which may have been trained.
    ///
    /// # Errors
    /// When training has made it 0 or not finite.
    pub fn end_time(&self) -> Result<f64> {
        let Some(root) = &self.root else { return Ok(self.settings.end_time) };
        let root = root.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
        if root.is_finite() && root != 0.0 {
            return Ok(root * root);
        }
        Err(Error::Diverged(format!(
            "the end time has become {root}^2, which is not a positive number: lower the learning rate, or set \
             `train_end_time = false`"
        )))
    }

    /// The vector field.
    pub fn field(&self) -> &dyn VectorField {
        &*self.field
    }

    /// The settings of the flow.
    pub fn settings(&self) -> &CnfSettings {
        &self.settings
    }

    /// The cost of the solves since the last call.
    pub fn take_cost(&self) -> Cost {
        std::mem::take(&mut *self.cost.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The positions (B, D) at each of `times` of points that are at `start` (B, D) at the first time; the data are at
    /// time 0, the base at time T.
    ///
    /// # Errors
    /// When a shape is wrong or the solver fails.
    pub fn trajectory(&self, start: &Tensor, context: Option<&Tensor>, times: &[f64]) -> Result<Vec<Tensor>> {
        self.check("the points of a continuous flow", start, context)?;
        let solver = self.solver(false, start.dtype());
        let (start, context) = (start.detach(), context.filter(|_| self.field.context() > 0));
        if start.device().is_cpu() {
            return trace(self.field(), &solver, self.settings.row_steps, &start, context, times);
        }
        let f = |t: f64, z: &Tensor| Ok(value(self.field(), t, z, context)?.detach());
        Ok(solver.solve(f, start, times)?.finished()?.states)
    }

    /// The loss of flow matching for data x (B, D), a scalar: the mean squared difference, over the numbers of the
    /// batch, between the field and the velocity from a point of the data to its partner in the base.
    ///
    /// It has gradients with respect to the weights and to the context.
    ///
    /// # Errors
    /// When a shape is wrong, or the field needs a context and there is none.
    pub fn matching_loss(
        &self,
        x: &Tensor,
        context: Option<&Tensor>,
        pairing: Pairing,
        rng: &mut Rng,
    ) -> Result<Tensor> {
        self.check("the data of a continuous flow", x, context)?;
        let context = context.filter(|_| self.field.context() > 0);
        let settings = CnfSettings { end_time: self.end_time()?, ..self.settings.clone() };
        matching::loss(self.field(), &settings, (x, context), pairing, rng)
    }

    /// `(z, log|det dz/dx|)` for points x (B, D) at time `t` in [0, T]; at time 0 this is the inverse.
    ///
    /// # Errors
    /// When a shape is wrong or the solver fails.
    pub fn to_base(&self, x: &Tensor, t: f64, context: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let times = [t, self.end_time()?];
        if t >= times[1] {
            return Ok((x.clone(), Tensor::zeros(x.dim(0)?, x.dtype(), x.device())?));
        }
        self.run("the points of a continuous flow", x, context, times, (Probe::Basis, false))
    }

    /// Maps in one direction with the solver of evaluation and the given probe for the divergence.
    pub(crate) fn map_by(&self, direction: Direction, input: &Tensor, probe: Probe) -> Result<(Tensor, Tensor)> {
        self.run(name(direction), input, None, times(direction, self.end_time()?), (probe, false))
    }

    fn solver(&self, training: bool, dtype: DType) -> Solver {
        let solver = self.settings.evaluation.filter(|_| !training).unwrap_or(self.settings.solver);
        if dtype == DType::F64 {
            return solver;
        }
        Solver { rtol: solver.rtol.max(1e-6), atol: solver.atol.max(1e-6), ..solver }
    }

    fn check(&self, what: &str, x: &Tensor, context: Option<&Tensor>) -> Result<()> {
        let dim = self.field.dim();
        let (rows, width) = match x.dims() {
            [rows, width] if *rows > 0 => (*rows, *width),
            got => return Err(Error::shape(what, got, format!("(B, {dim}), B at least 1"))),
        };
        if width != dim {
            return Err(Error::shape(what, x.dims(), format!("(B, {dim})")));
        }
        if !matches!(x.dtype(), DType::F32 | DType::F64) {
            return Err(Error::Data(format!("{what} is of type {:?}: convert it to f32 or f64", x.dtype())));
        }
        if self.settings.row_steps && !x.device().is_cpu() {
            return Err(Error::Config("`row_steps` is supported on the CPU only: set `row_steps = false`".into()));
        }
        match (context, self.field.context()) {
            (_, 0) => Ok(()),
            (None, c) => Err(Error::Config(format!("this flow is conditional: give a context of shape ({rows}, {c})"))),
            (Some(context), c) if context.dims() == [rows, c] => Ok(()),
            (Some(context), c) => Err(Error::shape("the context", context.dims(), format!("({rows}, {c})"))),
        }
    }

    fn run(
        &self,
        what: &str,
        x: &Tensor,
        context: Option<&Tensor>,
        times: [f64; 2],
        (probe, training): (Probe, bool),
    ) -> Result<(Tensor, Tensor)> {
        self.check(what, x, context)?;
        let context = context.filter(|_| self.field.context() > 0);
        let solver = self.solver(training, x.dtype());
        // The penalty is for likelihood training, which maps data to the base.
        let penalty = if training && times[0] < times[1] { self.settings.penalty } else { Penalty::default() };
        let end_time = self.root.as_ref().map(Tensor::sqr).transpose()?;
        if x.device().is_cpu() && self.settings.gradient != Gradient::Plain {
            let gradient = self.settings.gradient;
            let row_steps = self.settings.row_steps;
            let job = Job { field: &self.field, solver, row_steps, times, end_time, gradient, probe, penalty };
            return solve(job, x, context, &self.cost);
        }
        let (fixed, span) = (times[0].min(times[1]), (times[1] - times[0]).abs());
        // The span divided by its current value: 1, with the gradient of the end time.
        let now = self.end_time()?;
        let share = |end_time: Tensor| end_time.reshape(())?.affine(1.0 / span, 1.0 - now / span);
        let share = end_time.map(share).transpose()?;
        let f = |t: f64, (z, _): &(Tensor, Tensor)| {
            let Some(share) = &share else { return composed(self.field(), t, z, context, &probe, penalty) };
            let t = share.affine(t - fixed, fixed)?;
            let (value, divergence) = composed_at(self.field(), &t, z, context, &probe, penalty)?;
            Ok((value.broadcast_mul(share)?, divergence.broadcast_mul(share)?))
        };
        let start = (x.clone(), Tensor::zeros(x.dim(0)?, x.dtype(), x.device())?);
        let begun = Instant::now();
        let solution = solver.run(f, start, &times, End::Exact, &mut |_| ())?.finished()?;
        let mut cost = self.cost.lock().unwrap_or_else(PoisonError::into_inner);
        cost.add_forward(&solution.stats, times);
        cost.seconds_forward += begun.elapsed().as_secs_f64();
        drop(cost);
        solution.states.into_iter().next_back().ok_or_else(|| Error::Internal("a solve returned no states".into()))
    }
}

impl Cnf {
    /// Maps in one direction for training, with the probe of the settings and a random end time if `steer` is set.
    fn run_training(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        rng: &mut Rng,
    ) -> Result<(Tensor, Tensor)> {
        let what = name(direction);
        self.check(what, input, context)?;
        let probe = match (self.settings.divergence, self.field.bottleneck()) {
            (divergence @ Divergence::BottleneckGaussian, Some(parts)) => {
                let shape = (input.dim(0)?, parts.width());
                divergence.draw(&Tensor::zeros(shape, input.dtype(), input.device())?, rng)?
            }
            (divergence, _) => divergence.draw(input, rng)?,
        };
        let (end_time, steer) = (self.end_time()?, self.settings.steer);
        if steer >= end_time {
            let message = "lower `steer`, or set `train_end_time = false`";
            return Err(Error::Diverged(format!(
                "the end time has become {end_time}, but `steer` is {steer}: {message}"
            )));
        }
        let end_time = if steer == 0.0 { end_time } else { end_time + steer * (2.0 * rng.uniform() - 1.0) };
        self.run(what, input, context, times(direction, end_time), (probe, true)).map_err(|error| match error {
            Error::Diverged(message) => Error::Diverged(format!(
                "{message}. If training has led to this, lower the learning rate, clip the gradients \
                 (`clip_norm`), or smooth the field (`penalty`)"
            )),
            error => error,
        })
    }
}

/// The name of the input of a direction, for error messages.
fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "the latent of a continuous flow",
        Direction::Inverse => "the data of a continuous flow",
    }
}

/// The first and last time of a solve: 0 at the data, the end time at the base.
fn times(direction: Direction, end_time: f64) -> [f64; 2] {
    match direction {
        Direction::Forward => [end_time, 0.0],
        Direction::Inverse => [0.0, end_time],
    }
}

impl Bijector for Cnf {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        match mode.rng() {
            Some(rng) => self.run_training(direction, input, context, rng),
            None => {
                let times = times(direction, self.end_time()?);
                self.run(name(direction), input, context, times, (Probe::Basis, false))
            }
        }
    }

    fn structure(&self) -> Structure {
        let CnfSettings { end_time, solver, .. } = &self.settings;
        let trained = if self.root.is_some() { " (trained)" } else { "" };
        Structure::new("Cnf", format!("time 0 to {end_time}{trained}, {}", solver.method))
            .weights(&self.root)
            .part(self.field.structure())
    }
}
