//! Fixed permutations.

use super::{Bijector, Direction, Mode, Support, moved_box};
use crate::nn::{Buffer, Scope};
use crate::shape::zero_log_det;
use crate::{Error, Result, Structure};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// A permutation of n elements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Drawn once, when the layer is made.
    Random,
    /// Last to first.
    Reverse,
    /// Each of 0 to n - 1 once.
    Given(Vec<u32>),
}

impl Order {
    /// The buffer `permutation` (n, u32) of this order.
    ///
    /// # Errors
    /// When a given order does not contain each of 0 to `n - 1` once.
    pub(super) fn buffer(&self, n: usize, scope: &Scope) -> Result<Buffer> {
        let tensor = |order: Vec<u32>| Ok(Tensor::from_vec(order, n, scope.device())?);
        let order: Vec<u32> = match self {
            Self::Random => {
                return scope.drawn_buffer("permutation", n, DType::U32, |rng| tensor(rng.permutation(n)));
            }
            Self::Reverse => (0..n as u32).rev().collect(),
            Self::Given(order) => order.clone(),
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..n as u32) {
            return Err(Error::Config(format!(
                "a permutation of {n} elements needs each of 0 to n - 1 once: {order:?}"
            )));
        }
        scope.buffer("permutation", &tensor(order)?)
    }
}

/// The permutation that undoes `permutation` (n, u32).
pub(super) fn inverted(permutation: &Tensor) -> Result<Tensor> {
    let n = permutation.dim(0)? as u32;
    let positions = Tensor::arange(0, n, permutation.device())?;
    Ok(permutation.zeros_like()?.index_add(permutation, &positions, 0)?)
}

/// A fixed permutation of the first dimension of an event (numbers, or channels):
/// `z_i = x_{permutation_i}`, log-determinant 0.
///
/// Buffer: `permutation` (u32), so that a saved model keeps its random order.
#[derive(Debug)]
pub struct Permutation {
    shape: Vec<usize>,
    permutation: Buffer,
}

impl Permutation {
    /// The permutation `order` of the first dimension of events of `shape`.
    ///
    /// # Errors
    /// When the shape has no dimension or the order does not permute its first.
    pub fn new(shape: &[usize], order: Order, scope: &Scope) -> Result<Self> {
        let Some(&n) = shape.first() else {
            return Err(Error::Config("a permutation needs events of at least one dimension".into()));
        };
        Ok(Self { shape: shape.to_vec(), permutation: order.buffer(n, scope)? })
    }
}

impl Bijector for Permutation {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(&self, direction: Direction, v: &Tensor, _: Option<&Tensor>, _: &mut Mode<'_>) -> Result<(Tensor, Tensor)> {
        self.check_input(direction, v)?;
        let order = match direction {
            Direction::Forward => inverted(&self.permutation.get())?,
            Direction::Inverse => self.permutation.get(),
        };
        Ok((v.contiguous()?.index_select(&order, 1)?, zero_log_det(v)?))
    }

    fn image(&self, latent: &Support) -> Option<Support> {
        moved_box(self, Direction::Forward, latent)
    }

    fn preimage(&self, data: &Support) -> Option<Support> {
        moved_box(self, Direction::Inverse, data)
    }

    fn structure(&self) -> Structure {
        Structure::new("Permutation", format!("of {}", self.shape[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bijectors::linear::check;
    use crate::nn::Parameters;
    use crate::{Rng, testing::difference};
    use candle_core::Device;

    #[test]
    fn is_exact() -> Result<()> {
        check(&[1], |scope| Permutation::new(&[1], Order::Random, scope))?;
        check(&[5], |scope| Permutation::new(&[5], Order::Random, scope))?;
        check(&[3, 2, 2], |scope| Permutation::new(&[3, 2, 2], Order::Given(vec![1, 2, 0]), scope))?;
        Ok(())
    }

    #[test]
    fn is_saved_and_given() -> Result<()> {
        let build = |seed, order| {
            let parameters = Parameters::new(DType::F32, &Device::Cpu, Rng::seed(seed));
            let layer = Permutation::new(&[8], order, &parameters.scope())?;
            Result::Ok((parameters, layer))
        };
        let x = Tensor::arange(0f32, 8.0, &Device::Cpu)?.unsqueeze(0)?;
        let (saved, a) = build(1, Order::Random)?;
        let (loaded, b) = build(2, Order::Random)?;
        loaded.load(&saved.snapshot()?.into_iter().collect())?;
        assert_eq!(difference(&a.inverse(&x, None)?.0, &b.inverse(&x, None)?.0)?, 0.0);
        assert_eq!(difference(&x, &b.forward(&a.inverse(&x, None)?.0, None)?.0)?, 0.0);
        let (_, reverse) = build(0, Order::Reverse)?;
        assert_eq!(reverse.inverse(&x, None)?.0.to_vec2::<f32>()?, [[7., 6., 5., 4., 3., 2., 1., 0.]]);
        assert!(build(0, Order::Given(vec![0, 0, 1, 2, 3, 4, 5, 6])).is_err());
        assert!(build(0, Order::Given(vec![0])).is_err());
        Ok(())
    }
}
