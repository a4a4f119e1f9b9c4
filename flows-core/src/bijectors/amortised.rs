//! Parameters that are weights or, in amortised inference, a linear map of the context.

use crate::nn::{Init, Linear, Output, Scope};
use crate::shape::check_context;
use crate::{Error, Result, Structure, ops};
use candle_core::Tensor;

/// N named vectors of parameters: weights of shape (1, width), or (B, width) from a context.
///
/// The map from the context starts at zero with the starting values as its biases, so that both kinds
/// start with the same values.
#[derive(Debug)]
pub(super) struct Amortised<const N: usize> {
    widths: [usize; N],
    source: Source<N>,
}

#[derive(Debug)]
enum Source<const N: usize> {
    Weights([Tensor; N]),
    Context(usize, Linear),
}

impl<const N: usize> Amortised<N> {
    /// Vectors of these names and starting values; from a context of the given width, if any.
    pub(super) fn new(parts: [(&str, Vec<f64>); N], context: Option<usize>, scope: &Scope) -> Result<Self> {
        let widths = std::array::from_fn(|i| parts[i].1.len());
        let source = match context {
            None => {
                let weights = parts.into_iter().map(|(name, v)| scope.weight(name, (1, v.len()), Init::Values(v)));
                Source::Weights(array(weights.collect::<Result<_>>()?)?)
            }
            Some(context) => {
                let values: Vec<f64> = parts.into_iter().flat_map(|(_, values)| values).collect();
                let output = Output { width: values.len(), gain: 0.0, bias: Some(values) };
                Source::Context(context, Linear::output(context, output, &scope.enter("context"))?)
            }
        };
        Ok(Self { widths, source })
    }

    /// The vectors for a batch, (1, width) or (B, width) each.
    pub(super) fn get(&self, batch: usize, context: Option<&Tensor>) -> Result<[Tensor; N]> {
        match &self.source {
            Source::Weights(weights) => Ok(weights.clone()),
            Source::Context(width, linear) => {
                let all = linear.forward(check_context(context, *width, batch)?)?;
                let mut start = 0;
                let parts = self.widths.iter().map(|&width| {
                    start += width;
                    Ok(all.narrow(1, start - width, width)?)
                });
                array(parts.collect::<Result<_>>()?)
            }
        }
    }

    /// The node of a bijector with these parameters.
    pub(super) fn structure(&self, name: &str, details: String) -> Structure {
        match &self.source {
            Source::Weights(weights) => Structure::new(name, details).weights(weights),
            Source::Context(width, linear) => {
                Structure::new(name, format!("{details}, context {width}")).part(linear.structure())
            }
        }
    }
}

fn array<const N: usize>(parts: Vec<Tensor>) -> Result<[Tensor; N]> {
    parts.try_into().map_err(|_| Error::Internal(format!("a flow has other than {N} vectors of parameters")))
}

/// The products of rows, (R, D) and (S, D) to (max(R, S), 1), where R or S may be 1.
pub(super) fn dot(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(ops::sum(&a.broadcast_mul(b)?, 1)?.unsqueeze(1)?)
}

/// The smallest slope that is not lost in a sum with 1: the machine epsilon of the tensor's type.
pub(super) fn epsilon(like: &Tensor) -> f64 {
    if like.dtype() == candle_core::DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) }
}

/// The values of a (1, 1) or (B, 1) tensor for each row, in f64 and without graph.
pub(super) fn column(t: &Tensor, batch: usize) -> Result<Vec<f64>> {
    let t = t.detach().broadcast_as((batch, 1))?.to_dtype(candle_core::DType::F64)?;
    Ok(t.flatten_all()?.to_vec1()?)
}
