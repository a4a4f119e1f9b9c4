//! The fused spline against the plain composition, over random shapes and settings.

use super::*;
use crate::ops::transformer::worst_difference;
use candle_core::DType;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128, failure_persistence: None, rng_seed: RngSeed::Fixed(0), ..Default::default()
    })]
    #[test]
    fn the_kernel_is_the_plain_composition(
        batch in 1usize..50, n in 1usize..8, shared: bool, bins in 1usize..20, bound in 0.5f64..20.0,
        ends in prop_oneof![Just(Ends::Linear), Just(Ends::Closed), Just(Ends::Periodic)],
        direction in prop_oneof![Just(Direction::Forward), Just(Direction::Inverse)],
        seed: u64,
    ) {
        let settings = RqSplineSettings { bins, low: -bound, high: 0.7 * bound, ends, min_bin: 1e-3, min_slope: 1e-3 };
        let ends_of = [settings.low, settings.high];
        let (op, shape) = (RqSpline { settings, direction }, [batch, n, if shared { 1 } else { batch }]);
        let fine = worst_difference(op, shape, ends_of, DType::F64, seed);
        prop_assert!(fine.as_ref().is_ok_and(|d| *d < 1e-9), "{fine:?}");
        // Rounding of the shares moves a knot by a ten-thousandth of the narrowest bin.
        let coarse = worst_difference(op, shape, ends_of, DType::F32, seed);
        prop_assert!(coarse.as_ref().is_ok_and(|d| *d < 1e-3), "{coarse:?}");
    }
}
