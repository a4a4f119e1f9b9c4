//! The errors of [`Functions`], in units in the last place.

use super::Functions;
use crate::ops::simd::map;

/// `|got - want|` in units in the last place of the f32 nearest to `want`.
fn units(got: f32, want: f64) -> f64 {
    let near = want as f32;
    if near.is_nan() || near.is_infinite() {
        let same = near.to_bits() == got.to_bits() || (near.is_nan() && got.is_nan());
        return if same { 0.0 } else { f64::INFINITY };
    }
    let exponent = (near.abs().to_bits() >> 23).max(1) as i32 - 150;
    (f64::from(got) - want).abs() / 2f64.powi(exponent)
}

#[test]
fn single_precision_is_exact_to_one_unit() {
    // All exponents and signs, the infinities, NaN.
    let mut x: Vec<f32> = (0..=u32::MAX).step_by(8191).map(f32::from_bits).collect();
    x.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-45, -1e-45, 1.0, -1.0]);
    macro_rules! check {
        ($($function:ident),*) => {$({
            let got = map(&x, #[inline(always)] |x: f32| x.$function());
            for (&x, got) in x.iter().zip(got) {
                let off = units(got, f64::from(x).$function());
                assert!(off <= 1.0, "{} of {x:e} is {got:e}, off by {off} units", stringify!($function));
            }
        })*};
    }
    check!(fast_exp, fast_exp_m1, fast_ln, fast_ln_1p, fast_tanh, fast_sigmoid, fast_softplus, fast_silu);
    check!(fast_erf, fast_erf_slope, fast_gelu);
    for x in [0.0f32, -0.0] {
        for y in [x.fast_exp_m1(), x.fast_ln_1p(), x.fast_tanh(), x.fast_erf(), x.fast_silu(), x.fast_gelu()] {
            assert_eq!(y.to_bits(), x.to_bits());
        }
    }
}

#[test]
fn slopes_that_cancel_somewhere_are_exact_in_absolute_terms() {
    for x in (-1500..1500).map(|k| k as f32 * 0.01).chain([f32::INFINITY, f32::NEG_INFINITY]) {
        let wide = f64::from(x);
        assert!((f64::from(x.fast_silu_slope()) - wide.fast_silu_slope()).abs() < 1e-7);
        assert!((f64::from(x.fast_gelu_slope()) - wide.fast_gelu_slope()).abs() < 1e-7);
    }
}

#[test]
fn double_precision_is_exact_to_two_units() {
    // Rounded from sixty digits.
    let sigmoid: [f64; 6] = [
        4.646858044746757e-14,
        1.2372771174427572e-05,
        0.24973989440488237,
        0.425557483188341,
        0.668187772168166,
        0.9999085841261478,
    ];
    let softplus: [f64; 6] = [
        4.646858044746865e-14,
        1.237284771779221e-05,
        0.2873353251154308,
        0.5543552444685271,
        1.103186048885458,
        9.300091420052539,
    ];
    let silu: [f64; 6] = [
        -1.4265854197372543e-12,
        -0.00013981231427103157,
        -0.27471388384537065,
        -0.1276672449565023,
        0.46773144051771626,
        9.299149832373176,
    ];
    let gelu: [f64; 6] = [
        -8.736698778082625e-206,
        -7.413816933221697e-29,
        -0.14923266704102092,
        -0.1146265733433142,
        0.5306254434438489,
        9.3,
    ];
    let at = [-30.7f64, -11.3, -1.1, -0.3, 0.7, 9.3];
    for (i, x) in at.into_iter().enumerate() {
        let pairs = [
            (x.fast_sigmoid(), sigmoid[i]),
            (x.fast_softplus(), softplus[i]),
            (x.fast_silu(), silu[i]),
            (x.fast_gelu(), gelu[i]),
        ];
        for (got, want) in pairs {
            let off = got.to_bits().abs_diff(want.to_bits());
            assert!(off <= 2, "{got:e} at {x} is off {want:e} by {off} units");
        }
    }
    assert_eq!(f64::NEG_INFINITY.fast_silu(), 0.0);
    assert_eq!(f64::NEG_INFINITY.fast_gelu(), 0.0);
    assert_eq!(f64::INFINITY.fast_gelu(), f64::INFINITY);
}
