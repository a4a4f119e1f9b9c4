//! Families evaluated on slices, without a tensor for every step.

use crate::ops::cpu::Real;
use crate::ops::{RqSplineSettings, Scale, affine_forward};

/// The `forward` of a family as a kernel for slices, which spares autoregressive layers a tensor for
/// every dimension of a sample.
#[derive(Clone, Copy, Debug)]
pub struct Pointwise(pub(super) Kind);

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Additive,
    Affine(Scale),
    RqSpline(RqSplineSettings),
}

impl Pointwise {
    /// Writes x for the points z of as many elements, and adds `log|dx/dz|` to `log`; raw parameters
    /// are (P, N).
    pub(crate) fn forward<T: Real>(self, z: &[T], raw: &[T], x: &mut [T], log: &mut [T]) {
        let n = z.len();
        match self.0 {
            Kind::Additive => x.iter_mut().zip(z).zip(raw).for_each(|((x, &z), &shift)| *x = z + shift),
            Kind::Affine(scale) => affine_forward(scale, z, [&raw[..n], &raw[n..]], x, log),
            Kind::RqSpline(settings) => settings.forward_rows(z, raw, x, log),
        }
    }
}
