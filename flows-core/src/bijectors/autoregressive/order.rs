//! Whether a network is autoregressive.

use crate::nn::{Mode, Network, Scope};
use crate::{Error, Result, Rng};
use candle_core::{DType, Tensor};

/// Passes if the network's `parameters` outputs of each dimension depend on the dimensions before it in the sequence
/// alone: on random inputs, no change of the others changes them.
pub(super) fn check(
    network: &dyn Network,
    sequence: &[usize],
    parameters: usize,
    context: Option<usize>,
    scope: &Scope,
) -> Result<()> {
    let (d, rng) = (sequence.len(), &mut Rng::seed(0));
    let x = rng.normal_tensor((1, d), scope.dtype(), scope.device())?;
    let context = context.map(|width| rng.normal_tensor((1, width), scope.dtype(), scope.device())).transpose()?;
    let outputs = |x: &Tensor| -> Result<Vec<f64>> {
        let raw = network.forward(x, context.as_ref(), &mut Mode::evaluation())?;
        if raw.dims() != [1, d * parameters] {
            let want = format!("(B, {d} * {parameters}), {parameters} parameters for each dimension");
            return Err(Error::shape("the output of the network of an autoregressive layer", raw.dims(), want));
        }
        Ok(raw.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
    };
    let before = outputs(&x)?;
    let mut columns: Vec<Tensor> = (0..d).map(|i| x.narrow(1, i, 1)).collect::<candle_core::Result<_>>()?;
    // From the last dimension to the first: what has changed by then must not have changed what comes earlier.
    for (position, &dimension) in sequence.iter().enumerate().rev() {
        columns[dimension] = (&columns[dimension] + 1.0)?;
        let after = outputs(&Tensor::cat(&columns, 1)?)?;
        for &earlier in &sequence[..=position] {
            let own = earlier * parameters..(earlier + 1) * parameters;
            let changed =
                before[own.clone()].iter().zip(&after[own]).any(|(a, b)| (a - b).abs() > 1e-5 * (1.0 + a.abs()));
            if changed {
                return Err(Error::Config(format!(
                    "the network is not autoregressive in this order: its parameters of dimension {earlier} depend on \
                     dimension {dimension}, which comes {}",
                    if earlier == dimension { "with it" } else { "after it" }
                )));
            }
        }
    }
    Ok(())
}
