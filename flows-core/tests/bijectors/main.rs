//! Properties of every bijector, checked over a registry of all of them.

mod autoregressive;
mod combinators;
mod couplings;
mod deep;
mod families;
mod linear;
mod networks;
mod supports;
mod variational;

use combinators::nested;
use deep::deep;
use flows_core::Result;
use flows_core::testing::Case;

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
fn all(cases: Vec<Case>, check: impl Fn(&Case) -> Result<()>) {
    let failed = |case: &Case| check(case).err().map(|error| format!("{}: {error}", case.name()));
    let failures: Vec<String> = cases.iter().filter_map(failed).collect();
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn round_trips() -> Result<()> {
    all(registry()?, Case::round_trip);
    Ok(())
}

#[test]
fn deep_chains_round_trip() {
    all(deep(), Case::round_trip);
}

#[test]
fn derivatives() -> Result<()> {
    all(registry()?, Case::derivatives);
    Ok(())
}

#[test]
fn every_weight_learns() -> Result<()> {
    all(registry()?, Case::every_weight_learns);
    Ok(())
}

#[test]
fn saved_models_load() -> Result<()> {
    let folder = tempfile::tempdir().map_err(candle_core::Error::from)?;
    all(registry()?, |case| case.saves_and_loads(folder.path()));
    Ok(())
}

#[test]
fn rows_are_independent() -> Result<()> {
    all(registry()?, Case::rows_are_independent);
    Ok(())
}

#[test]
fn wrong_shapes_are_errors() -> Result<()> {
    all(registry()?, Case::wrong_shapes_are_errors);
    Ok(())
}

#[test]
fn extremes_stay_in_their_row() -> Result<()> {
    all(registry()?, Case::extremes_stay_in_their_row);
    Ok(())
}

#[test]
fn precisions_agree() -> Result<()> {
    all(registry()?, Case::precisions_agree);
    Ok(())
}

#[test]
fn training_passes() -> Result<()> {
    all(registry()?, Case::trains);
    Ok(())
}

#[test]
fn activations_are_recomputed() -> Result<()> {
    all(registry()?, Case::recomputes);
    all(deep(), Case::recomputes);
    all(nested(), Case::recomputes);
    Ok(())
}

#[test]
fn structures_count() -> Result<()> {
    all(registry()?, Case::structure_counts);
    Ok(())
}

/// Needs a GPU: `cargo test --features cuda`.
#[cfg(feature = "cuda")]
#[test]
fn devices_agree() -> Result<()> {
    let device = candle_core::Device::new_cuda(0)?;
    all(registry()?, |case| case.agrees_on(&device));
    Ok(())
}
