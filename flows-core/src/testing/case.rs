//! The checks that every bijector must pass, each over a [`Case`].

use super::{difference, perturb};
use crate::bijectors::Bijector;
use crate::files::{load_model, save_model};
use crate::nn::{Parameters, Scope};
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Tensor};
use std::path::Path;

mod batches;
mod devices;
mod exactness;
mod training;

const CPU: &Device = &Device::Cpu;

/// A named bijector for the checks of this module, which every bijector must pass; an error says what
/// does not hold, and by how much.
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
    gradient: f64,
    overflows: bool,
}

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
        Self { name: name.into(), build, context: None, domain, noise: 0.2, gradient: 1e-7, overflows: false }
    }

    /// The same, needing a context of this shape a row.
    pub fn given(self, context: impl Into<Vec<usize>>) -> Self {
        Self { context: Some(context.into()), ..self }
    }

    /// The same, for z with elements of [`low`, `high`] alone.
    pub fn within(self, low: f64, high: f64) -> Self {
        Self { domain: (low, high), ..self }
    }

    /// The same, with this standard deviation of the noise that takes the weights off their start
    /// (0.2 if not said).
    pub fn noise(self, noise: f64) -> Self {
        Self { noise, ..self }
    }

    /// The same, with this bound on the difference between gradients and central differences (1e-7
    /// if not said).
    pub fn gradient_tolerance(self, gradient: f64) -> Self {
        Self { gradient, ..self }
    }

    /// The same, for a scale without a bound, which may overflow at inputs of 1e30.
    pub fn overflows(self) -> Self {
        Self { overflows: true, ..self }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bijector with weights off their start, and its parameters.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn model(&self, dtype: DType) -> Result<(Box<dyn Bijector>, Parameters)> {
        let (bijector, parameters) = self.fresh(dtype, 3)?;
        perturb(&parameters, self.noise, &mut Rng::seed(5))?;
        Ok((bijector, parameters))
    }

    fn fresh(&self, dtype: DType, seed: u64) -> Result<(Box<dyn Bijector>, Parameters)> {
        let parameters = Parameters::new(dtype, CPU, Rng::seed(seed));
        Ok(((self.build)(&parameters.scope())?, parameters))
    }

    /// `rows` latent points; the first rows are all of one number each: 0 and, where they are within
    /// the domain, numbers at which something may change.
    fn latent(&self, bijector: &dyn Bijector, rows: usize, dtype: DType) -> Result<Tensor> {
        const MARKS: [f64; 5] = [0.0, -3.0, 3.0, 1.0, 1e-9];
        let (low, high) = self.domain;
        let n: usize = bijector.latent_shape().iter().product();
        let mut rng = Rng::seed(7);
        let values = (0..rows * n).map(|i| {
            let draw = 1.5 * rng.normal();
            let draw = if rows > 2 * MARKS.len() { MARKS.get(i / n.max(1)).copied().unwrap_or(draw) } else { draw };
            // Many draws outside of the domain would fall on its ends.
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

    /// A model that loads another's file in `folder` gives the same numbers to the bit.
    ///
    /// # Errors
    /// When it does not.
    pub fn saves_and_loads(&self, folder: &Path) -> Result<()> {
        const ROWS: usize = 5;
        let path = folder.join("model.safetensors");
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

    /// The structure says something and counts the weights that there are.
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

/// Fails unless `a` and `b` differ by no more than `tolerance`, as [`difference`] has it.
fn close(what: &str, a: &Tensor, b: &Tensor, tolerance: f64) -> Result<()> {
    let d = difference(a, b)?;
    require(d <= tolerance, || format!("{what}: a difference of {d:e}, more than {tolerance:e}"))
}
