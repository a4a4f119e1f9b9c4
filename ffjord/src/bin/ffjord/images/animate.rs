//! `ffjord animate` of images: noise on its way to them.

use super::pictures::{noise, picture};
use super::saved::Saved;
use crate::animate::{AnimateArgs, write};
use flows_core::cli::{plural, print, print_json};
use flows_core::{Error, Result, Rng};
use serde_json::json;

/// Images unless said otherwise.
const IMAGES: u32 = 36;

pub fn run(args: AnimateArgs) -> Result<()> {
    let output = args.model.output;
    let (saved, _) = Saved::open(&args.model)?;
    let count = args.particles.unwrap_or(IMAGES) as usize;
    if count > 1024 {
        return Err(Error::Config(format!(
            "{count} images make too large a picture: give at most 1,024 by --particles"
        )));
    }
    let shares: Vec<f64> = (0..args.frames).map(|i| f64::from(i) / f64::from(args.frames - 1)).collect();
    let states = saved.model.path(&noise(&saved.model, count, &mut Rng::seed(args.seed))?, &shares)?;
    let frames = states.iter().map(|state| picture(state, count.isqrt())).collect::<Result<Vec<_>>>()?;
    write(&args.out, frames, f64::from(args.rate))?;
    let frames = plural(shares.len(), "frame");
    match output.json {
        true => print_json(&json!({ "model": saved.path, "frames": shares.len(), "out": args.out })),
        false => print(format_args!("{frames} drawn in {}", args.out.display())),
    }
}
