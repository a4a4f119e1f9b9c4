//! Images changed at random each time they are trained on.

use crate::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// How far images are shifted, turned, stretched and slanted at random.
///
/// The Glow of MNIST and of CIFAR-10 was trained with shifts of 0.1; its code also offers, for CIFAR-10, these with
/// rotations of 15 degrees, zooms of 0.1, shears of 0.02 and mirrored images (Kingma and Dhariwal 2018,
/// arXiv:1807.03039).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Warp {
    /// Shares of height and width that images are shifted by, from -`shift` to `shift`.
    pub shift: f64,
    /// Degrees that they are turned by, from -`rotation` to `rotation`.
    pub rotation: f64,
    /// Height and width are divided by factors from 1 - `zoom` to 1 + `zoom`, each by its own.
    pub zoom: f64,
    /// Radians that rows lean by, from -`shear` to `shear`.
    pub shear: f64,
}

impl Warp {
    /// Whether images stay as they are.
    pub fn is_identity(&self) -> bool {
        *self == Self::default()
    }

    /// Passes if images can be warped so.
    ///
    /// # Errors
    /// When a number is negative or so large that nothing of an image need be left.
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

    /// An image (C, H, W) under a map that `rng` draws: each pixel is the nearest one of the image to where the map
    /// takes it from, so that no colour is new; beyond the edges lie the pixels at the edges.
    pub fn apply(&self, [channels, height, width]: [usize; 3], values: &[u8], rng: &mut Rng) -> Vec<u8> {
        let mut draw = |most: f64| most * (2.0 * rng.uniform() - 1.0);
        let (sin, cos) = draw(self.rotation).to_radians().sin_cos();
        let (down, right) = (draw(self.shift) * height as f64, draw(self.shift) * width as f64);
        let (lean, upright) = draw(self.shear).sin_cos();
        let (tall, wide) = (1.0 + draw(self.zoom), 1.0 + draw(self.zoom));
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

    /// Each pixel by its place: 16 rows and columns.
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
        // A tenth of 16 is 1.6: two pixels at most, to all sides.
        assert_eq!(seen, (0..2).flat_map(|axis| (-2..=2).map(move |shift| (axis, shift))).collect());
    }

    #[test]
    fn every_map_is_of_its_kind() {
        let (rng, image) = (&mut Rng::seed(1), (0..225).collect::<Vec<u8>>());
        // Where the pixels 5 below the middle and 5 to the right of it come from, beyond the middle.
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
    fn an_image_that_is_not_warped_stays_and_a_seed_gives_the_same_again() {
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
