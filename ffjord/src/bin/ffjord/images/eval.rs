//! `ffjord eval` of images: the bits a colour takes.

use super::saved::Saved;
use crate::eval::EvalArgs;
use candle_core::DType;
use ffjord::ImageModel;
use flows_core::cli::{Mean, plural, print, print_json, work_bar};
use flows_core::data::images::{ImageSource, Images};
use flows_core::{Error, Result, Rng};
use serde::Serialize;
use serde_json::json;
use std::f64::consts::LN_2;

/// Images from one movement of the bar to the next: a block of the solver.
const CHUNK: usize = 64;

/// What an evaluation reports.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bits {
    pub images: usize,
    /// The mean over the images.
    pub bits_per_dimension: f64,
    /// Of that mean, noise of images and of the divergence included.
    pub standard_error: f64,
    /// Colours of an image.
    pub dimensions: usize,
    /// The mean log-density of the images as numbers of [0, 1].
    pub log_likelihood: f64,
}

impl Bits {
    /// The report on images with these log-densities.
    pub fn of(model: &ImageModel, values: &[f64]) -> Self {
        let Mean { mean, standard_error } = Mean::of(values);
        let dimensions = model.config().dims();
        Self {
            images: values.len(),
            bits_per_dimension: model.bits(mean),
            standard_error: standard_error / (dimensions as f64 * LN_2),
            dimensions,
            log_likelihood: mean,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let bits = Mean { mean: self.bits_per_dimension, standard_error: self.standard_error }.text();
        format!("{bits} bits/dim over {} colours  ({})", self.dimensions, plural(self.images, "image"))
    }
}

/// The log-density of each of the first `count` images in nats, noise and divergence drawn from `rng`.
pub fn log_likelihoods(
    model: &ImageModel,
    images: &Images,
    count: usize,
    rng: &mut Rng,
    quiet: bool,
) -> Result<Vec<f64>> {
    if images.shape() != model.config().shape {
        let want = format!("the model's {:?}", model.config().shape);
        return Err(Error::shape("an image", &images.shape(), want));
    }
    let indices: Vec<u32> = (0..images.len().min(count) as u32).collect();
    let bar = work_bar(indices.len(), "evaluating", quiet);
    let mut values = Vec::with_capacity(indices.len());
    for chunk in indices.chunks(CHUNK) {
        let x = model.dequantize(&images.tensor(chunk, || false)?, rng)?;
        values.extend(model.score(&x, rng)?.to_dtype(DType::F64)?.to_vec1::<f64>()?);
        bar.set_position(values.len() as u64);
    }
    bar.finish_and_clear();
    Ok(values)
}

pub fn run(args: EvalArgs) -> Result<()> {
    let output = args.model.output;
    let (saved, _) = Saved::open(&args.model)?;
    let (images, name) = match &args.data {
        None => {
            let run = saved.run()?;
            (args.skip.reading(output, |skip| run.load(skip))?.test, format!("{} (test)", run.data))
        }
        Some(word) => {
            let (source, fit): (ImageSource, _) = (word.parse()?, saved.fit()?);
            (args.skip.reading(output, |skip| source.test(&fit, skip))?, word.clone())
        }
    };
    let rng = &mut Rng::seed(args.seed.unwrap_or(0));
    saved.model.take_cost();
    let values = log_likelihoods(
        &saved.model,
        &images,
        args.count.map_or(usize::MAX, |count| count as usize),
        rng,
        output.quiet,
    )?;
    let result = Bits::of(&saved.model, &values);
    let cost = saved.model.take_cost();
    let evaluations = cost.forward as f64 / cost.solves.max(1) as f64;
    if output.json {
        let result = json!({ "model": saved.path, "data": name, "result": result, "evaluations": evaluations });
        return print_json(&result);
    }
    print(format_args!("{} of {name}\nevaluations  {evaluations:.1} of the field a solve", result.text()))
}
