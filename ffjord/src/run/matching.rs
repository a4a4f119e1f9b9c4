//! Flow matching at the beginning of a run.

use flows_core::{Error, Result};

/// The number of steps of flow matching: `count` if it is given, else the fraction `share` of all `steps`. In a resumed
/// run, whose own settings have a count, a share is a new setting and takes precedence.
///
/// # Errors
/// When the share is not in [0, 1], or a new run has fewer steps than `count`.
pub(super) fn matching_steps(share: Option<f64>, count: Option<u64>, steps: u64, resumed: bool) -> Result<u64> {
    if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
        let message =
            format!("`matching` is {share}, but must be from 0 to 1: it is the fraction of the steps of flow matching");
        return Err(Error::Config(message));
    }
    let of_all = share.map(|share| (share * steps as f64).round() as u64);
    match count {
        Some(count) if !resumed && count > steps => Err(Error::Config(format!(
            "`matching_steps` is {count}, but the run has {steps} steps: give `matching`, a fraction of them, instead"
        ))),
        _ => Ok(if resumed { of_all.or(count) } else { count.or(of_all) }.unwrap_or(0)),
    }
}
