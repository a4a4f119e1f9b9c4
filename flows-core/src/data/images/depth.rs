//! The bits that values of 16 bits use.

/// The depths that cameras, scanners and programs use.
pub(super) const DEPTHS: [u32; 5] = [8, 10, 12, 14, 16];

/// What to do where values use fewer bits than they have.
pub(super) const DARK: &str = "if they are dark images of 16 bits, train with `fit.depth = 16` in the file of --config";

/// The least depth that has a value; none if 16 bits have not.
pub(super) fn depth_of(greatest: u32) -> Option<u32> {
    DEPTHS.into_iter().find(|bits| greatest < 1 << bits)
}

/// Checks that values up to `greatest` have this depth.
pub(super) fn scaled(greatest: u32, bits: u32) -> Result<(), String> {
    match depth_of(greatest) {
        Some(depth) if depth <= bits => Ok(()),
        depth => Err(format!(
            "has a value of {greatest}, beyond {bits} bits: save all images with one depth, or train with \
             `fit.depth = {}` in the file of --config",
            depth.unwrap_or(16)
        )),
    }
}

/// A value of this depth in 8 bits.
pub(super) fn eight_bits(value: u32, bits: u32) -> u8 {
    let most = (1u32 << bits) - 1;
    ((value * 255 + most / 2) / most).min(255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_each_depth_are_black_and_white() {
        for bits in DEPTHS {
            let most = (1 << bits) - 1;
            assert_eq!([0, most].map(|value| eight_bits(value, bits)), [0, 255]);
            assert_eq!(depth_of(most), Some(bits));
            assert!(scaled(most, bits).is_ok() && scaled(most + 1, bits).is_err());
        }
        assert_eq!((eight_bits(77 * 257, 16), eight_bits(2048, 12), depth_of(65_536)), (77, 128, None));
    }
}
