//! Sylvester flows: planar flows of many hidden units.

use super::amortised::{Amortised, epsilon};
use super::{Bijector, Direction, Mode, check_input_of};
use crate::nn::Scope;
use crate::ops::{self, increasing_roots};
use crate::shape::batch_shape;
use crate::{Error, Result, Rng, Structure};
use candle_core::{DType, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How a [`Sylvester`] flow makes the orthonormal columns of Q.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SylvesterBasis {
    /// O-SNF: the Q of a free D x M matrix's QR decomposition, where the paper iterates
    /// `Q <- Q (I + (I - Q^T Q)/2)`, at a hundred times the cost.
    Orthogonal {
        /// M, at most D.
        columns: usize,
    },
    /// H-SNF: a product of Householder reflections, M = D.
    Householder {
        /// How many.
        reflections: usize,
    },
    /// T-SNF: the identity, or the permutation that reverses the order; M = D.
    Triangular {
        /// Whether to reverse, as every second flow of a chain should.
        flip: bool,
    },
}

/// The Sylvester flow of van den Berg et al. (2018): `x = z + Q R1 tanh(R2 Q^T z + b)`,
/// `log|det dx/dz| = sum_i ln(1 + r1_ii r2_ii (1 - tanh^2(R2 Q^T z + b)_i))`.
///
/// Q is (D, M) with orthonormal columns, R1 and R2 are upper triangular with diagonals in (-1, 1),
/// hence the map is invertible (their theorem 2). Above the diagonal they are the upper halves of
/// one matrix and of its transpose, as in the authors' code. The inverse is solved in the
/// coordinates `u = Q^T z`, where the system is triangular, from the last one up: an increasing
/// scalar equation each, for any x and to machine precision; its gradients are those of the implicit
/// function. With a context, all parameters are a linear map of it, one flow for each row.
#[derive(Debug)]
pub struct Sylvester {
    shape: [usize; 1],
    units: usize,
    basis: SylvesterBasis,
    parameters: Amortised<4>,
    columns: Option<Amortised<1>>,
    /// Ones above the diagonal, (1, M, M).
    upper: Tensor,
    /// The identity, reversed for a flipped basis, (1, D, D).
    identity: Tensor,
}

/// Parameters of R rows, R being 1 or B.
struct Terms {
    /// Q, (R, D, M).
    q: Tensor,
    /// The diagonals of R1 and R2, (R, M).
    r1: Tensor,
    r2: Tensor,
    /// The transposes of R1 and R2 off the diagonal, (R, M, M).
    n1: Tensor,
    n2: Tensor,
    /// (R, M).
    b: Tensor,
    /// 1 + r1 r2, (R, M).
    slope: Tensor,
}

impl Sylvester {
    /// A flow of vectors of length `dim`, near the identity; its parameters come from a context of
    /// this width, if one is given.
    ///
    /// # Errors
    /// When a size is 0, there are more columns than dimensions, or a name is taken in `scope`.
    pub fn new(dim: usize, basis: SylvesterBasis, context: Option<usize>, scope: &Scope) -> Result<Self> {
        let mut rng = scope.draw(|rng| rng.clone());
        let (units, columns, flip) = match basis {
            SylvesterBasis::Orthogonal { columns } => (columns, columns, false),
            SylvesterBasis::Householder { reflections } => (dim, reflections, false),
            SylvesterBasis::Triangular { flip } => (dim, 1, flip),
        };
        let most = if units == dim { dim.max(1000) } else { dim };
        if columns == 0 || units == 0 || units > dim || columns > most {
            return Err(Error::Config(format!("{basis:?} does not fit {dim} dimensions: take 1 to {most}")));
        }
        scope.reserve("basis", (dim, dim.max(columns)), DType::F64)?;
        let mut around = |n: usize, centre: f64, std: f64| -> Vec<f64> {
            (0..n).map(|_| centre + std * rng.as_mut().map_or(0.0, Rng::normal)).collect()
        };
        let parts = [
            ("diagonal1", around(units, 0.0, 1e-2)),
            ("diagonal2", around(units, 0.5, 1e-2)),
            ("triangles", around(units * units, 0.0, 1e-2)),
            ("bias", vec![0.0; units]),
        ];
        let columns = match basis {
            SylvesterBasis::Triangular { .. } => None,
            _ => Some(Amortised::new([("basis", around(dim * columns, 0.0, 1.0))], context, &scope.enter("basis"))?),
        };
        let constant = |n: usize, one: &dyn Fn(usize, usize) -> bool| -> Result<Tensor> {
            let values: Vec<f64> = (0..n * n).map(|k| f64::from(u8::from(one(k / n, k % n)))).collect();
            Ok(Tensor::from_vec(values, (1, n, n), scope.device())?.to_dtype(scope.dtype())?)
        };
        Ok(Self {
            shape: [dim],
            units,
            basis,
            parameters: Amortised::new(parts, context, scope)?,
            columns,
            upper: constant(units, &|i, j| j > i)?,
            identity: constant(dim, &|i, j| j == if flip { dim - 1 - i } else { i })?,
        })
    }

    fn terms(&self, batch: usize, context: Option<&Tensor>) -> Result<Terms> {
        let [d1, d2, full, b] = self.parameters.get(batch, context)?;
        let full = full.reshape(batch_shape(full.dim(0)?, &[self.units, self.units]))?;
        let (r1, r2) = (ops::tanh(&d1)?, ops::tanh(&d2)?);
        // Rounding may take the slope below its bound of 0.
        let slope = ((&r1 * &r2)? + 1.0)?.maximum(epsilon(&r1))?;
        let n1 = full.broadcast_mul(&self.upper)?.transpose(1, 2)?.contiguous()?;
        let n2 = full.broadcast_mul(&self.upper.transpose(1, 2)?)?;
        Ok(Terms { q: self.basis(batch, context)?, r1, r2, n1, n2, b, slope })
    }

    fn basis(&self, batch: usize, context: Option<&Tensor>) -> Result<Tensor> {
        let Some(columns) = &self.columns else { return Ok(self.identity.clone()) };
        let [raw] = columns.get(batch, context)?;
        let rows = raw.dim(0)?;
        match self.basis {
            SylvesterBasis::Householder { reflections } => {
                let vectors = raw.reshape((rows, reflections, self.shape[0]))?;
                householder(&self.identity, &vectors)
            }
            _ => Ok(ops::qr(&raw.reshape((rows, self.shape[0], self.units))?)?.0),
        }
    }
}

/// The product of the reflections at the rows of (R, H, D), (R, D, D).
fn householder(identity: &Tensor, vectors: &Tensor) -> Result<Tensor> {
    let (rows, reflections, dim) = vectors.dims3()?;
    let mut q = identity.broadcast_as((rows, dim, dim))?.contiguous()?;
    for i in 0..reflections {
        let v = vectors.narrow(1, i, 1)?.contiguous()?;
        let twice = (v.affine(2.0, 0.0)?.broadcast_div(&v.sqr()?.sum_keepdim(2)?.maximum(1e-30)?))?;
        q = (&q - q.matmul(&v.transpose(1, 2)?.contiguous()?)?.matmul(&twice)?)?;
    }
    Ok(q)
}

/// v (B, N) times m (R, N, M), row by row.
fn product(v: &Tensor, m: &Tensor) -> Result<Tensor> {
    if m.dim(0)? == 1 {
        return ops::product(v, &m.squeeze(0)?);
    }
    Ok(v.contiguous()?.unsqueeze(1)?.matmul(m)?.squeeze(1)?)
}

impl Terms {
    /// `tanh(R2 u + b)`, (B, M).
    fn hidden(&self, u: &Tensor) -> Result<Tensor> {
        ops::tanh(&(u.broadcast_mul(&self.r2)? + product(u, &self.n2)?)?.broadcast_add(&self.b)?)
    }

    /// `R1 t`, (B, M).
    fn push(&self, t: &Tensor) -> Result<Tensor> {
        Ok((t.broadcast_mul(&self.r1)? + product(t, &self.n1)?)?)
    }

    /// `Q v`, (B, D).
    fn lift(&self, v: &Tensor) -> Result<Tensor> {
        product(v, &self.q.transpose(1, 2)?.contiguous()?)
    }

    /// `log|det dx/dz|` from t = tanh(R2 Q^T z + b), (B, M); logarithms of sums of positive terms.
    fn log_det(&self, t: &Tensor) -> Result<Tensor> {
        let square = t.sqr()?;
        ops::sum(&ops::ln(&(square.affine(-1.0, 1.0)?.broadcast_mul(&self.slope)? + square)?)?, 1)
    }

    /// The roots u of `u + R1 tanh(R2 u + b) = y` for y (B, M), and the transposed inverses of its
    /// Jacobians there, (B, M, M); both without graph.
    fn solve(&self, y: &Tensor) -> Result<(Tensor, Tensor)> {
        let (batch, m) = y.dims2()?;
        let values =
            |t: &Tensor| -> Result<Vec<f64>> { Ok(t.detach().to_dtype(DType::F64)?.flatten_all()?.to_vec1()?) };
        // Shared parameters have one row, which serves every row of the batch.
        let step = |t: &Tensor| -> Result<usize> { Ok(usize::from(t.dim(0)? > 1)) };
        let (r1, r2, b, n1, n2) =
            (values(&self.r1)?, values(&self.r2)?, values(&self.b)?, values(&self.n1)?, values(&self.n2)?);
        let (row, y) = (step(&self.r1)?, values(y)?);
        let (mut u, mut t) = (vec![0.0; batch * m], vec![0.0; batch * m]);
        for i in (0..m).rev() {
            let known: Vec<(f64, f64)> = (0..batch)
                .map(|k| {
                    let (at, matrix) = (k * m, k * row * m * m);
                    let sum = |n: &[f64], v: &[f64]| (i + 1..m).map(|j| n[matrix + j * m + i] * v[at + j]).sum::<f64>();
                    (y[at + i] - sum(&n1, &t), b[k * row * m + i] + sum(&n2, &u))
                })
                .collect();
            let brackets: Vec<(f64, f64)> = (known.iter().enumerate())
                .map(|(k, (target, _))| {
                    let width = r1[k * row * m + i].abs() + 1e-12 * target.abs();
                    (target - width, target + width)
                })
                .collect();
            let roots = increasing_roots(&brackets, |k, u| {
                let (r1, r2) = (r1[k * row * m + i], r2[k * row * m + i]);
                let t = (r2 * u + known[k].1).tanh();
                (u + r1 * t - known[k].0, 1.0 + r1 * r2 * (1.0 - t * t))
            });
            for (k, root) in roots.into_iter().enumerate() {
                u[k * m + i] = root;
                t[k * m + i] = (r2[k * row * m + i] * root + known[k].1).tanh();
            }
        }
        let mut inverses = vec![0.0; batch * m * m];
        inverses.par_chunks_mut(m * m).enumerate().for_each(|(k, inverse)| {
            let (p, matrix) = (k * row * m, k * row * m * m);
            let upper =
                |r: &[f64], n: &[f64], i: usize, j: usize| if i == j { r[p + i] } else { n[matrix + j * m + i] };
            let mut jacobian = vec![0.0; m * m];
            for i in 0..m {
                for j in i..m {
                    let entry = |l: usize| {
                        let t = t[k * m + l];
                        upper(&r1, &n1, i, l) * (1.0 - t * t) * upper(&r2, &n2, l, j)
                    };
                    jacobian[i * m + j] = f64::from(u8::from(i == j)) + (i..=j).map(entry).sum::<f64>();
                }
            }
            transposed_inverse(&mut jacobian, inverse, m);
        });
        let tensor = |values: Vec<f64>, shape: &[usize]| -> Result<Tensor> {
            Ok(Tensor::from_vec(values, shape, self.q.device())?.to_dtype(self.q.dtype())?)
        };
        Ok((tensor(u, &[batch, m])?, tensor(inverses, &[batch, m, m])?))
    }

    fn to_data(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let t = self.hidden(&product(z, &self.q)?)?;
        Ok(((z + self.lift(&self.push(&t)?)?)?, self.log_det(&t)?))
    }

    fn to_latent(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let y = product(x, &self.q)?;
        let (root, inverse) = self.solve(&y)?;
        // A step of Newton's method that is zero in value and has the gradient of the implicit function.
        let rest = (self.push(&self.hidden(&root)?)? - y)?;
        let step = product(&(&rest - rest.detach())?, &inverse)?;
        let t = self.hidden(&(root - step)?)?;
        Ok(((x - self.lift(&self.push(&t)?)?)?, self.log_det(&t)?.neg()?))
    }
}

/// The transposed inverse of the upper triangular `a`, (m, m), whose diagonal is kept off 0.
fn transposed_inverse(a: &mut [f64], out: &mut [f64], m: usize) {
    for i in 0..m {
        a[i * m + i] = a[i * m + i].max(f64::EPSILON);
    }
    for j in 0..m {
        out[j * m + j] = 1.0 / a[j * m + j];
        for i in (0..j).rev() {
            let sum: f64 = (i + 1..=j).map(|l| a[i * m + l] * out[j * m + l]).sum();
            out[j * m + i] = -sum / a[i * m + i];
        }
    }
}

impl Bijector for Sylvester {
    fn latent_shape(&self) -> &[usize] {
        &self.shape
    }

    fn map(
        &self,
        direction: Direction,
        input: &Tensor,
        context: Option<&Tensor>,
        _: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let batch = check_input_of("a Sylvester flow", self, direction, input)?;
        let terms = self.terms(batch, context)?;
        match direction {
            Direction::Forward => terms.to_data(input),
            Direction::Inverse => terms.to_latent(input),
        }
    }

    fn structure(&self) -> Structure {
        let basis = match self.basis {
            SylvesterBasis::Orthogonal { columns } => format!("{columns} orthonormal columns"),
            SylvesterBasis::Householder { reflections } => format!("{reflections} reflections"),
            SylvesterBasis::Triangular { flip: false } => "triangular".into(),
            SylvesterBasis::Triangular { flip: true } => "triangular, flipped".into(),
        };
        let node = self.parameters.structure("Sylvester", format!("{}, {basis}", self.shape[0]));
        node.parts(self.columns.iter().map(|columns| columns.structure("Basis", String::new())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Parameters;
    use crate::testing::{difference, measure, perturb};
    use candle_core::Device;

    const BASES: [SylvesterBasis; 4] = [
        SylvesterBasis::Orthogonal { columns: 2 },
        SylvesterBasis::Householder { reflections: 3 },
        SylvesterBasis::Triangular { flip: false },
        SylvesterBasis::Triangular { flip: true },
    ];

    #[test]
    fn exact_with_and_without_context() -> Result<()> {
        for (basis, context) in BASES.into_iter().flat_map(|basis| [(basis, None), (basis, Some(2))]) {
            let mut rng = Rng::seed(3);
            let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
            let flow = Sylvester::new(4, basis, context, &parameters.scope())?;
            perturb(&parameters, 0.5, &mut rng)?;
            let z = (rng.normal_tensor((5, 4), DType::F64, &Device::Cpu)? * 2.0)?;
            let context = rng.normal_tensor((5, context.unwrap_or(1)), DType::F64, &Device::Cpu)?;
            let report = measure(&flow, &parameters, &z, Some(&context), &mut rng)?;
            assert!(report.worst() < 1e-7 && report.round_trip < 1e-12, "{basis:?}: {report:?}");
        }
        Ok(())
    }

    #[test]
    fn any_point_is_inverted_and_nan_stays_in_its_row() -> Result<()> {
        let parameters = Parameters::new(DType::F64, &Device::Cpu, Rng::seed(0));
        let flow = Sylvester::new(3, SylvesterBasis::Orthogonal { columns: 2 }, None, &parameters.scope())?;
        perturb(&parameters, 3.0, &mut Rng::seed(2))?;
        let x = Tensor::new(&[[1e8, -3.0, 0.0], [0.0, 0.0, 0.0], [f64::NAN, 0.0, 0.0]], &Device::Cpu)?;
        let (z, log_det) = flow.inverse(&x, None)?;
        let back = flow.forward(&z, None)?.0;
        assert!(difference(&x.narrow(0, 0, 2)?, &back.narrow(0, 0, 2)?)? < 1e-12);
        assert!(log_det.to_vec1::<f64>()?[..2].iter().all(|l| l.is_finite()));
        assert!(
            Sylvester::new(3, SylvesterBasis::Orthogonal { columns: 4 }, None, &parameters.scope().enter("x")).is_err()
        );
        Ok(())
    }
}
