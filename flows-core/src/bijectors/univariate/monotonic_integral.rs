//! The unconstrained monotonic network: an integral of a positive function.

use super::deep_sigmoid::positive;
use super::{Univariate, numerical_inverse, within_reach};
use crate::nn::{Activation, Mlp, Mode, Network, Output, Scope};
use crate::ops;
use crate::{Error, Result, Structure};
use candle_core::{D, DType, Tensor};
use std::f64::consts::PI;

/// `y = o + integral from 0 to z of g(t, h) dt` with a positive network g: `ln dy/dz = ln g(z, h)`
/// (Wehenkel and Louppe, Unconstrained Monotonic Neural Networks, 2019, equation 1).
///
/// Raw parameters of an element: the embedding h, then the offset o. The network is shared by all
/// elements and has its own weights; SiLU and a final softplus, where the paper has ReLU and ELU + 1,
/// are smooth, so that the Clenshaw-Curtis quadrature and its gradient converge fast. `inverse` searches.
#[derive(Debug)]
pub struct MonotonicIntegral {
    embedding: usize,
    network: Mlp,
    /// Nodes in [0, 1] and their weights, (1, 1, nodes).
    nodes: Tensor,
    weights: Tensor,
}

impl MonotonicIntegral {
    /// An integrand with hidden layers of the widths `hidden` and an embedding of `embedding` numbers, on
    /// `intervals` + 1 nodes.
    ///
    /// # Errors
    /// When a width is 0 or there are fewer than two intervals.
    pub fn new(embedding: usize, hidden: &[usize], intervals: usize, scope: &Scope) -> Result<Self> {
        if embedding == 0 || !(2..=10_000).contains(&intervals) {
            let message = "a monotonic integral needs an embedding of at least 1 number and 2 to 10,000 intervals";
            return Err(Error::Config(message.into()));
        }
        ops::check_width("a monotonic integral", &[embedding])?;
        let scope_of = scope.enter("integrand");
        let network = Mlp::new(1 + embedding, hidden, Output::new(1), None, Activation::Silu, &scope_of)?;
        let (nodes, weights): (Vec<f64>, Vec<f64>) = clenshaw_curtis(intervals).into_iter().unzip();
        let tensor = |v: Vec<f64>| Tensor::from_vec(v, (1, 1, intervals + 1), scope.device())?.to_dtype(scope.dtype());
        Ok(Self { embedding, network, nodes: tensor(nodes)?, weights: tensor(weights)? })
    }

    /// `ln g` at the points t (B, N, M), with embeddings h (B or 1, N, E); g is at most the square root of the largest
    /// number, so that an integral over what is [`within_reach`] is finite.
    fn log_integrand(&self, t: &Tensor, h: &Tensor) -> Result<Tensor> {
        let (b, n, m) = t.dims3()?;
        let h = h.unsqueeze(2)?.broadcast_as((b, n, m, self.embedding))?;
        let input = Tensor::cat(&[&t.unsqueeze(3)?, &h.contiguous()?], 3)?.reshape((b * n * m, 1 + self.embedding))?;
        let raw = self.network.forward(&input, None, &mut Mode::evaluation())?.reshape((b, n, m))?;
        let largest = if t.dtype() == DType::F64 { f64::MAX } else { f32::MAX.into() };
        Ok(positive(&raw)?.1.minimum(0.5 * largest.ln())?)
    }
}

impl Univariate for MonotonicIntegral {
    fn name(&self) -> String {
        format!("monotonic integral on {} nodes", self.nodes.elem_count())
    }

    fn parameter_count(&self) -> usize {
        self.embedding + 1
    }

    fn identity(&self) -> Vec<f64> {
        vec![0.0; self.embedding + 1]
    }

    fn structure(&self) -> Option<Structure> {
        Some(self.network.structure())
    }

    fn forward(&self, z: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        let h = parameters.narrow(2, 0, self.embedding)?;
        let offset = parameters.narrow(2, self.embedding, 1)?.squeeze(2)?;
        within_reach(z, |z| {
            let z3 = z.unsqueeze(2)?;
            let inside = ops::exp(&self.log_integrand(&z3.broadcast_mul(&self.nodes)?, &h)?)?;
            let integral = (ops::sum(&inside.broadcast_mul(&self.weights)?, D::Minus1)? * z)?;
            Ok((integral.broadcast_add(&offset)?, self.log_integrand(&z3, &h)?.squeeze(2)?))
        })
    }

    fn inverse(&self, x: &Tensor, parameters: &Tensor) -> Result<(Tensor, Tensor)> {
        numerical_inverse(x, |z| self.forward(z, parameters))
    }
}

/// Nodes in [0, 1] and weights, exact for polynomials of degree n (Clenshaw and Curtis, 1960).
fn clenshaw_curtis(n: usize) -> Vec<(f64, f64)> {
    let weight = |k: usize| {
        let sum: f64 = (1..=n / 2)
            .map(|j| {
                let b = if 2 * j == n { 1.0 } else { 2.0 };
                b / (4.0 * (j * j) as f64 - 1.0) * (2.0 * PI * (j * k) as f64 / n as f64).cos()
            })
            .sum();
        let c = if k == 0 || k == n { 1.0 } else { 2.0 };
        0.5 * c / n as f64 * (1.0 - sum)
    };
    (0..=n).map(|k| (0.5 * (1.0 - (PI * k as f64 / n as f64).cos()), weight(k))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quadrature_is_exact_for_polynomials() {
        for n in [2, 3, 8, 21] {
            for degree in 0..=n {
                let sum: f64 = clenshaw_curtis(n).iter().map(|(x, w)| w * x.powi(degree as i32)).sum();
                assert!((sum - 1.0 / (degree + 1) as f64).abs() < 1e-13, "{n} {degree} {sum}");
            }
        }
    }
}
