//! `ffjord sample` of images.

use super::pictures::{noise, picture};
use super::saved::Saved;
use crate::sample::SampleArgs;
use flows_core::cli::{check_temperature, plural, print, print_json};
use flows_core::plot::write_png;
use flows_core::{Error, Result, Rng};
use serde_json::json;
use std::path::PathBuf;

pub fn run(args: SampleArgs) -> Result<()> {
    let output = args.model.output;
    let count = args.count.unwrap_or(64);
    if !(1..=100_000).contains(&count) {
        return Err(Error::Config("draw 1 to 100,000 images by --count".into()));
    }
    let out = args.out.unwrap_or_else(|| PathBuf::from("samples.png"));
    if out.extension().is_none_or(|e| !e.eq_ignore_ascii_case("png")) {
        return Err(Error::file(&out, "images are written side by side as .png; give the file this extension"));
    }
    let temperature = args.temperature.unwrap_or(1.0);
    check_temperature(temperature)?;
    let (saved, _) = Saved::open(&args.model)?;
    let noise = (noise(&saved.model, count, &mut Rng::seed(args.seed))? * temperature)?;
    let picture = picture(&saved.model.decode(&noise)?, count.isqrt())?;
    write_png(&picture, &out)?;
    match output.json {
        true => print_json(
            &json!({ "model": saved.path, "images": count, "temperature": temperature, "seed": args.seed, "out": out }),
        ),
        false => print(format_args!("{} drawn in {}", plural(count, "image"), out.display())),
    }
}
