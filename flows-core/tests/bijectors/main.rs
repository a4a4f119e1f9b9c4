//! Properties of every bijector, checked over a registry of all of them.

mod autoregressive;
mod combinators;
mod couplings;
mod deep;
mod families;
mod linear;
mod networks;
mod ranges;
mod supports;
mod variational;

use combinators::nested;
use deep::deep;
use flows_core::Result;
use flows_core::testing::{Case, each};

fn registry() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for add in [
        families::elementwise,
        couplings::couplings,
        couplings::over_channels,
        autoregressive::autoregressives,
        autoregressive::block_neurals,
        autoregressive::integrals,
        linear::linears,
        linear::normalisations,
        variational::variational,
        combinators::combinators,
    ] {
        add(&mut cases)?;
    }
    Ok(cases)
}

/// Runs a check on every case and reports all failures.
fn all(cases: &[Case], check: impl Fn(&Case) -> Result<()> + Sync) {
    each(cases, check).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_bijector_keeps_its_promises() -> Result<()> {
    let folder = tempfile::tempdir().map_err(candle_core::Error::from)?;
    all(&registry()?, |case| case.all(folder.path()));
    Ok(())
}

#[test]
fn every_bijector_is_finite_or_refuses() -> Result<()> {
    all(&registry()?, Case::is_finite_or_refuses);
    Ok(())
}

#[test]
fn deep_chains_round_trip() {
    all(&deep(), Case::round_trip);
}

#[test]
fn activations_are_recomputed() {
    all(&deep(), Case::recomputes);
    all(&nested(), Case::recomputes);
}

/// Needs a GPU: `cargo test --features cuda`.
#[cfg(feature = "cuda")]
#[test]
fn devices_agree() -> Result<()> {
    let device = candle_core::Device::new_cuda(0)?;
    all(&registry()?, |case| case.agrees_on(&device));
    Ok(())
}
