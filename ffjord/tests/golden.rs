//! Compares solutions, densities and gradients with those of torchdiffeq in the golden files.

use candle_core::{DType, Device, Tensor, Var};
use ffjord::field::{MlpConfig, TimeLayer};
use ffjord::solver::{Method, Solver};
use ffjord::{Cnf, CnfSettings, Gradient};
use flows_core::bijectors::Bijector;
use flows_core::distributions::{Distribution, StandardNormal};
use flows_core::nn::Parameters;
use flows_core::testing::difference;
use flows_core::{Error, Result, Rng};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// One golden file.
struct Golden {
    metadata: HashMap<String, String>,
    tensors: HashMap<String, Tensor>,
}

/// The right-hand side of an equation.
type Slope = Box<dyn Fn(f64, &[f64]) -> Vec<f64>>;

fn bad(message: impl Into<String>) -> Error {
    Error::Data(message.into())
}

impl Golden {
    fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::file(path, e))?;
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| Error::file(path, e))?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
        let tensors = tensors.into_iter().map(|(name, t)| Ok((name, t.to_dtype(DType::F64)?)));
        Ok(Self { metadata: header.metadata().clone().unwrap_or_default(), tensors: tensors.collect::<Result<_>>()? })
    }

    fn entry<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let text = self.metadata.get(name).ok_or_else(|| bad(format!("the metadata has no `{name}`")))?;
        serde_json::from_str(text).map_err(|e| bad(format!("`{name}`: {e}")))
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| bad(format!("there is no tensor `{name}`")))
    }

    fn values(&self, name: &str) -> Result<Vec<f64>> {
        Ok(self.tensor(name)?.flatten_all()?.to_vec1()?)
    }

    fn check(&self) -> Result<()> {
        match self.metadata.get("problem") {
            Some(problem) => self.equation(problem),
            None => self.flow(),
        }
    }

    /// The right-hand side of the equation `problem`, for rows of `width` numbers.
    fn slope(&self, problem: &str, width: usize) -> Result<Slope> {
        Ok(match problem {
            "linear" => {
                let a = self.tensor("matrix")?.to_vec2::<f64>()?;
                Box::new(move |_, y| {
                    y.chunks(width)
                        .flat_map(|row| {
                            (0..width).map(|j| (0..width).map(|i| row[i] * a[j][i]).sum()).collect::<Vec<f64>>()
                        })
                        .collect()
                })
            }
            "lotka_volterra" => Box::new(|_, y| {
                y.chunks(2).flat_map(|p| [1.5 * p[0] - p[0] * p[1], p[0] * p[1] - 3.0 * p[1]]).collect()
            }),
            "van_der_pol" => {
                Box::new(|_, y| y.chunks(2).flat_map(|p| [p[1], 5.0 * (1.0 - p[0] * p[0]) * p[1] - p[0]]).collect())
            }
            "time_dependent" => Box::new(|t, y| y.iter().map(|y| t - t.cos() * y).collect()),
            other => return Err(bad(format!("the problem `{other}` is unknown"))),
        })
    }

    /// Checks value, density and gradients of a continuous flow for each kind of gradient.
    fn flow(&self) -> Result<()> {
        let dims: Vec<usize> = self.entry("dims")?;
        let [dim, hidden @ .., _] = &dims[..] else { return Err(bad("`dims` has no layer")) };
        let layer = self.metadata.get("layer").map(String::as_str).unwrap_or_default();
        if !layer.starts_with("(W x + b) * sigmoid(g t + c) + h t") {
            return Err(bad(format!("the layer `{layer}` is unknown")));
        }
        let activation = self.metadata.get("activation").cloned().unwrap_or_default();
        let activation = serde_json::from_value(activation.clone().into()).map_err(|e| bad(e.to_string()))?;
        let solver = Solver::new(Method::Dopri5, 1e-10);
        for gradient in [Gradient::Discrete, Gradient::Adjoint, Gradient::Plain] {
            let settings = CnfSettings {
                field: MlpConfig { hidden: hidden.to_vec(), layer: TimeLayer::ConcatSquash, activation, gain: 1.0 }
                    .into(),
                end_time: self.entry("end_time")?,
                solver,
                gradient,
                ..CnfSettings::default()
            };
            let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
            let cnf = Cnf::new(*dim, &settings, None, &parameters.scope())?;
            let mut weights = HashMap::new();
            for name in parameters.names() {
                let tensor = self.tensor(&format!("param.{}", published(&name)))?;
                weights.insert(
                    name.clone(),
                    if name.ends_with(".weight") { tensor.clone() } else { tensor.flatten_all()? },
                );
            }
            parameters.load(&weights)?;
            let x = Var::from_tensor(self.tensor("x")?)?;
            let (z, log_det) = cnf.inverse(&x, None)?;
            let log_prob = (StandardNormal::new([*dim], DType::F64, &Device::Cpu)?.log_prob(&z, None)? + &log_det)?;
            let gradients = log_prob.mean_all()?.neg()?.backward()?;
            let mut pairs = vec![
                ("z".to_string(), z),
                ("delta_logp".into(), log_det.neg()?),
                ("log_prob".into(), log_prob.clone()),
            ];
            let leaves = parameters.trainable().into_iter().map(|(name, var)| (published(&name), var));
            for (name, var) in leaves.chain([("x".to_string(), x)]) {
                let got = gradients.get(&var).ok_or_else(|| bad(format!("`{name}` has no gradient")))?;
                pairs.push((format!("grad.{name}"), got.clone()));
            }
            let mut worst = 0.0f64;
            for (name, got) in pairs {
                let want = self.tensor(&name)?.flatten_all()?;
                let scale = want.abs()?.max_all()?.to_scalar::<f64>()?;
                let d = difference(&(&want / scale)?, &(got.flatten_all()? / scale)?)?;
                worst = worst.max(d);
                if d > 1e-6 {
                    return Err(bad(format!("{gradient:?}: `{name}` differs by {d:e} of its size")));
                }
            }
            println!("{gradient:?}: largest relative difference {worst:e}, {:?}", cnf.take_cost());
        }
        Ok(())
    }

    /// Checks that at every tolerance the error is at most twice torchdiffeq's, with at most 5% more evaluations.
    fn equation(&self, problem: &str) -> Result<()> {
        let (times, exact) = (self.values("t")?, self.values("y_exact")?);
        let y0 = self.tensor("y0")?;
        let f = self.slope(problem, y0.dims().last().copied().unwrap_or(1))?;
        let y0: Vec<f64> = y0.flatten_all()?.to_vec1()?;
        let error = |values: &[f64]| values.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let counts: BTreeMap<String, usize> = self.entry("nfe")?;
        for (tolerance, theirs) in &counts {
            let number: f64 = tolerance.parse().map_err(|_| bad(format!("`{tolerance}` is no tolerance")))?;
            let solver = Solver::new(Method::Dopri5, number);
            let solution = solver.solve(|t, y: &Vec<f64>| Ok(f(t, y)), y0.clone(), &times)?.finished()?;
            let (ours, stats) = (error(&solution.states.concat()), solution.stats);
            let limit = error(&self.values(&format!("dopri5.{tolerance}"))?);
            println!("{problem} {tolerance}: error {ours:e} against {limit:e}, {stats:?} against {theirs}");
            if ours > 2.0 * limit || stats.evaluations * 100 > theirs * 105 {
                return Err(bad(format!("{tolerance}: error {ours:e} against {limit:e}, {stats:?} against {theirs}")));
            }
        }
        Ok(())
    }
}

/// The name of a weight in the golden files.
fn published(name: &str) -> String {
    let (layer, part) = name.split_once('.').unwrap_or((name, ""));
    let part = match part {
        "weight" => "layer.weight",
        "bias" => "layer.bias",
        "shift" => "hyper_bias.weight",
        "gate" => "hyper_gate.weight",
        "gate_bias" => "hyper_gate.bias",
        other => other,
    };
    format!("{layer}.{part}")
}

#[test]
fn golden_files_agree() -> Result<()> {
    let named = std::env::var_os("FLOWS_GOLDEN");
    let root =
        named.clone().map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/golden"), PathBuf::from);
    let folder = root.join("cnf");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        assert!(named.is_none(), "FLOWS_GOLDEN names {}, which has no folder `cnf`", root.display());
        println!("skipped: there is no folder {}; set FLOWS_GOLDEN to the folder of golden files", folder.display());
        return Ok(());
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    assert!(!files.is_empty(), "{} holds no case", folder.display());
    let check = |path: &PathBuf| Golden::read(path)?.check().map_err(|e| bad(format!("{}: {e}", path.display())));
    let all = || files.iter().filter_map(|path| check(path).err()).map(|e| e.to_string()).collect();
    // Candle traverses the graph of a plain solve recursively.
    let deep = std::thread::Builder::new().stack_size(1 << 30);
    let failures: Vec<String> =
        std::thread::scope(|scope| deep.spawn_scoped(scope, all).expect("a thread").join()).expect("no panic");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}
