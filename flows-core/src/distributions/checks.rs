//! Checks and masks shared by the distributions.

use crate::bijectors::{Bounds, Support};
use crate::ops::sum_event;
use crate::shape::check_shape;
use crate::{Error, Result, Structure};
use candle_core::{DType, Tensor};

/// `ln(2 pi)`.
pub(super) const LN_2PI: f64 = 1.837_877_066_409_345_5;

/// Checks a given event shape, in which no dimension may be 0.
pub(super) fn event_shape(shape: impl Into<Vec<usize>>) -> Result<Vec<usize>> {
    let shape = shape.into();
    match shape.contains(&0) {
        true => Err(Error::Config(format!("the event shape {shape:?} is empty: no dimension may be 0"))),
        false => Ok(shape),
    }
}

/// Implements the methods for the dtype, device and structure of a distribution with parameters.
macro_rules! described {
    (|$this:ident| $name:expr, $like:expr, [$($weight:expr),*]) => {
        fn dtype(&$this) -> Option<candle_core::DType> {
            Some($like.dtype())
        }

        described!(|$this| $name, on $like, [$($weight),*]);
    };
    (|$this:ident| $name:expr, on $like:expr, [$($weight:expr),*]) => {
        fn device(&$this) -> candle_core::Device {
            $like.device().clone()
        }

        fn structure(&$this) -> crate::Structure {
            super::checks::node($name, &$this.event, [$($weight),*])
        }
    };
}

pub(super) use described;

/// The structure node of a distribution over events of this shape; only trainable tensors are counted.
pub(super) fn node<'a>(name: &str, event: &[usize], tensors: impl IntoIterator<Item = &'a Tensor>) -> Structure {
    let weights = tensors.into_iter().filter(|tensor| tensor.is_variable());
    Structure::new(name, format!("{event:?}")).weights(weights)
}

/// Fails unless `count`, which errors call `what`, is at least one.
pub(super) fn at_least_one(what: &str, count: usize) -> Result<usize> {
    if count == 0 { Err(Error::Config(format!("{what} must be at least 1"))) } else { Ok(count) }
}

/// Fails unless the dtype is f32 or f64.
pub(super) fn check_float(dtype: DType) -> Result<()> {
    match dtype {
        DType::F32 | DType::F64 => Ok(()),
        other => Err(Error::Config(format!("a distribution has dtype f32 or f64, not {other:?}"))),
    }
}

/// Fails unless two parameters have the same shape and the same floating-point dtype.
pub(super) fn check_alike(what: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    check_float(a.dtype())?;
    if a.dtype() != b.dtype() {
        return Err(Error::Config(format!("{what} is {:?}, but must be {:?}", b.dtype(), a.dtype())));
    }
    if a.shape() != b.shape() {
        return Err(Error::shape(what, b.dims(), format!("{:?}", a.dims())));
    }
    Ok(())
}

/// Fails unless every element satisfies `allowed`, which reads "must be `want`".
pub(super) fn check_values(what: &str, values: &Tensor, want: &str, allowed: impl Fn(f64) -> bool) -> Result<()> {
    match values_of(values)?.into_iter().find(|&v| !allowed(v)) {
        Some(bad) => Err(Error::Config(format!("{what} must be {want}, not {bad}"))),
        None => Ok(()),
    }
}

/// All elements in row-major order.
pub(super) fn values_of(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// The box between two tensors (event...); numbers of magnitude `far` or more are not bounds.
pub(super) fn box_of(event: &[usize], low: &Tensor, high: &Tensor, far: f64) -> Result<Support> {
    let bound = |v: f64| Some(v).filter(|v| v.abs() < far);
    let pairs = values_of(low)?.into_iter().zip(values_of(high)?);
    let bounds: Vec<Bounds> = pairs.map(|(a, b)| Bounds { lower: bound(a), upper: bound(b) }).collect();
    Ok(Support::bounded(event, bounds))
}

/// Fails if there is a context without exactly `rows` rows; a distribution that does not use it
/// ignores its values.
pub(super) fn check_rows(context: Option<&Tensor>, rows: usize) -> Result<()> {
    match context {
        Some(c) if c.dims().first() != Some(&rows) => {
            Err(Error::shape("the context", c.dims(), format!("({rows}, ..)")))
        }
        _ => Ok(()),
    }
}

/// Fails unless x is (B, event...) and a context, if any, has B rows; returns B.
pub(super) fn check_batch(x: &Tensor, event: &[usize], context: Option<&Tensor>) -> Result<usize> {
    let batch = check_shape("x", x, event)?;
    check_rows(context, batch)?;
    Ok(batch)
}

/// The shape (count, event...).
pub(super) fn batch_shape(count: usize, event: &[usize]) -> Vec<usize> {
    [&[count], event].concat()
}

/// `value` where the mask (of 0 and 1) is 0, and `constant` where it is 1.
pub(super) fn replace(value: &Tensor, mask: &Tensor, constant: f64) -> Result<Tensor> {
    let constant = Tensor::full(constant, (), value.device())?.to_dtype(value.dtype())?.broadcast_as(value.shape())?;
    Ok(mask.where_cond(&constant, value)?)
}

/// `value` where `low <= x <= high`, minus infinity outside, NaN where x is NaN; `low` and `high`
/// are (event...), the others (B, event...).
pub(super) fn restrict(value: &Tensor, x: &Tensor, low: &Tensor, high: &Tensor) -> Result<Tensor> {
    let outside = (x.broadcast_lt(low)? + x.broadcast_gt(high)?)?;
    replace(&replace(value, &outside, f64::NEG_INFINITY)?, &x.ne(x)?, f64::NAN)
}

/// The log-density (B), with NaN replaced by minus infinity where the row of x is at infinity, that is, has an
/// infinite element and no NaN. Any other NaN indicates a fault, for example in a weight, and is kept.
pub(super) fn zero_at_infinity(log_density: &Tensor, x: &Tensor) -> Result<Tensor> {
    let undefined = log_density.ne(log_density)?;
    let some = |mask: Tensor| -> Result<Tensor> { Ok(sum_event(&mask.to_dtype(DType::F32)?)?.ne(0.0)?) };
    let (infinite, nan) = (some(x.abs()?.eq(f64::INFINITY)?)?, some(x.ne(x)?)?);
    replace(log_density, &((undefined * infinite)? * nan.eq(0u8)?)?, f64::NEG_INFINITY)
}

/// Marks the rows of x without a NaN or an infinity, (B).
pub(super) fn finite_rows(x: &Tensor) -> Result<Tensor> {
    // False for a NaN.
    let finite = x.abs()?.lt(f64::INFINITY)?;
    Ok(sum_event(&finite.eq(0u8)?.to_dtype(DType::F32)?)?.eq(0.0)?)
}

/// The lowest finite number of a type.
pub(super) fn lowest(dtype: DType) -> f64 {
    if dtype == DType::F64 { f64::MIN } else { f32::MIN.into() }
}
