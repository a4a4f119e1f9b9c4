//! Checks of what a batch may be, and of the independence of its rows.

use super::{CPU, Case, Pass, close, require};
use crate::bijectors::{Direction, Mode};
use crate::testing::Entry;
use crate::{Error, Result, Rng};
use candle_core::{DType, Tensor, Var};

/// The rows of a batch whose second row gets an extreme number.
const EXTREME_ROWS: usize = 3;

impl Case {
    /// A row's result depends neither on the other rows nor on the layout of the batch in memory.
    ///
    /// # Errors
    /// When it does.
    pub fn rows_are_independent(&self) -> Result<()> {
        const ROWS: usize = 7;
        let tolerance = self.tolerances.double;
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
                close(&format!("{name} of a batch of 1"), &value.narrow(0, row, 1)?, &one, tolerance)?;
                close(&format!("{name} of a batch of 1"), &log_det.narrow(0, row, 1)?, &one_log_det, tolerance)?;
            }
            let last = at.rank() - 1;
            let scattered = at.transpose(0, last)?.contiguous()?.transpose(0, last)?;
            let (other, other_log_det) = pass(&scattered, context.as_ref())?;
            close(&format!("{name} of a transposed batch"), &value, &other, 1e-3 * tolerance)?;
            close(&format!("{name} of a transposed batch"), &log_det, &other_log_det, 1e-3 * tolerance)?;
            let none = at.narrow(0, 0, 0)?;
            if let Ok((value, log_det)) = pass(&none, self.context(0, DType::F64)?.as_ref()) {
                require((value.dim(0)?, log_det.dims()) == (0, &[0]), || {
                    format!("{name} of an empty batch: {value:?}")
                })?;
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
            ("inverse in training", bijector.data_shape(), &|x, c| {
                bijector.map(Direction::Inverse, x, c, &mut Mode::training(&mut Rng::seed(0)))
            }),
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
                require(!passed, || format!("{name} accepts {shape:?}"))?;
            }
            // A type other than that of the weights may be an error, but must not be a panic.
            let _ = pass(&zeros(&batch)?.to_dtype(DType::F64)?, context.as_ref());
            let _ = pass(&zeros(&batch)?.to_dtype(DType::U32)?, context.as_ref());
            let Some(right) = &self.context else { continue };
            require(pass(&zeros(&batch)?, None).is_err(), || format!("{name} accepts a missing context"))?;
            let wide: Vec<usize> = right.iter().map(|size| size + 1).collect();
            for wrong in
                [[&[ROWS + 1], &right[..]].concat(), [&[1], &right[..]].concat(), [&[ROWS], &wide[..]].concat()]
            {
                let passed = pass(&zeros(&batch)?, Some(&zeros(&wrong)?)).is_ok();
                require(!passed, || format!("{name} accepts a context of {wrong:?}"))?;
            }
        }
        Ok(())
    }

    /// An extreme input or a NaN, in a row of the batch or of the context, changes neither values nor gradients of
    /// other rows; and the results of a finite row have no NaN.
    ///
    /// # Errors
    /// When that does not hold.
    pub fn extremes_stay_in_their_row(&self) -> Result<()> {
        for dtype in [DType::F32, DType::F64] {
            let (bijector, _) = self.model(dtype)?;
            let (z, context) = (self.latent(&*bijector, EXTREME_ROWS, dtype)?, self.context(EXTREME_ROWS, dtype)?);
            let x = bijector.forward(&z, context.as_ref())?.0.detach();
            self.extremes("forward", &z, &|z, c| bijector.forward(z, c))?;
            self.extremes("inverse", &x, &|x, c| bijector.inverse(x, c))?;
        }
        Ok(())
    }

    fn extremes(&self, name: &str, calm: &Tensor, pass: Pass<'_>) -> Result<()> {
        let (rows, dtype) = (EXTREME_ROWS, calm.dtype());
        let n = calm.elem_count() / rows;
        let context = self.context(rows, dtype)?;
        let tolerance = if dtype == DType::F64 { self.tolerances.double } else { 0.1 * self.tolerances.single };
        // Value, log-determinant and gradient with respect to the input, row by row.
        let results = |at: &Tensor, context: Option<&Tensor>| -> Result<Vec<Vec<f64>>> {
            let at = Var::from_tensor(at)?;
            let (value, log_det) = pass(&at, context)?;
            let gradients = (value.sum_all()? + log_det.sum_all()?)?.backward()?;
            let gradient = gradients.get(&at).map_or_else(|| at.zeros_like(), |g| Ok(g.clone()))?;
            let parts = [value.reshape((rows, n))?, log_det.unsqueeze(1)?, gradient.reshape((rows, n))?];
            Ok(Tensor::cat(&parts, 1)?.to_dtype(DType::F64)?.to_vec2()?)
        };
        let part = |i: usize| match i {
            i if i < n => format!("element {i} of {name}"),
            i if i == n => format!("the log-determinant of {name}"),
            i => format!("the gradient of {name} with respect to element {}", i - n - 1),
        };
        let usual = results(calm, context.as_ref())?;
        let same = |what: &str, got: &[Vec<f64>]| {
            [0, 2].into_iter().try_for_each(|row| {
                usual[row].iter().zip(&got[row]).enumerate().try_for_each(|(i, (&want, &got))| {
                    let entry = format!("{what} in row 1 changes row {row}: {}", part(i));
                    Entry::of_number(entry, want, got).within(tolerance)
                })
            })
        };
        let denormal = if dtype == DType::F64 { 5e-324 } else { 1e-45 };
        for bad in [0.0, denormal, 1e30, -1e30, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            for element in [0, n - 1] {
                let mut values: Vec<f64> = calm.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
                values[n + element] = bad;
                let at = Tensor::from_vec(values, calm.shape().clone(), CPU)?.to_dtype(dtype)?;
                let got = results(&at, context.as_ref())?;
                let what = format!("{bad:e} ({dtype:?}) at element {element}");
                same(&what, &got)?;
                // At 1e30 the derivative may overflow in f32, but not the value.
                let large = bad.abs() > 1.0;
                let parts = if large { &got[1][..=n] } else { &got[1][..] };
                let nan = parts.iter().position(|v| v.is_nan());
                if let Some(i) = nan.filter(|_| bad.is_finite() && !(self.overflows && large)) {
                    return Err(Error::Config(format!("{what} gives NaN for {}", part(i))));
                }
            }
        }
        let Some(context) = context else { return Ok(()) };
        for bad in [1e30, f64::INFINITY, f64::NAN] {
            let row = (context.narrow(0, 1, 1)?.zeros_like()? + bad)?;
            let context = Tensor::cat(&[&context.narrow(0, 0, 1)?, &row, &context.narrow(0, 2, 1)?], 0)?;
            same(&format!("a context of {bad:e} ({dtype:?})"), &results(calm, Some(&context))?)?;
        }
        Ok(())
    }
}
