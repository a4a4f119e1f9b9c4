//! Runs that begin with flow matching.

use flows_core::{Error, Result};

/// The steps of flow matching among all: `count` if it is known, else a `share`; of a run that is resumed the share
/// is one that it is resumed with, and goes first.
///
/// # Errors
/// When the share is none, or a run that is new is to have fewer steps than that number.
pub(super) fn matching_steps(share: Option<f64>, count: Option<u64>, steps: u64, resumed: bool) -> Result<u64> {
    if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
        let message =
            format!("`matching` is the share of the steps that are of flow matching: {share} is not of 0 to 1");
        return Err(Error::Config(message));
    }
    let of_all = share.map(|share| (share * steps as f64).round() as u64);
    match count {
        Some(count) if !resumed && count > steps => Err(Error::Config(format!(
            "`matching_steps` is {count}, but the run has {steps} steps: give `matching`, a share of them, in its place"
        ))),
        _ => Ok(if resumed { of_all.or(count) } else { count.or(of_all) }.unwrap_or(0)),
    }
}
