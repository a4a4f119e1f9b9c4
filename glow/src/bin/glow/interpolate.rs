//! `glow interpolate`: from one image to another.

use crate::pictures::picture;
use crate::saved::Saved;
use candle_core::{DType, Tensor};
use clap::Args;
use flows_core::cli::{ModelArgs, check_out, check_temperature, plural, print, print_json};
use flows_core::plot::{write_gif, write_png};
use flows_core::{Error, Result, Rng};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Milliseconds of a frame.
const FRAME: Duration = Duration::from_millis(80);

/// Go from one image to another by way of their noise
///
/// With two images the noise goes along an arc from that of the first to that of the second. Without, it goes along a
/// circle through random noise, --rows times, which stays as likely as samples are. --out names a strip (.png) or an
/// animation (.gif).
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  glow interpolate runs/faces one.png another.png --out strip.png
  glow interpolate runs/digits --rows 6 --out paths.png
  glow interpolate runs/digits --frames 60 --out walk.gif")]
pub struct InterpolateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Two image files; a random path without
    #[arg(num_args = 2, value_names = ["FROM", "TO"])]
    images: Vec<PathBuf>,
    /// Images from the first to the last
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true)]
    frames: usize,
    /// Random paths, one a row
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "images", allow_negative_numbers = true)]
    rows: usize,
    /// The standard deviation of the noise of a random path
    #[arg(long, value_name = "T", default_value_t = 0.8, conflicts_with = "images", allow_negative_numbers = true)]
    temperature: f64,
    /// The class of the images, for a model with classes
    #[arg(long, value_name = "C", allow_negative_numbers = true)]
    class: Option<u32>,
    /// What random paths derive from
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// The strip (.png) or the animation (.gif) to write
    #[arg(long, value_name = "FILE", default_value = "interpolation.png")]
    out: PathBuf,
}

pub fn run(args: InterpolateArgs) -> Result<()> {
    let output = args.model.output;
    check_temperature(args.temperature)?;
    if !(2..=10_000).contains(&args.frames) || !(1..=1000).contains(&args.rows) {
        return Err(Error::Config("give 2 to 10,000 --frames, and 1 to 1000 --rows".into()));
    }
    let extension = args.out.extension().map(|e| e.to_string_lossy().to_lowercase());
    let animated = match extension.as_deref() {
        Some("gif") => true,
        Some("png") => false,
        _ => return Err(Error::file(&args.out, "is neither a .png nor a .gif by its name; choose one of these")),
    };
    check_out(&args.out, &args.images)?;
    let saved = Saved::open(&args.model)?;
    let path = noise(&saved, &args)?;
    let context = saved.class(args.class, path.dim(0)?)?;
    let images = saved.glow.quantize(&saved.glow.decode_all(&path, context.as_ref())?)?;
    if animated {
        animate(&images, args.rows, args.frames, &args.out)?;
    } else {
        write_png(&picture(&images, args.frames)?, &args.out)?;
    }
    if output.json {
        return print_json(&json!({
            "model": saved.path, "frames": args.frames, "rows": args.rows, "out": args.out,
        }));
    }
    print(format_args!("{} in {}", plural(args.frames, "frame"), args.out.display()))
}

/// The noise of all frames, row by row.
fn noise(saved: &Saved, args: &InterpolateArgs) -> Result<Tensor> {
    let glow = &saved.glow;
    let mut rng = Rng::seed(args.seed);
    let times = (0..args.frames).map(|i| i as f64 / (args.frames - 1) as f64);
    let mut path = Vec::new();
    if let [from, to] = &args.images[..] {
        let images = Tensor::cat(&[saved.image(from)?, saved.image(to)?], 0)?;
        let x = glow.dequantize(&images, &mut rng)?;
        let z = glow.latent(&x, saved.class(args.class, 2)?.as_ref())?;
        let (from, to) = (z.narrow(0, 0, 1)?, z.narrow(0, 1, 1)?);
        let angle = angle(&from, &to)?;
        for t in times {
            let [a, b] = arc(angle, t);
            path.push(((&from * a)? + (&to * b)?)?);
        }
    } else {
        let (dtype, device) = (glow.parameters().dtype(), glow.parameters().device());
        for _ in 0..args.rows {
            let mut draw =
                || rng.tensor((1, glow.config().dims()), dtype, device, |rng| args.temperature * rng.normal());
            let (a, b) = (draw()?, draw()?);
            for t in times.clone() {
                // Half a turn; an animation begins again where it ended.
                let turns = if args.out.extension().is_some_and(|e| e.eq_ignore_ascii_case("gif")) { 1.0 } else { 0.5 };
                let angle = t * turns * std::f64::consts::TAU;
                path.push(((&a * angle.cos())? + (&b * angle.sin())?)?);
            }
        }
    }
    Ok(Tensor::cat(&path, 0)?)
}

/// Between two vectors.
fn angle(a: &Tensor, b: &Tensor) -> Result<f64> {
    let dot = |a: &Tensor, b: &Tensor| Ok::<_, Error>((a * b)?.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?);
    Ok((dot(a, b)? / (dot(a, a)? * dot(b, b)?).sqrt()).clamp(-1.0, 1.0).acos())
}

/// What of each end of an arc makes the point at the share t of it (Shoemake, 1985): numbers of one length in
/// between as well, where the mean of two independent ones would be shorter than any sample.
fn arc(angle: f64, t: f64) -> [f64; 2] {
    if angle.sin() < 1e-3 || angle.is_nan() {
        return [1.0 - t, t];
    }
    [1.0 - t, t].map(|share| (share * angle).sin() / angle.sin())
}

/// An endless animation, all rows at once.
fn animate(images: &Tensor, rows: usize, frames: usize, out: &Path) -> Result<()> {
    let page = |i: usize| {
        let now = (0..rows).map(|row| Ok(images.narrow(0, row * frames + i, 1)?)).collect::<Result<Vec<_>>>()?;
        Ok((picture(&Tensor::cat(&now, 0)?, rows.isqrt().max(1))?, FRAME))
    };
    write_gif((0..frames).map(page), out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arc_keeps_the_length() {
        for angle in [0.3f64, 1.5, 3.0] {
            for t in [0.0, 0.2, 0.5, 1.0] {
                let [a, b] = arc(angle, t);
                // Of a x + b y, x and y being of length 1 with this angle between them.
                assert!((a * a + b * b + 2.0 * a * b * angle.cos() - 1.0).abs() < 1e-12, "{angle} {t}");
                // Its angle to the first is the share t of the whole.
                assert!((a + b * angle.cos() - (t * angle).cos()).abs() < 1e-12, "{angle} {t}");
            }
        }
        for straight in [0.0, std::f64::consts::PI, f64::NAN] {
            assert_eq!(arc(straight, 0.25), [0.75, 0.25]);
        }
    }
}
