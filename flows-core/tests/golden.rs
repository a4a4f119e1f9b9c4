//! Comparison with values, log-determinants and gradients of other implementations, read from golden cases.

use candle_core::{DType, Device, Tensor, Var};
use flows_core::bijectors::univariate::{Affine, DeepSigmoid, Univariate};
use flows_core::bijectors::{Bijector, Householder, LuLinear, Planar, Radial, Start};
use flows_core::nn::{Parameters, Scope};
use flows_core::ops::{self, Direction, Ends, RqSplineSettings};
use flows_core::testing::difference;
use flows_core::{Error, Result, Rng};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// One golden file: its kind, its config, and its tensors in the tested dtype.
struct Golden {
    kind: String,
    config: Map<String, Value>,
    tensors: HashMap<String, Tensor>,
}

/// The value and log-determinant for a golden file, and the leaves for gradients.
struct Outcome {
    y: Tensor,
    log_det: Tensor,
    leaves: BTreeMap<String, Var>,
}

fn bad(message: impl Into<String>) -> Error {
    Error::Data(message.into())
}

impl Golden {
    fn read(path: &Path, dtype: DType) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| Error::file(path, e))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let entry = |name: &str| metadata.get(name).ok_or_else(|| bad(format!("the metadata has no `{name}`")));
        let config = serde_json::from_str(entry("config")?).map_err(|e| bad(format!("the config: {e}")))?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
        let tensors = tensors.into_iter().map(|(name, t)| Ok((name, t.to_dtype(dtype)?)));
        Ok(Self { kind: entry("bijector")?.clone(), config, tensors: tensors.collect::<Result<_>>()? })
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| bad(format!("there is no tensor `{name}`")))
    }

    /// The names of the tensors with this prefix, without it.
    fn names(&self, prefix: &str) -> Vec<&str> {
        self.tensors.keys().filter_map(|name| name.strip_prefix(prefix)).collect()
    }

    /// Fails at a setting that is neither one of these nor a description in words.
    fn settings(&self, known: &[&str]) -> Result<()> {
        const WORDS: [&str; 4] = ["map", "entries", "diagonal", "constraint"];
        match self.config.keys().find(|key| !WORDS.contains(&key.as_str()) && !known.contains(&key.as_str())) {
            Some(key) => Err(bad(format!("a {} with the setting `{key}` is unknown", self.kind))),
            None => Ok(()),
        }
    }

    fn number(&self, name: &str) -> Result<f64> {
        self.config.get(name).and_then(Value::as_f64).ok_or_else(|| bad(format!("the config has no number `{name}`")))
    }

    /// Fails unless a setting has the only supported value.
    fn only(&self, name: &str, value: &str) -> Result<()> {
        match self.config.get(name) {
            Some(Value::String(got)) if got == value => Ok(()),
            got => Err(bad(format!("a {} with `{name}` {got:?} is unknown", self.kind))),
        }
    }

    fn outcome(&self, dtype: DType) -> Result<Outcome> {
        let dim = self.tensor("x")?.dims().last().copied().unwrap_or(0);
        match self.kind.as_str() {
            "affine" => {
                self.settings(&[])?;
                self.elementwise(&["shift", "log_scale"], |x, raw| Affine::exp().forward(x, raw))
            }
            "glow_affine" => {
                self.settings(&[])?;
                self.elementwise(&["shift", "raw"], |x, raw| Affine::sigmoid(2.0).forward(x, raw))
            }
            "rq_spline" => {
                let names = ["bins", "tail_bound", "inverse", "min_bin_width", "min_bin_height", "min_derivative"];
                self.settings(&[&names[..], &["tails"]].concat())?;
                self.only("tails", "linear")?;
                let min_bin = self.number("min_bin_width")?;
                if self.number("min_bin_height")? != min_bin {
                    return Err(bad("an rq_spline whose `min_bin_width` and `min_bin_height` differ is unknown"));
                }
                let bound = self.number("tail_bound")?;
                let settings = RqSplineSettings {
                    bins: self.number("bins")? as usize,
                    low: -bound,
                    high: bound,
                    ends: Ends::Linear,
                    min_bin,
                    min_slope: self.number("min_derivative")?,
                };
                let direction = match self.config.get("inverse") {
                    Some(Value::Bool(false)) => Direction::Forward,
                    Some(Value::Bool(true)) => Direction::Inverse,
                    got => return Err(bad(format!("an rq_spline with `inverse` {got:?} is unknown"))),
                };
                let names = ["widths", "heights", "derivatives"];
                self.elementwise(&names, |x, raw| ops::rq_spline(x, raw, settings, direction))
            }
            "deep_sigmoid" => {
                self.settings(&[])?;
                let units = self.tensor("param.w")?.dims().last().copied().unwrap_or(0);
                let family = DeepSigmoid::new(units)?;
                self.elementwise(&["a", "b", "w"], |x, raw| family.forward(x, raw))
            }
            "lu_linear" => {
                self.settings(&[])?;
                let build = |scope: &Scope| LuLinear::new(dim, Start::Identity, None, scope);
                self.module(build, Direction::Inverse, dtype)
            }
            "householder" => {
                self.settings(&[])?;
                let reflections = self.tensor("param.q")?.dim(0)?;
                self.module(|scope| Householder::new(dim, reflections, scope), Direction::Inverse, dtype)
            }
            "planar" => {
                self.settings(&["activation"])?;
                self.only("activation", "tanh")?;
                self.module(|scope| Planar::new(dim, None, scope), Direction::Forward, dtype)
            }
            "radial" => {
                self.settings(&[])?;
                self.module(|scope| Radial::new(dim, None, scope), Direction::Forward, dtype)
            }
            kind => Err(bad(format!("the bijector `{kind}` is unknown"))),
        }
    }

    /// A univariate function with these raw parameters, each (B, N) or (B, N, P), concatenated.
    fn elementwise(
        &self,
        names: &[&str],
        apply: impl Fn(&Tensor, &Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<Outcome> {
        let x = Var::from_tensor(self.tensor("x")?)?;
        let (batch, n) = x.dims2()?;
        let mut raw = Vec::new();
        let mut leaves = BTreeMap::new();
        for name in names {
            let leaf = Var::from_tensor(self.tensor(&format!("param.{name}"))?)?;
            raw.push(leaf.reshape((batch, n, ()))?);
            leaves.insert(name.to_string(), leaf);
        }
        let (y, log) = apply(&x, &Tensor::cat(&raw, 2)?)?;
        leaves.insert("x".into(), x);
        Ok(Outcome { y, log_det: ops::sum_event(&log)?, leaves })
    }

    /// A bijector with the file's weights.
    fn module<B: Bijector>(
        &self,
        build: impl Fn(&Scope) -> Result<B>,
        direction: Direction,
        dtype: DType,
    ) -> Result<Outcome> {
        let parameters = Parameters::new(dtype, &Device::Cpu, Rng::seed(0));
        let bijector = build(&parameters.scope())?;
        let mut weights = HashMap::new();
        for name in self.names("param.") {
            let value = self.tensor(&format!("param.{name}"))?;
            // Vectors may be saved as rows.
            let own = parameters.tensors().into_iter().find(|(own, _)| own == name);
            let value = own.map_or(Ok(value.clone()), |(_, own)| value.reshape(own.shape()))?;
            weights.insert(name.to_string(), value);
        }
        parameters.load(&weights)?;
        let x = Var::from_tensor(self.tensor("x")?)?;
        let (y, log_det) = match direction {
            Direction::Forward => bijector.forward(&x, None)?,
            Direction::Inverse => bijector.inverse(&x, None)?,
        };
        let mut leaves: BTreeMap<String, Var> = parameters.trainable().into_iter().collect();
        leaves.insert("x".into(), x);
        Ok(Outcome { y, log_det, leaves })
    }
}

/// Fails unless everything in the file agrees with our results within `tolerance`.
fn check(path: &Path, dtype: DType, tolerance: f64) -> Result<()> {
    let (golden, exact) = (Golden::read(path, dtype)?, Golden::read(path, DType::F64)?);
    let Outcome { y, log_det, leaves } = golden.outcome(dtype)?;
    let close = |name: &str, got: &Tensor| {
        let want = exact.tensor(name)?;
        let worst = difference(&want.flatten_all()?, &got.flatten_all()?)?;
        if worst <= tolerance { Ok(()) } else { Err(bad(format!("`{name}` differs by {worst:e} in {dtype:?}"))) }
    };
    close("y", &y)?;
    close("logdet", &log_det)?;
    let loss = ((y * golden.tensor("gy")?)?.sum_all()? + (log_det * golden.tensor("gl")?)?.sum_all()?)?;
    let gradients = loss.backward()?;
    let mut checked = 0;
    for name in exact.names("grad.") {
        let full = format!("grad.{name}");
        if exact.tensor(&full)?.elem_count() == 0 {
            continue;
        }
        let leaf = leaves.get(name).ok_or_else(|| bad(format!("`{full}` is of nothing that there is here")))?;
        let zeros = leaf.zeros_like()?;
        close(&full, gradients.get(leaf).unwrap_or(&zeros))?;
        checked += 1;
    }
    match leaves.len() {
        n if n == checked => Ok(()),
        n => Err(bad(format!("gradients are given of {checked} of {n} inputs"))),
    }
}

/// The files of golden cases in a folder.
fn cases(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = std::fs::read_dir(folder).map_err(|e| Error::file(folder, e))?;
    let paths = files.map(|file| Ok(file.map_err(|e| Error::file(folder, e))?.path())).collect::<Result<Vec<_>>>()?;
    let paths: Vec<_> = paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    if paths.is_empty() { Err(Error::file(folder, "holds no .safetensors file")) } else { Ok(paths) }
}

#[test]
fn golden_bijectors() {
    let named = std::env::var_os("FLOWS_GOLDEN").map(PathBuf::from);
    let root = named.clone().unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden").into());
    let folder = root.join("bijectors");
    if named.is_none() && !root.exists() {
        return eprintln!("there are no golden cases at {}: passed over; FLOWS_GOLDEN names another", root.display());
    }
    let paths = cases(&folder).unwrap_or_else(|e| panic!("{e}; FLOWS_GOLDEN must name the folder of golden cases"));
    let mut failures = Vec::new();
    for path in paths {
        for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 2e-4)] {
            if let Err(error) = check(&path, dtype, tolerance) {
                failures.push(format!("{}: {error}", path.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_folder_without_cases_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder for a moment");
    for path in [folder.path().join("none"), folder.path().into()] {
        let error = cases(&path).expect_err("no cases").to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
