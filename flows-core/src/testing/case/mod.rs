//! The checks that every bijector must pass, each over a [`Case`].

use super::{close, perturb};
use crate::bijectors::Bijector;
use crate::files::{load_model, save_model};
use crate::nn::{Parameters, Scope};
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Tensor};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

mod batches;
mod devices;
mod exactness;
mod extremes;
mod training;

const CPU: &Device = &Device::Cpu;

/// A named bijector for the checks that every bijector must pass, which run together by [`Case::all`] or one by one; an
/// error says which check failed, where, and how large the error is.
///
/// ```
/// use flows_core::{bijectors::Triangular, testing::Case};
/// let case = Case::new("triangular", |scope| Ok(Box::new(Triangular::new(3, scope)?)));
/// case.round_trip()?;
/// case.derivatives()?;
/// # Ok::<(), flows_core::Error>(())
/// ```
pub struct Case {
    name: String,
    build: Build,
    context: Option<Vec<usize>>,
    domain: (f64, f64),
    noise: f64,
    tolerances: Tolerances,
    overflows: bool,
}

/// The largest errors allowed, as [`difference`](super::difference) measures them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    /// Values, log-determinants and recomputed gradients in f64; 1e-9 by default. A thousandth of it applies where only
    /// the layout in memory differs.
    pub double: f64,
    /// Values and log-determinants in f32; 1e-4 by default. A tenth of it applies where only other rows differ.
    pub single: f64,
    /// Gradients against central differences, which are taken in f64; 1e-7 by default.
    pub gradient: f64,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self { double: 1e-9, single: 1e-4, gradient: 1e-7 }
    }
}

impl Tolerances {
    /// The tolerance of values and log-determinants of this type.
    fn of(&self, dtype: DType) -> f64 {
        if dtype == DType::F64 { self.double } else { self.single }
    }
}

type Check = fn(&Case, &Path) -> Result<()>;

/// The checks that [`Case::all`] runs.
const CHECKS: [(&str, Check); 11] = [
    ("round_trip", |case, _| case.round_trip()),
    ("derivatives", |case, _| case.derivatives()),
    ("precisions_agree", |case, _| case.precisions_agree()),
    ("every_weight_learns", |case, _| case.every_weight_learns()),
    ("trains", |case, _| case.trains()),
    ("recomputes", |case, _| case.recomputes()),
    ("rows_are_independent", |case, _| case.rows_are_independent()),
    ("extremes_stay_in_their_row", |case, _| case.extremes_stay_in_their_row()),
    ("wrong_shapes_are_errors", |case, _| case.wrong_shapes_are_errors()),
    ("saves_and_loads", Case::saves_and_loads),
    ("structure_counts", |case, _| case.structure_counts()),
];

type Build = Box<dyn Fn(&Scope) -> Result<Box<dyn Bijector>> + Send + Sync>;
type Pass<'a> = &'a dyn Fn(&Tensor, Option<&Tensor>) -> Result<(Tensor, Tensor)>;

impl Case {
    /// The bijector that `build` makes.
    pub fn new(
        name: impl Into<String>,
        build: impl Fn(&Scope) -> Result<Box<dyn Bijector>> + Send + Sync + 'static,
    ) -> Self {
        let build: Build = Box::new(build);
        let domain = (f64::NEG_INFINITY, f64::INFINITY);
        let tolerances = Tolerances::default();
        Self { name: name.into(), build, context: None, domain, noise: 0.2, tolerances, overflows: false }
    }

    /// The same, with a context that has this shape in each row.
    pub fn given(self, context: impl Into<Vec<usize>>) -> Self {
        Self { context: Some(context.into()), ..self }
    }

    /// The same, with latent points whose elements lie in [`low`, `high`].
    pub fn within(self, low: f64, high: f64) -> Self {
        Self { domain: (low, high), ..self }
    }

    /// The same, with this standard deviation of the noise that is added to the initial weights
    /// (0.2 by default).
    pub fn noise(self, noise: f64) -> Self {
        Self { noise, ..self }
    }

    /// The same with these bounds.
    pub fn tolerances(self, tolerances: Tolerances) -> Self {
        Self { tolerances, ..self }
    }

    /// The same, with this bound on the difference between gradients and central differences.
    pub fn gradient_tolerance(self, gradient: f64) -> Self {
        let tolerances = Tolerances { gradient, ..self.tolerances };
        Self { tolerances, ..self }
    }

    /// The same, for a bijector with an unbounded scale, which may overflow at inputs of 1e30.
    pub fn overflows(self) -> Self {
        Self { overflows: true, ..self }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs every check; files are written to `folder`, which should be a temporary one.
    ///
    /// # Errors
    /// When checks fail: the message names each of them on a line of its own.
    pub fn all(&self, folder: &Path) -> Result<()> {
        let failed = |(name, check): &(&str, Check)| Some(format!("{name}: {}", check(self, folder).err()?));
        let failed: Vec<String> = CHECKS.iter().filter_map(failed).collect();
        require(failed.is_empty(), || failed.join("\n"))
    }

    /// The bijector with noise added to its initial weights, and its parameters.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn model(&self, dtype: DType) -> Result<(Box<dyn Bijector>, Parameters)> {
        let (bijector, parameters) = self.fresh(dtype, 3)?;
        perturb(&parameters, self.noise, &mut Rng::seed(5))?;
        Ok((bijector, parameters))
    }

    fn fresh(&self, dtype: DType, seed: u64) -> Result<(Box<dyn Bijector>, Parameters)> {
        let parameters = Parameters::new(dtype, CPU, Rng::seed(seed));
        Ok(((self.build)(&parameters.scope())?, parameters))
    }

    /// `rows` latent points. In each of the first rows all elements are the same number, one at which something may
    /// change, if it lies in the domain.
    fn latent(&self, bijector: &dyn Bijector, rows: usize, dtype: DType) -> Result<Tensor> {
        const MARKS: [f64; 5] = [0.0, -3.0, 3.0, 1.0, 1e-9];
        let (low, high) = self.domain;
        let n: usize = bijector.latent_shape().iter().product();
        let mut rng = Rng::seed(7);
        let values = (0..rows * n).map(|i| {
            let draw = 1.5 * rng.normal();
            let draw = if rows > 2 * MARKS.len() { MARKS.get(i / n.max(1)).copied().unwrap_or(draw) } else { draw };
            // Clamping would put many draws on the ends of the domain.
            if low.is_finite() && !(low..=high).contains(&draw) {
                low + (high - low) * rng.uniform()
            } else {
                draw.clamp(low, high)
            }
        });
        let shape = [&[rows], bijector.latent_shape()].concat();
        Ok(Tensor::from_vec(values.collect::<Vec<_>>(), shape, CPU)?.to_dtype(dtype)?)
    }

    fn context(&self, rows: usize, dtype: DType) -> Result<Option<Tensor>> {
        let shape = self.context.as_ref().map(|shape| [&[rows], &shape[..]].concat());
        shape.map(|shape| Rng::seed(9).normal_tensor(shape, dtype, CPU)).transpose()
    }

    /// A model that loads the file of another, written to `folder`, gives the same results to the bit.
    ///
    /// # Errors
    /// When it does not.
    pub fn saves_and_loads(&self, folder: &Path) -> Result<()> {
        const ROWS: usize = 5;
        // Other cases may be writing to the folder.
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        let path = folder.join(format!("{:016x}.safetensors", hasher.finish()));
        for dtype in [DType::F32, DType::F64] {
            let (saved, parameters) = self.model(dtype)?;
            save_model(&path, "case", "{}", &parameters.tensors())?;
            let (loaded, other) = self.fresh(dtype, 4)?;
            other.load(&load_model(&path)?.tensors)?;
            let (z, context) = (self.latent(&*saved, ROWS, dtype)?, self.context(ROWS, dtype)?);
            let (x, context) = (saved.forward(&z, context.as_ref())?, context.as_ref());
            let pairs =
                [(&x, loaded.forward(&z, context)?), (&saved.inverse(&x.0, context)?, loaded.inverse(&x.0, context)?)];
            for (a, b) in pairs {
                close("value after a load", &a.0, &b.0, 0.0)?;
                close("log-determinant after a load", &a.1, &b.1, 0.0)?;
            }
        }
        Ok(())
    }

    /// The structure has a description and the right number of parameters.
    ///
    /// # Errors
    /// When it does not.
    pub fn structure_counts(&self) -> Result<()> {
        let (bijector, parameters) = self.model(DType::F32)?;
        let (structure, count) = (bijector.structure(), parameters.count());
        require(!structure.to_string().trim().is_empty(), || "the structure is empty".into())?;
        require(structure.total() == count, || {
            format!("the structure counts {} of {count} parameters:\n{structure}", structure.total())
        })
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

fn all_finite(t: &Tensor) -> Result<bool> {
    Ok(t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?.iter().all(|v| v.is_finite()))
}

fn require(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Config(message())) }
}

/// Runs a check on each case, on all threads.
///
/// ```
/// use flows_core::bijectors::{Order, Permutation, Triangular};
/// use flows_core::testing::{Case, each};
/// let cases = [
///     Case::new("triangular", |scope| Ok(Box::new(Triangular::new(3, scope)?))),
///     Case::new("reversal", |scope| Ok(Box::new(Permutation::new(&[3], Order::Reverse, scope)?))),
/// ];
/// each(&cases, Case::wrong_shapes_are_errors)?;
/// # Ok::<(), flows_core::Error>(())
/// ```
///
/// # Errors
/// When it fails for some cases: the message names all of them.
pub fn each(cases: &[Case], check: impl Fn(&Case) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failed = Vec::new();
        while let Some((i, case)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, cases.get(i)?))) {
            failed.extend(check(case).err().map(|error| (i, format!("{}: {error}", case.name))));
        }
        failed
    };
    // Threads, not tasks of a pool: a task that waits may run another one on its own stack, and these need deep stacks.
    let threads = thread::available_parallelism().map_or(1, |n| n.get()).min(cases.len());
    let mut failed: Vec<(usize, String)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.flat_map(|failed| failed.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    failed.sort();
    require(failed.is_empty(), || {
        let lines: Vec<String> = failed.iter().map(|(_, line)| line.replace('\n', "\n    ")).collect();
        format!("{} of {} fail:\n{}", failed.len(), cases.len(), lines.join("\n"))
    })
}
