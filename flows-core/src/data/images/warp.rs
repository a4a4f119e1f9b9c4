//! Random augmentation of training images.

use crate::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// The ranges of random shifts, rotations, zooms and shears of images.
///
/// Glow was trained on MNIST and CIFAR-10 with shifts of 0.1; for CIFAR-10 its code also offers these shifts combined
/// with rotations of 15 degrees, zooms of 0.1, shears of 0.02 and mirrored images (Kingma and Dhariwal 2018,
/// arXiv:1807.03039).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Warp {
    /// Images are shifted by -`shift` to `shift` of their height and width.
    pub shift: f64,
    /// Images are rotated by -`rotation` to `rotation` degrees.
    pub rotation: f64,
    /// Height and width are each divided by a factor from 1 - `zoom` to 1 + `zoom`.
    pub zoom: f64,
    /// Rows are sheared by -`shear` to `shear` radians.
    pub shear: f64,
}

impl Warp {
    /// Whether images are left unchanged.
    pub fn is_identity(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// When a number is negative or so large that nothing of an image may be left.
    pub fn check(&self) -> Result<()> {
        let Self { shift, rotation, zoom, shear } = *self;
        let within = |value: f64, most: f64| (0.0..=most).contains(&value);
        if within(shift, 0.5) && within(rotation, 180.0) && within(zoom, 0.9) && within(shear, 1.0) {
            return Ok(());
        }
        Err(Error::Config(format!(
            "images cannot be warped by a shift of {shift}, a rotation of {rotation}, a zoom of {zoom} and a shear of \
             {shear}: give a shift from 0 to 0.5, a rotation from 0 to 180 degrees, a zoom from 0 to 0.9 and a shear \
             from 0 to 1"
        )))
    }

    /// Applies a random map to an image (C, H, W). Each pixel takes the value of the source pixel nearest to its
    /// preimage, so no new values appear; outside the image the edge pixels are repeated.
    pub fn apply(&self, shape: [usize; 3], values: &[u8], rng: &mut Rng) -> Vec<u8> {
        self.draw(rng).apply(shape, values)
    }

    /// A random map.
    pub(super) fn draw(&self, rng: &mut Rng) -> Map {
        let mut draw = |most: f64| most * (2.0 * rng.uniform() - 1.0);
        Map {
            rotation: draw(self.rotation).to_radians(),
            shift: [draw(self.shift), draw(self.shift)],
            shear: draw(self.shear),
            zoom: [1.0 + draw(self.zoom), 1.0 + draw(self.zoom)],
        }
    }
}

/// One map of images; pairs are of height and width.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map {
    /// In radians, as the shear.
    rotation: f64,
    /// Shares of height and width.
    shift: [f64; 2],
    shear: f64,
    zoom: [f64; 2],
}

impl Map {
    /// The map of an image; see [`Warp::apply`].
    pub(super) fn apply(&self, [channels, height, width]: [usize; 3], values: &[u8]) -> Vec<u8> {
        let (sin, cos) = self.rotation.sin_cos();
        let (down, right) = (self.shift[0] * height as f64, self.shift[1] * width as f64);
        let (lean, upright) = self.shear.sin_cos();
        let [tall, wide] = self.zoom;
        let middle = [height, width].map(|side| (side as f64 - 1.0) / 2.0);
        let nearest = |at: f64, side: usize| at.round().clamp(0.0, side as f64 - 1.0) as usize;
        let mut from = Vec::with_capacity(height * width);
        for i in 0..height * width {
            let (y, x) = (tall * ((i / width) as f64 - middle[0]), wide * ((i % width) as f64 - middle[1]));
            let (y, x) = (y - lean * x + down, upright * x + right);
            let (y, x) = (cos * y - sin * x + middle[0], sin * y + cos * x + middle[1]);
            from.push(nearest(y, height) * width + nearest(x, width));
        }
        (0..channels).flat_map(|c| from.iter().map(move |i| values[c * height * width + i])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// An image of 16 x 16 pixels whose values are their positions.
    fn places() -> Vec<u8> {
        (0..=255).collect()
    }

    #[test]
    fn shifts_move_whole_images_by_at_most_their_share() {
        let (warp, rng) = (Warp { shift: 0.1, ..Warp::default() }, &mut Rng::seed(0));
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            let moved = warp.apply([2, 16, 16], &[places(), vec![9; 256]].concat(), rng);
            assert_eq!(moved[256..], [9; 256]);
            let (row, column) = (i32::from(moved[136]) / 16 - 8, i32::from(moved[136]) % 16 - 8);
            let at = |i: i32| ((i / 16 + row).clamp(0, 15) * 16 + (i % 16 + column).clamp(0, 15)) as u8;
            assert_eq!(moved[..256], (0..256).map(at).collect::<Vec<u8>>());
            seen.extend([(0, row), (1, column)]);
        }
        // A tenth of 16 is 1.6: at most two pixels in every direction.
        assert_eq!(seen, (0..2).flat_map(|axis| (-2..=2).map(move |shift| (axis, shift))).collect());
    }

    #[test]
    fn each_setting_gives_its_kind_of_map() {
        let (rng, image) = (&mut Rng::seed(1), (0..225).collect::<Vec<u8>>());
        // The source, relative to the centre, of the pixels 5 below and 5 to the right of the centre.
        let mut ends = |warp: Warp| {
            let moved = warp.apply([1, 15, 15], &image, rng);
            assert_eq!(moved[112], 112);
            [187, 117].map(|i: usize| [f64::from(moved[i] / 15) - 7.0, f64::from(moved[i] % 15) - 7.0])
        };
        let (mut turn, mut tall, mut wide, mut lean) = (0f64, [5f64; 2], [5f64; 2], 0f64);
        for _ in 0..200 {
            let [[y, x], [across, right]] = ends(Warp { rotation: 30.0, ..Warp::default() });
            assert!((y - right).abs() <= 1.0 && (x + across).abs() <= 1.0 && (y.hypot(x) - 5.0).abs() < 1.0);
            turn = turn.max(x.atan2(y).to_degrees());
            let [[y, x], [across, right]] = ends(Warp { zoom: 0.4, ..Warp::default() });
            assert!(x == 0.0 && across == 0.0);
            (tall, wide) = ([tall[0].min(y), tall[1].max(y)], [wide[0].min(right), wide[1].max(right)]);
            let [below, [across, right]] = ends(Warp { shear: 0.5, ..Warp::default() });
            assert!(below == [5.0, 0.0] && right >= 4.0);
            lean = lean.max(across.abs());
        }
        // The sine of 0.5 is 0.48.
        assert!((20.0..40.0).contains(&turn) && tall == [3.0, 7.0] && wide == [3.0, 7.0] && lean == 2.0);
    }

    #[test]
    fn the_identity_keeps_an_image_and_warps_are_reproducible() {
        let all = Warp { shift: 0.1, rotation: 15.0, zoom: 0.1, shear: 0.02 };
        let warped = |warp: Warp, seed| warp.apply([1, 16, 16], &places(), &mut Rng::seed(seed));
        assert_eq!(warped(Warp::default(), 0), places());
        assert!(warped(all, 0) == warped(all, 0) && warped(all, 0) != warped(all, 1));
        for bad in [-0.1, 0.6, f64::NAN] {
            assert!(Warp { shift: bad, ..all }.check().is_err());
        }
        assert!(all.check().is_ok() && Warp { rotation: 181.0, ..all }.check().is_err());
    }
}
