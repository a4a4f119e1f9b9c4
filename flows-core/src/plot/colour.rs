//! The colours of the figures.

/// A colour as red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour(pub u8, pub u8, pub u8);

impl Colour {
    /// The first colour of a series.
    pub const BLUE: Self = Self(0x3b, 0x6e, 0xa8);
    /// The second colour of a series.
    pub const ORANGE: Self = Self(0xdd, 0x7f, 0x3b);
    /// The third colour of a series.
    pub const GREEN: Self = Self(0x4f, 0x9d, 0x69);
    /// The fourth colour of a series.
    pub const RED: Self = Self(0xb9, 0x48, 0x4e);
    /// The fifth colour of a series.
    pub const PURPLE: Self = Self(0x7d, 0x6b, 0xab);
    /// The sixth colour of a series.
    pub const GREY: Self = Self(0x80, 0x80, 0x80);
    /// For points over a density.
    pub const WHITE: Self = Self(0xff, 0xff, 0xff);
    /// For a reference curve.
    pub const BLACK: Self = Self(0x22, 0x22, 0x22);

    /// The colour of the `i`-th series; they repeat after six.
    pub fn series(i: usize) -> Self {
        [Self::BLUE, Self::ORANGE, Self::GREEN, Self::RED, Self::PURPLE, Self::GREY][i % 6]
    }

    /// The colour of `t` in [0, 1] on the perceptually uniform map viridis.
    pub fn viridis(t: f64) -> Self {
        const STOPS: [[f64; 3]; 11] = [
            [68., 1., 84.],
            [72., 36., 117.],
            [65., 68., 135.],
            [53., 95., 141.],
            [42., 120., 142.],
            [33., 145., 140.],
            [34., 168., 132.],
            [68., 191., 112.],
            [122., 209., 81.],
            [189., 223., 38.],
            [253., 231., 37.],
        ];
        let at = t.clamp(0., 1.) * (STOPS.len() - 1) as f64;
        let i = (at as usize).min(STOPS.len() - 2);
        let part = |c: usize| (STOPS[i][c] + (STOPS[i + 1][c] - STOPS[i][c]) * (at - i as f64)).round() as u8;
        Self(part(0), part(1), part(2))
    }
}
