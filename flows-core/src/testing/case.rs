//! The checks that every bijector must pass, each over a [`Case`].

use super::{difference, measure, perturb};
use crate::bijectors::{Bijector, Sweep, add_gradients, leaf};
use crate::files::{load_model, save_model};
use crate::nn::{Parameters, Scope};
use crate::ops::Direction;
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use std::collections::HashMap;
use std::path::Path;

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

    /// Both directions undo each other at 10,000 random points and their log-determinants are
    /// opposite, within 1e-9 in f64 and 1e-4 in f32.
    ///
    /// # Errors
    /// When that does not hold.
    pub fn round_trip(&self) -> Result<()> {
        const ROWS: usize = 10_000;
        for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 1e-4)] {
            let (bijector, _) = self.model(dtype)?;
            let (z, context) = (self.latent(&*bijector, ROWS, dtype)?, self.context(ROWS, dtype)?);
            let (x, forward) = bijector.forward(&z, context.as_ref())?;
            let (back, inverse) = bijector.inverse(&x, context.as_ref())?;
            let shapes = (x.dims() == [&[ROWS], bijector.data_shape()].concat(), x.dtype(), forward.dtype());
            require(shapes == (true, dtype, dtype), || format!("x is {x:?}, its log-determinant {forward:?}"))?;
            close(&format!("z there and back in {dtype:?}"), &z, &back, tolerance)?;
            close(&format!("log-determinants in {dtype:?}"), &forward, &inverse.neg()?, tolerance)?;
            let again = bijector.forward(&back, context.as_ref())?.0;
            close(&format!("x there and back in {dtype:?}"), &x, &again, tolerance)?;
        }
        Ok(())
    }

    /// Log-determinants are those of autograd's Jacobian, within 1e-9, and gradients those of
    /// central differences, in both directions.
    ///
    /// # Errors
    /// When that does not hold, or a weight has no gradient.
    pub fn derivatives(&self) -> Result<()> {
        const ROWS: usize = 4;
        let (bijector, parameters) = self.model(DType::F64)?;
        let (z, context) = (self.latent(&*bijector, ROWS, DType::F64)?, self.context(ROWS, DType::F64)?);
        let report = measure(&*bijector, &parameters, &z, context.as_ref(), &mut Rng::seed(1))?;
        let exact = report.forward_log_det.max(report.inverse_log_det).max(report.consistency);
        let gradient = report.forward_gradient.max(report.inverse_gradient);
        require(exact <= 1e-9 && gradient <= self.gradient, || format!("{report:?}"))
    }

    /// Every weight gets a finite gradient from the likelihood, in f32 and f64.
    ///
    /// # Errors
    /// When one does not; the message names it.
    pub fn every_weight_learns(&self) -> Result<()> {
        const ROWS: usize = 8;
        for dtype in [DType::F32, DType::F64] {
            let (bijector, parameters) = self.model(dtype)?;
            let context = self.context(ROWS, dtype)?;
            let x = bijector.forward(&self.latent(&*bijector, ROWS, dtype)?, context.as_ref())?.0.detach();
            let (z, log_det) = bijector.inverse_training(&x, context.as_ref(), &mut Rng::seed(0))?;
            let gradients = (z.sqr()?.sum_all()? - log_det.sum_all()?)?.backward();
            let gradients = if parameters.count() == 0 { continue } else { gradients? };
            for (name, var) in parameters.trainable() {
                let finite = gradients.get(&var).map(all_finite).transpose()?;
                require(finite == Some(true), || {
                    format!("`{name}` has {} gradient", if finite.is_none() { "no" } else { "a non-finite" })
                })?;
            }
        }
        Ok(())
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

    /// A row's result does not depend on the rows beside it, nor on how the batch lies in memory.
    ///
    /// # Errors
    /// When it does.
    pub fn rows_are_independent(&self) -> Result<()> {
        const ROWS: usize = 7;
        let (bijector, _) = self.model(DType::F64)?;
        let (z, context) = (self.latent(&*bijector, ROWS, DType::F64)?, self.context(ROWS, DType::F64)?);
        let x = bijector.forward(&z, context.as_ref())?.0;
        let passes: [(&str, &Tensor, Pass<'_>); 2] =
            [("forward", &z, &|z, c| bijector.forward(z, c)), ("inverse", &x, &|x, c| bijector.inverse(x, c))];
        for (name, at, pass) in passes {
            let (value, log_det) = pass(at, context.as_ref())?;
            for row in [0, ROWS - 1] {
                let alone = context.as_ref().map(|c| c.narrow(0, row, 1)).transpose()?;
                let (one, one_log_det) = pass(&at.narrow(0, row, 1)?, alone.as_ref())?;
                close(&format!("{name} of a batch of 1"), &value.narrow(0, row, 1)?, &one, 1e-9)?;
                close(&format!("{name} of a batch of 1"), &log_det.narrow(0, row, 1)?, &one_log_det, 1e-9)?;
            }
            let last = at.rank() - 1;
            let scattered = at.transpose(0, last)?.contiguous()?.transpose(0, last)?;
            let (other, other_log_det) = pass(&scattered, context.as_ref())?;
            close(&format!("{name} of a transposed batch"), &value, &other, 1e-12)?;
            close(&format!("{name} of a transposed batch"), &log_det, &other_log_det, 1e-12)?;
            let none = at.narrow(0, 0, 0)?;
            if let Ok((value, log_det)) = pass(&none, self.context(0, DType::F64)?.as_ref()) {
                require((value.dim(0)?, log_det.dims()) == (0, &[0]), || format!("{name} of no row: {value:?}"))?;
            }
        }
        Ok(())
    }

    /// Wrong shapes, a wrong context and a missing one are errors.
    ///
    /// # Errors
    /// When one is not.
    pub fn wrong_shapes_are_errors(&self) -> Result<()> {
        const ROWS: usize = 3;
        let (bijector, _) = self.model(DType::F32)?;
        let context = self.context(ROWS, DType::F32)?;
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, CPU);
        let passes: [(&str, &[usize], Pass<'_>); 4] = [
            ("forward", bijector.latent_shape(), &|z, c| bijector.forward(z, c)),
            ("inverse", bijector.data_shape(), &|x, c| bijector.inverse(x, c)),
            ("inverse_training", bijector.data_shape(), &|x, c| bijector.inverse_training(x, c, &mut Rng::seed(0))),
            ("initialize", bijector.data_shape(), &|x, c| Ok((bijector.initialize(x, c)?, x.clone()))),
        ];
        for (name, event, pass) in passes {
            let batch = [&[ROWS], event].concat();
            let mut shapes = vec![event.to_vec(), [&[ROWS, 1], event].concat(), [&batch[..], &[1]].concat()];
            for axis in 1..batch.len() {
                for size in [0, batch[axis] + 1] {
                    let mut shape = batch.clone();
                    shape[axis] = size;
                    shapes.push(shape);
                }
            }
            for shape in shapes {
                let passed = pass(&zeros(&shape)?, context.as_ref()).is_ok();
                require(!passed, || format!("{name} takes {shape:?}"))?;
            }
            // Of another type than the weights: whatever comes, it is not a panic.
            let _ = pass(&zeros(&batch)?.to_dtype(DType::F64)?, context.as_ref());
            let _ = pass(&zeros(&batch)?.to_dtype(DType::U32)?, context.as_ref());
            let Some(right) = &self.context else { continue };
            require(pass(&zeros(&batch)?, None).is_err(), || format!("{name} takes no context"))?;
            let wide: Vec<usize> = right.iter().map(|size| size + 1).collect();
            for wrong in
                [[&[ROWS + 1], &right[..]].concat(), [&[1], &right[..]].concat(), [&[ROWS], &wide[..]].concat()]
            {
                let passed = pass(&zeros(&batch)?, Some(&zeros(&wrong)?)).is_ok();
                require(!passed, || format!("{name} takes a context of {wrong:?}"))?;
            }
        }
        Ok(())
    }

    /// An extreme input or a NaN, in a row of the batch or of the context, changes no other row, in
    /// value or gradient; and a finite row has no NaN.
    ///
    /// # Errors
    /// When that does not hold.
    pub fn extremes_stay_in_their_row(&self) -> Result<()> {
        for dtype in [DType::F32, DType::F64] {
            let (bijector, _) = self.model(dtype)?;
            self.extremes("forward", bijector.latent_shape(), dtype, &|z, c| bijector.forward(z, c))?;
            self.extremes("inverse", bijector.data_shape(), dtype, &|x, c| bijector.inverse(x, c))?;
        }
        Ok(())
    }

    fn extremes(&self, name: &str, event: &[usize], dtype: DType, pass: Pass<'_>) -> Result<()> {
        const ROWS: usize = 3;
        let n: usize = event.iter().product();
        let calm = Rng::seed(2).uniform_tensor([&[ROWS], event].concat(), dtype, CPU)?;
        let context = self.context(ROWS, dtype)?;
        let tolerance = if dtype == DType::F64 { 1e-9 } else { 1e-5 };
        // Value, log-determinant and gradient for the input, as rows.
        let results = |at: &Tensor, context: Option<&Tensor>| -> Result<Vec<Vec<f64>>> {
            let at = Var::from_tensor(at)?;
            let (value, log_det) = pass(&at, context)?;
            let gradients = (value.sum_all()? + log_det.sum_all()?)?.backward()?;
            let gradient = gradients.get(&at).map_or_else(|| at.zeros_like(), |g| Ok(g.clone()))?;
            let parts = [value.reshape((ROWS, n))?, log_det.unsqueeze(1)?, gradient.reshape((ROWS, n))?];
            Ok(Tensor::cat(&parts, 1)?.to_dtype(DType::F64)?.to_vec2()?)
        };
        let usual = results(&calm, context.as_ref())?;
        let same = |what: &str, got: &[Vec<f64>]| {
            [0, 2].into_iter().try_for_each(|row| {
                let pairs = usual[row].iter().zip(&got[row]);
                let worst = pairs.map(|(a, b)| (a - b).abs() / a.abs().max(1.0));
                // Written so that a NaN fails.
                let holds = worst.clone().all(|d| d <= tolerance);
                require(holds, || format!("{name}: {what} in row 1 changes row {row}: {:?}", got[row]))
            })
        };
        let denormal = if dtype == DType::F64 { 5e-324 } else { 1e-45 };
        for bad in [0.0, denormal, 1e30, -1e30, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            for element in [0, n - 1] {
                let mut values: Vec<f64> = calm.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
                values[n + element] = bad;
                let at = Tensor::from_vec(values, calm.shape().clone(), CPU)?.to_dtype(dtype)?;
                let got = results(&at, context.as_ref())?;
                same(&format!("{bad} ({dtype:?})"), &got)?;
                // The derivative at 1e30 may be beyond f32, the value is not.
                let large = bad.abs() > 1.0;
                let parts = if large { &got[1][..=n] } else { &got[1][..] };
                let fine = !bad.is_finite() || self.overflows && large || parts.iter().all(|v| !v.is_nan());
                require(fine, || format!("{name}: {bad} ({dtype:?}) gives {:?}", got[1]))?;
            }
        }
        let Some(context) = context else { return Ok(()) };
        for bad in [1e30, f64::INFINITY, f64::NAN] {
            let row = (context.narrow(0, 1, 1)?.zeros_like()? + bad)?;
            let context = Tensor::cat(&[&context.narrow(0, 0, 1)?, &row, &context.narrow(0, 2, 1)?], 0)?;
            same(&format!("a context of {bad} ({dtype:?})"), &results(&calm, Some(&context))?)?;
        }
        Ok(())
    }

    /// The results in f32 are those in f64, within 1e-4, where the weights are the same.
    ///
    /// # Errors
    /// When they are not.
    pub fn precisions_agree(&self) -> Result<()> {
        const ROWS: usize = 100;
        let (single, parameters) = self.model(DType::F32)?;
        let (double, other) = self.fresh(DType::F64, 4)?;
        other.load(&parameters.tensors().into_iter().collect())?;
        let z = self.latent(&*single, ROWS, DType::F32)?;
        let context = self.context(ROWS, DType::F32)?;
        let wide = context.as_ref().map(|c| c.to_dtype(DType::F64)).transpose()?;
        let (x, log_det) = single.forward(&z, context.as_ref())?;
        let (want, want_log_det) = double.forward(&z.to_dtype(DType::F64)?, wide.as_ref())?;
        close("x in f32 and f64", &want, &x, 1e-4)?;
        close("forward's log-determinant in f32 and f64", &want_log_det, &log_det, 1e-4)?;
        let (z, log_det) = single.inverse(&x, context.as_ref())?;
        let (want, want_log_det) = double.inverse(&x.to_dtype(DType::F64)?, wide.as_ref())?;
        close("z in f32 and f64", &want, &z, 1e-4)?;
        close("inverse's log-determinant in f32 and f64", &want_log_det, &log_det, 1e-4)
    }

    /// A seed makes the passes of training; initialization gives the z that the inverse then gives.
    ///
    /// # Errors
    /// When that does not hold.
    pub fn trains(&self) -> Result<()> {
        const ROWS: usize = 16;
        for dtype in [DType::F32, DType::F64] {
            let (bijector, parameters) = self.fresh(dtype, 3)?;
            let context = self.context(ROWS, dtype)?;
            let x = bijector.forward(&self.latent(&*bijector, ROWS, dtype)?, context.as_ref())?.0;
            let latent = [&[ROWS], bijector.latent_shape()].concat();
            let z = bijector.initialize(&x, context.as_ref())?;
            require(z.dims() == latent, || format!("initialize gives {:?}", z.dims()))?;
            let tolerance = if dtype == DType::F64 { 1e-9 } else { 1e-4 };
            close("initialize and inverse", &z, &bijector.inverse(&x, context.as_ref())?.0, tolerance)?;
            close("initialize again", &z, &bijector.initialize(&x, context.as_ref())?, tolerance)?;
            // Whatever a pass saves (running statistics, singular vectors) must not change this one.
            let before = parameters.snapshot()?;
            let (z, log_det) = bijector.inverse_training(&x, context.as_ref(), &mut Rng::seed(8))?;
            require(z.dims() == latent && log_det.dims() == [ROWS], || format!("{z:?} in training"))?;
            require(all_finite(&z)? && all_finite(&log_det)?, || "not finite in training".into())?;
            parameters.load(&before.into_iter().collect())?;
            let (again, again_log_det) = bijector.inverse_training(&x, context.as_ref(), &mut Rng::seed(8))?;
            close("training with a seed", &z, &again, 0.0)?;
            close("training with a seed", &log_det, &again_log_det, 0.0)?;
        }
        Ok(())
    }

    /// A pass that keeps no activations gives the values and, on its way back, the gradients of one
    /// that does, for weights, input and context, and leaves the same in buffers and generator.
    ///
    /// # Errors
    /// When it does not.
    pub fn recomputes(&self) -> Result<()> {
        const ROWS: usize = 6;
        let (bijector, parameters) = self.model(DType::F64)?;
        let before: HashMap<_, _> = parameters.snapshot()?.into_iter().collect();
        let z = self.latent(&*bijector, ROWS, DType::F64)?;
        let context = self.context(ROWS, DType::F64)?.map(|context| Var::from_tensor(&context)).transpose()?;
        let given = context.as_ref().map(Var::as_tensor);
        let x = bijector.forward(&z, given)?.0;
        for (direction, at, training) in
            [(Direction::Forward, &z, false), (Direction::Inverse, &x, false), (Direction::Inverse, &x, true)]
        {
            let at = leaf(at)?;
            let mut rng = Rng::seed(8);
            let mut other = rng.clone();
            parameters.load(&before)?;
            let (value, log_det) = match direction {
                Direction::Forward => bijector.forward(&at, given)?,
                Direction::Inverse if training => bijector.inverse_training(&at, given, &mut rng)?,
                Direction::Inverse => bijector.inverse(&at, given)?,
            };
            let mut draw = Rng::seed(1);
            let mut like = |t: &Tensor| draw.normal_tensor(t.shape().clone(), DType::F64, CPU);
            let (of_value, of_log_det) = (like(&value)?, like(&log_det)?);
            let mut stored = GradStore::default();
            add_gradients(&((&value * &of_value)?.sum_all()? + (&log_det * &of_log_det)?.sum_all()?)?, &mut stored)?;
            let after = parameters.snapshot()?;

            parameters.load(&before)?;
            let pass = bijector.pass(direction, &at, given, training.then_some(&mut other))?;
            close("the value of a pass", &value, &pass.value, 0.0)?;
            close("the log-determinant of a pass", &log_det, &pass.log_det, 0.0)?;
            let mut gradients = GradStore::default();
            let mut sweep = Sweep { log_det: &of_log_det, context: given, gradients: &mut gradients };
            let of_input = (pass.back)(of_value, &mut sweep)?;
            gradients.insert(&at, of_input);
            for ((name, tensor), (_, again)) in after.iter().zip(parameters.tensors()) {
                close(&format!("`{name}` after a pass"), tensor, &again, 0.0)?;
            }
            require(rng == other, || "another generator after a pass".into())?;
            let inputs = [("the input", Some(&at)), ("the context", context.as_ref())];
            let inputs = inputs.into_iter().filter_map(|(name, var)| Some((name.to_string(), var?.clone())));
            for (name, var) in parameters.trainable().into_iter().chain(inputs) {
                let get = |store: &GradStore| store.get(&var).cloned().map_or_else(|| var.zeros_like(), Ok);
                close(&format!("the gradient for `{name}` in {direction:?}"), &get(&stored)?, &get(&gradients)?, 1e-9)?;
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
