//! Dual numbers for forward-mode differentiation.

use super::Activation;
use candle_core::Tensor;
use flows_core::{Error, Result};

/// A dual number: a value (B, ...) and its derivatives along K tangents, (K, B, ...).
///
/// A field written in these operations computes its Jacobian-vector products in first-order operations of candle,
/// so that differentiating them once gives the gradient of a divergence.
#[derive(Clone, Debug)]
pub struct Dual {
    value: Tensor,
    tangents: Option<Tensor>,
}

impl Dual {
    /// A value (B, ...) with tangents (K, B, ...), or without.
    ///
    /// # Errors
    /// When the shape of a tangent differs from the value's.
    pub fn new(value: Tensor, tangents: Option<Tensor>) -> Result<Self> {
        if let Some(tangents) = &tangents
            && tangents.dims().get(1..) != Some(value.dims())
        {
            return Err(Error::shape("tangents", tangents.dims(), format!("K times {:?}", value.dims())));
        }
        Ok(Self { value, tangents })
    }

    /// The value, (B, ...).
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The tangents (K, B, ...), if any.
    pub fn tangents(&self) -> Option<&Tensor> {
        self.tangents.as_ref()
    }

    /// `L x` for a linear map such as a matrix product, a convolution, a sum or a reshape.
    ///
    /// The map is applied to the value (B, ...) and to all tangents at once, stacked to (K B, ...).
    ///
    /// # Errors
    /// When the map fails.
    pub fn linear(&self, map: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let value = map(&self.value)?;
        let tangents = self.tangents.as_ref().map(|tangents| {
            let mapped = map(&tangents.flatten(0, 1)?)?;
            let count = tangents.dims()[0];
            Ok::<_, Error>(mapped.reshape([&[count, mapped.dims()[0] / count], &mapped.dims()[1..]].concat())?)
        });
        Ok(Self { value, tangents: tangents.transpose()? })
    }

    /// `x + c` for a constant c, broadcast to the shape of the value.
    ///
    /// # Errors
    /// When the shapes do not match.
    pub fn shift(&self, constant: &Tensor) -> Result<Self> {
        Ok(Self { value: self.value.broadcast_add(constant)?, tangents: self.tangents.clone() })
    }

    /// `c x` for a constant c, broadcast to the shape of the value.
    ///
    /// # Errors
    /// When the shapes do not match.
    pub fn scale(&self, constant: &Tensor) -> Result<Self> {
        self.broadcast_linear(|x| Ok(x.broadcast_mul(constant)?))
    }

    /// `x + y` for dual numbers of the same shape.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn plus(&self, other: &Self) -> Result<Self> {
        let tangents = match (&self.tangents, &other.tangents) {
            (Some(a), Some(b)) => Some((a + b)?),
            (a, b) => a.as_ref().or(b.as_ref()).cloned(),
        };
        Self::new((&self.value + &other.value)?, tangents)
    }

    /// The elementwise product `x y` of dual numbers of the same shape.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn times(&self, other: &Self) -> Result<Self> {
        let part = |a: &Self, b: &Tensor| a.tangents.as_ref().map(|a| a.broadcast_mul(&b.unsqueeze(0)?)).transpose();
        let tangents = match (part(self, &other.value)?, part(other, &self.value)?) {
            (Some(a), Some(b)) => Some((a + b)?),
            (a, b) => a.or(b),
        };
        Self::new((&self.value * &other.value)?, tangents)
    }

    /// Applies an elementwise function phi, given as a closure that returns `(phi(x), phi'(x))`.
    ///
    /// # Errors
    /// When the function fails.
    pub fn map(&self, function: impl FnOnce(&Tensor) -> Result<(Tensor, Tensor)>) -> Result<Self> {
        let (value, slope) = function(&self.value)?;
        let tangents = self.tangents.as_ref().map(|tangents| tangents.broadcast_mul(&slope.unsqueeze(0)?));
        Ok(Self { value, tangents: tangents.transpose()? })
    }

    /// Applies an activation; the beta of [`Activation::Swish`] is 1.
    ///
    /// # Errors
    /// When the device fails.
    pub fn activate(&self, activation: Activation) -> Result<Self> {
        self.map(|x| activation.composed(None, x))
    }

    /// Appends a constant (B, C) to the columns of a value (B, D).
    ///
    /// # Errors
    /// When the numbers of rows differ.
    pub fn append(&self, constant: &Tensor) -> Result<Self> {
        let value = Tensor::cat(&[&self.value, constant], 1)?;
        let tangents = self.tangents.as_ref().map(|tangents| {
            let shape = (tangents.dims()[0], constant.dim(0)?, constant.dim(1)?);
            Tensor::cat(&[tangents, &Tensor::zeros(shape, constant.dtype(), constant.device())?], 2)
        });
        Ok(Self { value, tangents: tangents.transpose()? })
    }

    /// A linear map that broadcasts over leading dimensions, applied to (B, ...) and (K, B, ...) as they are.
    fn broadcast_linear(&self, map: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { value: map(&self.value)?, tangents: self.tangents.as_ref().map(map).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use flows_core::{Rng, testing::difference};

    /// The tangents agree with central differences of the value.
    #[test]
    fn tangents_are_derivatives() -> Result<()> {
        let mut rng = Rng::seed(0);
        let mut tensor = |shape: &[usize]| rng.normal_tensor(shape, DType::F64, &Device::Cpu);
        let (x, v) = (tensor(&[4, 3])?, tensor(&[2, 4, 3])?);
        let (matrix, shift, scale, extra) = (tensor(&[3, 5])?, tensor(&[5])?, tensor(&[4, 1])?, tensor(&[4, 2])?);
        let function = |x: &Dual| {
            let y = x.linear(|x| Ok(x.matmul(&matrix)?))?.shift(&shift)?.activate(Activation::Tanh)?;
            let y = y.times(&y.activate(Activation::Silu)?)?.scale(&scale)?;
            y.plus(&y.activate(Activation::Softplus)?)?.append(&extra)
        };
        let got = function(&Dual::new(x.clone(), Some(v.clone()))?)?;
        for (k, got) in got.tangents().expect("tangents").chunk(2, 0)?.iter().enumerate() {
            let at = |h: f64| {
                let x = (&x + (v.get(k)? * h)?)?;
                Ok::<_, Error>(function(&Dual::new(x, None)?)?.value().clone())
            };
            let want = ((at(1e-5)? - at(-1e-5)?)? / 2e-5)?;
            let d = difference(&want, &got.squeeze(0)?)?;
            assert!(d < 1e-7, "{d}");
        }
        assert!(Dual::new(x, Some(v.narrow(2, 0, 2)?)).is_err());
        Ok(())
    }
}
