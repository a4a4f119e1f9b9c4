//! Moving in the latent space of a model: interpolation, circles, and attribute directions.
//!
//! Every model is a bijection between its data and a standard normal vector, so these work for all of them: encode,
//! move, decode.
//!
//! ```
//! use candle_core::{DType, Device};
//! use flows_core::{Rng, latent::arc};
//! let mut rng = Rng::seed(0);
//! let (from, to) = (rng.normal_tensor((1, 100), DType::F64, &Device::Cpu)?, rng.normal_tensor((1, 100), DType::F64, &Device::Cpu)?);
//! let path = arc(&from, &to, 5)?;
//! // Points on the path are as long as its ends, whereas the mean of the two would be too short to be a sample.
//! let length = |z: &candle_core::Tensor| z.sqr()?.sum_all()?.sqrt()?.to_scalar::<f64>();
//! assert!((length(&path[2])? / length(&from)? - 1.0).abs() < 0.2);
//! # Ok::<(), flows_core::Error>(())
//! ```

use crate::files::{load_model, save_model};
use crate::nn::Parameters;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use std::f64::consts::TAU;
use std::path::Path;

/// `count` points on the arc between two points (1, D), ends included (spherical interpolation: Shoemake, 1985).
///
/// # Errors
/// When the shapes differ.
pub fn arc(from: &Tensor, to: &Tensor, count: usize) -> Result<Vec<Tensor>> {
    let dot = |a: &Tensor, b: &Tensor| Ok::<_, Error>((a * b)?.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?);
    let angle = (dot(from, to)? / (dot(from, from)? * dot(to, to)?).sqrt()).clamp(-1.0, 1.0).acos();
    let at = |i: usize| {
        let [a, b] = arc_weights(angle, i as f64 / (count - 1) as f64);
        Ok(((from * a)? + (to * b)?)?)
    };
    (0..count).map(at).collect()
}

/// `count` points along a circle through two points (1, D), starting at the first, over this many turns, ends
/// included. If the two are independent draws, all points are about as likely as they are.
///
/// # Errors
/// When the shapes differ.
pub fn circle(through: [&Tensor; 2], turns: f64, count: usize) -> Result<Vec<Tensor>> {
    let at = |i: usize| {
        let angle = i as f64 / (count - 1) as f64 * turns * TAU;
        Ok(((through[0] * angle.cos())? + (through[1] * angle.sin())?)?)
    };
    (0..count).map(at).collect()
}

/// The weights of the two ends in the point at fraction t of an arc of this angle.
fn arc_weights(angle: f64, t: f64) -> [f64; 2] {
    if angle.sin() < 1e-3 || angle.is_nan() {
        return [1.0 - t, t];
    }
    [1.0 - t, t].map(|share| (share * angle).sin() / angle.sin())
}

/// The direction of an attribute, (1, D): the mean latent of examples `with` it, (N, D), minus that of examples
/// `without` it, (M, D).
///
/// # Errors
/// When the shapes differ.
pub fn direction(with: &Tensor, without: &Tensor) -> Result<Tensor> {
    let mean = |z: &Tensor| z.sum_keepdim(0)? / z.dim(0)? as f64;
    Ok((mean(with)? - mean(without)?)?)
}

/// Writes the direction of an attribute to a file of this kind, tied to the model with this config and these
/// parameters.
///
/// # Errors
/// When the file cannot be written.
pub fn save_direction(
    path: &Path,
    kind: &str,
    direction: &Tensor,
    config: &impl Serialize,
    parameters: &Parameters,
) -> Result<()> {
    let origin = serde_json::to_string(&origin(config, parameters)?).map_err(|e| Error::file(path, e))?;
    save_model(path, kind, &origin, &[("direction".to_string(), direction.clone())])
}

/// Reads a direction (1, `dims`) written by [`save_direction`] for this model.
///
/// # Errors
/// When the file cannot be read, or is of another kind or for another model.
pub fn load_direction(
    path: &Path,
    kind: &str,
    dims: usize,
    config: &impl Serialize,
    parameters: &Parameters,
) -> Result<Tensor> {
    let file = load_model(path)?;
    file.expect_kind(kind)?;
    if file.config::<serde_json::Value>().ok() != Some(origin(config, parameters)?) {
        return Err(Error::file(path, "is a direction of another model; compute it again by --with and --without"));
    }
    match file.tensors.get("direction").filter(|t| t.dims() == [1, dims]) {
        Some(direction) => Ok(direction.clone()),
        None => Err(Error::file(path, "holds no direction; compute it again by --with and --without")),
    }
}

/// The identity of a model: its config, and a hash of its weights (FNV-1a over their bits).
fn origin(config: &impl Serialize, parameters: &Parameters) -> Result<serde_json::Value> {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for (_, weights) in parameters.tensors() {
        let weights = weights.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?;
        for weight in weights.to_vec1::<f64>()? {
            hash = (hash ^ weight.to_bits()).wrapping_mul(0x100_0000_01b3);
        }
    }
    Ok(serde_json::json!({ "config": config, "weights": format!("{hash:016x}") }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::flows::{Flow, FlowConfig, RealNvp};
    use crate::testing::difference;

    #[test]
    fn an_arc_keeps_the_length() {
        for angle in [0.3f64, 1.5, 3.0] {
            for t in [0.0, 0.2, 0.5, 1.0] {
                let [a, b] = arc_weights(angle, t);
                // The length of a x + b y for unit vectors x and y with this angle between them.
                assert!((a * a + b * b + 2.0 * a * b * angle.cos() - 1.0).abs() < 1e-12, "{angle} {t}");
                // Its angle to the first end is the fraction t of the whole.
                assert!((a + b * angle.cos() - (t * angle).cos()).abs() < 1e-12, "{angle} {t}");
            }
        }
        for straight in [0.0, std::f64::consts::PI, f64::NAN] {
            assert_eq!(arc_weights(straight, 0.25), [0.75, 0.25]);
        }
    }

    #[test]
    fn paths_have_their_ends() -> Result<()> {
        let points = Rng::seed(0).normal_tensor((2, 3), DType::F64, &Device::Cpu)?;
        let (a, b) = (points.narrow(0, 0, 1)?, points.narrow(0, 1, 1)?);
        let path = arc(&a, &b, 4)?;
        assert!(path.len() == 4 && difference(&path[0], &a)? < 1e-12 && difference(&path[3], &b)? < 1e-12);
        let quarter = circle([&a, &b], 0.25, 3)?;
        assert!(difference(&quarter[0], &a)? < 1e-12 && difference(&quarter[2], &b)? < 1e-12);
        Ok(())
    }

    #[test]
    fn a_direction_belongs_to_its_model() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("glasses.safetensors");
        let flow = |seed| Flow::new(FlowConfig::new(2, RealNvp::default()), &mut Rng::seed(seed));
        let (one, other) = (flow(0)?, flow(1)?);
        let with = Tensor::new(&[[1.0f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
        let found = direction(&with, &Tensor::new(&[[1.0f32, -1.0]], &Device::Cpu)?)?;
        assert_eq!(found.to_vec2::<f32>()?, [[1.0, 4.0]]);
        save_direction(&path, "test", &found, one.config(), one.parameters())?;
        let load = |kind: &str, dims, flow: &Flow| load_direction(&path, kind, dims, flow.config(), flow.parameters());
        assert_eq!(difference(&load("test", 2, &one)?, &found)?, 0.0);
        for (error, part) in [
            (load("test", 2, &other), "another model"),
            (load("test", 3, &one), "no direction"),
            (load("a", 2, &one), "`test`"),
        ] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        Ok(())
    }
}
