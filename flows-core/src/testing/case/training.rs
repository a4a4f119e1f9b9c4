//! Checks of passes in training mode and of the gradients of weights.

use super::{CPU, Case, all_finite, close, require};
use crate::bijectors::{Direction, Mode, Upstream, add_gradients, leaf, vjp};
use crate::testing::Entry;
use crate::{Result, Rng};
use candle_core::{DType, Tensor, Var, backprop::GradStore};
use std::collections::HashMap;

impl Case {
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
            let (z, log_det) =
                bijector.map(Direction::Inverse, &x, context.as_ref(), &mut Mode::training(&mut Rng::seed(0)))?;
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

    /// A pass in training mode is determined by the seed; `initialize` returns the z that the inverse then returns.
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
            let tolerance = self.tolerances.of(dtype);
            close("initialize and inverse", &z, &bijector.inverse(&x, context.as_ref())?.0, tolerance)?;
            close("initialize again", &z, &bijector.initialize(&x, context.as_ref())?, tolerance)?;
            // Both passes must start from the same buffers, which a pass may change (running statistics, singular
            // vectors).
            let before = parameters.snapshot()?;
            let (z, log_det) =
                bijector.map(Direction::Inverse, &x, context.as_ref(), &mut Mode::training(&mut Rng::seed(8)))?;
            require(z.dims() == latent && log_det.dims() == [ROWS], || format!("{z:?} in training"))?;
            require(all_finite(&z)? && all_finite(&log_det)?, || "not finite in training".into())?;
            parameters.load(&before.into_iter().collect())?;
            let (again, again_log_det) =
                bijector.map(Direction::Inverse, &x, context.as_ref(), &mut Mode::training(&mut Rng::seed(8)))?;
            close("training with a seed", &z, &again, 0.0)?;
            close("training with a seed", &log_det, &again_log_det, 0.0)?;
        }
        Ok(())
    }

    /// Recomputing activations gives the same values, the same gradients with respect to weights, input and context,
    /// and the same buffers and generator state as keeping them, in both directions, in evaluation and in training.
    ///
    /// # Errors
    /// When it does not.
    pub fn recomputes(&self) -> Result<()> {
        const ROWS: usize = 6;
        let (bijector, parameters) = self.model(DType::F64)?;
        let before: HashMap<_, _> = parameters.snapshot()?.into_iter().collect();
        let z = self.latent(&*bijector, ROWS, DType::F64)?;
        let context = self.context(ROWS, DType::F64)?.map(|context| Var::from_tensor(&context)).transpose()?;
        let x = bijector.forward(&z, context.as_ref().map(Var::as_tensor))?.0;
        for (direction, at) in [(Direction::Forward, &z), (Direction::Inverse, &x)] {
            for training in [false, true] {
                self.recomputes_in(direction, training, &leaf(at)?, context.as_ref(), &before)?;
            }
        }
        Ok(())
    }

    fn recomputes_in(
        &self,
        direction: Direction,
        training: bool,
        at: &Var,
        context: Option<&Var>,
        before: &HashMap<String, Tensor>,
    ) -> Result<()> {
        let (bijector, parameters) = self.model(DType::F64)?;
        let given = context.map(Var::as_tensor);
        let (mut rng, mut other) = (Rng::seed(8), Rng::seed(8));
        let mode = |rng| if training { Mode::training(rng) } else { Mode::evaluation() };
        parameters.load(before)?;
        let (value, log_det) = bijector.map(direction, at, given, &mut mode(&mut rng))?;
        let mut draw = Rng::seed(1);
        let mut like = |t: &Tensor| draw.normal_tensor(t.shape().clone(), DType::F64, CPU);
        let (of_value, of_log_det) = (like(&value)?, like(&log_det)?);
        let mut stored = GradStore::default();
        add_gradients(&((&value * &of_value)?.sum_all()? + (&log_det * &of_log_det)?.sum_all()?)?, &mut stored)?;
        let after = parameters.snapshot()?;

        parameters.load(before)?;
        let pass = vjp(&*bijector, direction, at, given, &mut mode(&mut other))?;
        close("the value of a pass", &value, &pass.value, 0.0)?;
        close("the log-determinant of a pass", &log_det, &pass.log_det, 0.0)?;
        let mut gradients = GradStore::default();
        let mut upstream = Upstream { log_det: &of_log_det, context: given, gradients: &mut gradients };
        let of_input = pass.backward(of_value, &mut upstream)?;
        gradients.insert(at, of_input);
        for ((name, tensor), (_, again)) in after.iter().zip(parameters.tensors()) {
            Entry::furthest(format!("`{name}` after a pass"), tensor, &again)?.of_parameter().within(0.0)?;
        }
        require(rng == other, || "the generator's state differs after a pass".into())?;
        let difference = |what: String, var: &Var| {
            let get = |store: &GradStore| store.get(var).cloned().map_or_else(|| var.zeros_like(), Ok);
            Entry::furthest(
                format!("the gradient with respect to {what} in {direction:?}"),
                &get(&stored)?,
                &get(&gradients)?,
            )
        };
        for (name, var) in parameters.trainable() {
            difference(format!("`{name}`"), &var)?.of_parameter().within(self.tolerances.double)?;
        }
        for (name, var) in [("the input", Some(at)), ("the context", context)] {
            let Some(var) = var else { continue };
            difference(name.into(), var)?.within(self.tolerances.double)?;
        }
        Ok(())
    }
}
