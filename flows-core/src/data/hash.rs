//! A hash of numbers.

/// A hash of 64 bits that is the same on every machine and in every version: for each number h becomes
/// (h xor bits) times an odd constant, xored with its upper half.
#[derive(Clone, Copy, Debug)]
pub struct Hash(u64);

impl Hash {
    /// The hash of no numbers.
    pub const NEW: Self = Self(0x243F_6A88_85A3_08D3);

    /// Adds the bits of a number.
    pub fn bits(&mut self, bits: u64) {
        let mixed = (self.0 ^ bits).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }

    /// Adds a number; 0 and -0 are the same.
    pub fn number(&mut self, value: f64) {
        self.bits((value + 0.0).to_bits());
    }

    /// Adds a text.
    pub fn text(&mut self, text: &str) {
        self.bits(text.len() as u64);
        text.bytes().for_each(|byte| self.bits(byte.into()));
    }

    /// The hash of what was added.
    pub fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_changes() {
        let mut hash = Hash::NEW;
        [1.5, -0.0, f64::MIN_POSITIVE].into_iter().for_each(|value| hash.number(value));
        hash.text("ab");
        let mut same = Hash::NEW;
        [1.5, 0.0, f64::MIN_POSITIVE].into_iter().for_each(|value| same.number(value));
        same.text("ab");
        assert_eq!((hash.value(), same.value()), (2_709_109_559_043_822_808, hash.value()));
    }
}
