//! Families evaluated on slices, without a tensor for every step.

use super::affine::Scale;
use crate::ops::RqSplineSettings;
use crate::ops::cpu::Real;

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
            Kind::Affine(scale) => {
                for i in 0..n {
                    let (value, log_scale) = scale.forward_at(z[i], raw[i], raw[n + i]);
                    x[i] = value;
                    log[i] += log_scale;
                }
            }
            Kind::RqSpline(settings) => {
                let mut scratch = vec![T::zero(); 2 * settings.bins + settings.parameters()];
                let (scratch, own) = scratch.split_at_mut(2 * settings.bins);
                for i in 0..n {
                    own.iter_mut().zip(raw[i..].iter().step_by(n)).for_each(|(own, &raw)| *own = raw);
                    let (value, slope) = settings.forward_at(z[i], own, scratch);
                    x[i] = value;
                    log[i] += slope;
                }
            }
        }
    }
}
