//! Properties of the density of a mixed table.

use super::*;
use crate::bijectors::Bounds;
use crate::distributions::{draw, score};
use crate::flows::MixedTableModel;
use crate::nn::Activation;
use crate::testing::{close, gradient_difference, perturb};
use candle_core::Var;

mod given;
mod learning;

const CPU: &Device = &Device::Cpu;

/// Rows of five dependent columns: a category, a number, a positive number with an atom and missing cells, a whole
/// number, and a whole number with an atom, missing cells and a range.
fn rows(count: usize, seed: u64) -> Vec<[f64; 5]> {
    let mut rng = Rng::seed(seed);
    let row = |_| {
        let class = rng.below(3) as f64;
        let number = 100.0 + 10.0 * (class + rng.normal());
        let rain = match rng.below(10) {
            0..4 => 0.0,
            4..6 => f64::NAN,
            _ => (0.3 * rng.normal() + class).exp(),
        };
        let whole = (3.0 * rng.normal() + 2.0 * class).round();
        let count = match rng.below(10) {
            0..5 => 7.0,
            5 => f64::NAN,
            _ => rng.below(12) as f64,
        };
        [class, number, rain, whole, count]
    };
    (0..count).map(row).collect()
}

fn columns(rows: &[[f64; 5]]) -> Result<Vec<Column>> {
    let values = |i: usize| rows.iter().map(|row| row[i]).collect::<Vec<f64>>();
    Ok(vec![
        Column::category("class", 3, &values(0))?,
        Column::number("number", &values(1), Bounds::NONE)?,
        Column::number("rain", &values(2), Bounds::above(0.0))?,
        Column::whole("whole", &values(3), [None; 2])?,
        Column::whole("count", &values(4), [Some(0.0), Some(11.0)])?,
    ])
}

fn tensor<const D: usize>(rows: &[[f64; D]]) -> Result<Tensor> {
    Ok(Tensor::from_vec(rows.concat(), (rows.len(), D), CPU)?)
}

/// A table of some of the columns, with weights that are not the initial ones.
fn table(which: &[usize], dtype: DType, context: Option<usize>) -> Result<MixedTableModel> {
    table_with_noise(which, dtype, context, 0.3)
}

fn table_with_noise(which: &[usize], dtype: DType, context: Option<usize>, noise: f64) -> Result<MixedTableModel> {
    let all = columns(&rows(400, 0))?;
    let columns: Vec<Column> = which.iter().map(|&i| all[i].clone()).collect();
    let network = NetworkConfig::Residual { hidden: 24, blocks: 1, activation: Activation::Tanh, dropout: 0.0 };
    let config = MixedTableConfig { network, bins: 5, context, ..MixedTableConfig::new(columns) };
    let model = MixedTableModel::on(config, dtype, CPU, &mut Rng::seed(1))?;
    // The same noise in f32 and f64, up to rounding.
    perturb(model.parameters(), noise, &mut Rng::seed(2))?;
    Ok(model)
}

fn density(model: &MixedTableModel, rows: Vec<f64>) -> Result<Vec<f64>> {
    let d = model.event_shape()[0];
    let x = Tensor::from_vec(rows.clone(), (rows.len() / d, d), CPU)?;
    Ok(score(model, &x, None)?.exp()?.to_vec1()?)
}

#[test]
fn columns_are_fitted_to_what_they_hold() -> Result<()> {
    let columns = columns(&rows(400, 0))?;
    let numeric = |i: usize| match &columns[i].content {
        Content::Number(numeric) | Content::Whole(numeric) => numeric.clone(),
        Content::Category { .. } => panic!("column {i} is a category"),
    };
    assert_eq!((numeric(1).atoms, numeric(1).missing), (vec![], false));
    assert_eq!((numeric(2).atoms, numeric(2).missing), (vec![0.0], true));
    assert_eq!((numeric(3).atoms, numeric(3).missing), (vec![], false));
    assert_eq!((numeric(4).atoms, numeric(4).missing), (vec![7.0], true));
    for (share, want) in columns[2].shares.iter().zip([0.4, 0.4, 0.2]) {
        assert!((share - want).abs() < 0.06, "{:?}", columns[2].shares);
    }
    // Atoms that f32 rounds are atoms.
    let tenths: Vec<f64> = (0..100).map(|i| if i % 2 == 0 { 0.1 } else { f64::from(i) }).collect();
    let config = MixedTableConfig::new([Column::number("tenths", &tenths, Bounds::NONE)?]);
    let atom = MixedTableModel::new(config, &mut Rng::seed(0))?;
    let x = tensor(&[[0.1], [0.1 + 1e-6]])?;
    let log_probs = [&x, &x.to_dtype(DType::F32)?]
        .map(|x| -> Result<Vec<f64>> { Ok(atom.log_prob(x, None)?.to_dtype(DType::F64)?.to_vec1()?) });
    for log_prob in log_probs {
        let log_prob = log_prob?;
        assert!((log_prob[0] - 0.5f64.ln()).abs() < 0.05 && log_prob[1] < log_prob[0] - 1.0, "{log_prob:?}");
    }
    // Training starts close to the margins.
    let model = MixedTableModel::new(MixedTableConfig::new(columns), &mut Rng::seed(0))?;
    let x = tensor(&[[1.0, f64::NAN, f64::NAN, 0.0, 7.0], [0.0, 1e4, 0.0, 0.0, 0.0]])?;
    assert!(model.log_prob(&x, None).is_err());
    let terms = model.log_prob_columns(&tensor(&[[1.0, 110.0, f64::NAN, 2.0, 7.0]])?, None)?.to_vec2::<f64>()?;
    // The number's variance is 100 (1 + 2/3).
    let normal = -0.5 * (2.0 * std::f64::consts::PI * 500.0 / 3.0).ln();
    for (term, want) in terms[0].iter().zip([1.0 / 3.0, normal.exp(), 0.2, 0.1, 0.533]) {
        assert!((term - f64::ln(want)).abs() < 0.4, "{terms:?}");
    }
    Ok(())
}

#[test]
fn probabilities_of_a_discrete_table_add_up_to_1() -> Result<()> {
    let model = table(&[0, 4, 3], DType::F64, None)?;
    let counts = (0..12).map(f64::from).chain([f64::NAN]);
    let cells = counts.flat_map(|count| (0..3).map(move |class| (f64::from(class), count)));
    let wholes = |(class, count): (f64, f64)| (-600..600).flat_map(move |whole| [class, count, f64::from(whole)]);
    let total: f64 = density(&model, cells.flat_map(wholes).collect())?.iter().sum();
    // A little is beyond.
    assert!((total - 1.0).abs() < 1e-3, "{total}");
    let whole = table(&[3], DType::F64, None)?;
    let total: f64 = density(&whole, (-20_000..20_000).map(f64::from).collect())?.iter().sum();
    assert!((total - 1.0).abs() < 1e-6, "{total}");
    let [two, one] = [table(&[4, 0], DType::F64, None)?, table(&[4], DType::F64, None)?];
    let counts = || (0..12).map(f64::from).chain([f64::NAN]);
    let total: f64 = density(&one, counts().collect())?.iter().sum();
    assert!((total - 1.0).abs() < 1e-12, "{total}");
    let pairs = counts().flat_map(|count| (0..3).flat_map(move |class| [count, f64::from(class)]));
    let total: f64 = density(&two, pairs.collect())?.iter().sum();
    assert!((total - 1.0).abs() < 1e-12, "{total}");
    assert_eq!(density(&one, vec![-1.0, 12.0])?, [0.0; 2]);
    Ok(())
}

/// Points and weights of a quadrature over the reals, about `middle` on this scale.
fn line(n: usize, middle: f64, scale: f64) -> Vec<(f64, f64)> {
    let step = 2.0 * 8.0 / n as f64;
    let point = |i: usize| {
        let t = -8.0 + step * i as f64;
        (middle + scale * t.sinh(), scale * t.cosh() * step)
    };
    (0..=n).map(point).collect()
}

/// The same over the positive numbers.
fn positive_line(n: usize) -> Vec<(f64, f64)> {
    let inside = line(n, 0.0, 1.0).into_iter().filter(|(t, _)| t.abs() < 300.0);
    inside.map(|(t, weight)| (t.exp(), weight * t.exp())).collect()
}

#[test]
fn densities_integrate_to_1() -> Result<()> {
    // A number; a positive number with an atom and missing cells; both, with a category.
    let total = |model: &MixedTableModel, points: &[Vec<(f64, f64)>]| -> Result<f64> {
        let grid = points.iter().fold(vec![(vec![], 1.0)], |rows: Vec<(Vec<f64>, f64)>, points| {
            let extend = |(row, weight): &(Vec<f64>, f64)| {
                points.iter().map(|(x, w)| ([&row[..], &[*x]].concat(), weight * w)).collect::<Vec<_>>()
            };
            rows.iter().flat_map(extend).collect()
        });
        let rows = grid.iter().flat_map(|(row, _)| row.clone()).collect();
        Ok(density(model, rows)?.iter().zip(&grid).map(|(p, (_, weight))| p * weight).sum())
    };
    let rain = |n: usize| positive_line(n).into_iter().chain([(0.0, 1.0), (f64::NAN, 1.0)]).collect::<Vec<_>>();
    let found = total(&table(&[1], DType::F64, None)?, &[line(4000, 100.0, 10.0)])?;
    assert!((found - 1.0).abs() < 1e-4, "{found}");
    let found = total(&table(&[2], DType::F64, None)?, &[rain(4000)])?;
    assert!((found - 1.0).abs() < 1e-4, "{found}");
    let classes: Vec<(f64, f64)> = (0..3).map(|class| (f64::from(class), 1.0)).collect();
    // Smoother than with the other tests' weights.
    let model = table_with_noise(&[0, 2, 1], DType::F64, None, 0.1)?;
    let found = total(&model, &[classes, rain(300), line(150, 100.0, 10.0)])?;
    assert!((found - 1.0).abs() < 2e-3, "{found}");
    Ok(())
}

#[test]
fn draws_have_the_probabilities() -> Result<()> {
    const N: usize = 20_000;
    // A class and the number of ten bins of the number, or missing, or the atom; a whole number.
    let model = table(&[0, 2, 4], DType::F64, None)?;
    let x = draw(&model, N, None, &mut Rng::seed(3))?.to_vec2::<f64>()?;
    let edges: Vec<f64> = (0..9).map(|i| f64::from(i - 3).exp2()).collect();
    let bin = |x: f64| match x {
        0.0 => 10,
        x if x.is_nan() => 11,
        x => edges.partition_point(|edge| *edge < x),
    };
    let mut counts = vec![0.0; 3 * 12];
    x.iter().for_each(|row| counts[12 * row[0] as usize + bin(row[1])] += 1.0);
    // The expected numbers, by the first two terms.
    let mut expected = vec![0.0; 3 * 12];
    let points: Vec<_> = positive_line(2000).into_iter().chain([(0.0, 1.0), (f64::NAN, 1.0)]).collect();
    for class in 0..3 {
        let rows: Vec<[f64; 3]> = points.iter().map(|(x, _)| [f64::from(class), *x, 0.0]).collect();
        let terms = model.log_prob_columns(&tensor(&rows)?, None)?.to_vec2::<f64>()?;
        for ((x, w), terms) in points.iter().zip(terms) {
            expected[12 * class as usize + bin(*x)] += N as f64 * (terms[0] + terms[1]).exp() * w;
        }
    }
    chi_square(&counts, &expected);
    // The last column given the first two.
    let leading = tensor(&vec![[2.0, 0.0]; N])?;
    let x = model.sample_given(&leading, None, &mut Rng::seed(4))?.to_vec2::<f64>()?;
    let at = |x: f64| if x.is_nan() { 12 } else { x as usize };
    let mut counts = vec![0.0; 13];
    x.iter().for_each(|row| {
        assert_eq!(row[..2], [2.0, 0.0]);
        counts[at(row[2])] += 1.0;
    });
    let rows: Vec<[f64; 3]> = (0..12).map(f64::from).chain([f64::NAN]).map(|x| [2.0, 0.0, x]).collect();
    let terms = model.log_prob_columns(&tensor(&rows)?, None)?.to_vec2::<f64>()?;
    chi_square(&counts, &terms.iter().map(|terms| N as f64 * terms[2].exp()).collect::<Vec<_>>());
    // Whole numbers without limits.
    let model = table(&[3], DType::F32, None)?;
    let x = model.sample(N, None, &mut Rng::seed(5))?.flatten_all()?.to_vec1::<f64>()?;
    let mut counts = vec![0.0; 41];
    x.iter().for_each(|x| counts[(x + 20.0).clamp(0.0, 40.0) as usize] += 1.0);
    let mut expected = vec![0.0; 41];
    for (x, p) in (-2000..2000).zip(density(&model, (-2000..2000).map(f64::from).collect())?) {
        expected[(x + 20).clamp(0, 40) as usize] += N as f64 * p;
    }
    chi_square(&counts, &expected);
    Ok(())
}

/// Asserts that counts are within five standard deviations of the mean of chi^2, cells of few expected draws together.
fn chi_square(counts: &[f64], expected: &[f64]) {
    let total = |of: &[f64]| of.iter().sum::<f64>();
    assert!((total(counts) / total(expected) - 1.0).abs() < 1e-3, "{} of {}", total(expected), total(counts));
    let (rare, frequent): (Vec<usize>, Vec<usize>) = (0..counts.len()).partition(|&i| expected[i] < 10.0);
    let rest = |of: &[f64]| rare.iter().map(|&i| of[i]).sum::<f64>();
    let mut cells: Vec<(f64, f64)> = frequent.iter().map(|&i| (counts[i], expected[i])).collect();
    if rest(expected) > 1.0 {
        cells.push((rest(counts), rest(expected)));
    }
    let chi: f64 = cells.iter().map(|(n, e)| (n - e).powi(2) / e).sum();
    let freedom = cells.len() as f64 - 1.0;
    assert!(chi < freedom + 5.0 * (2.0 * freedom).sqrt(), "{chi} with {freedom} degrees of freedom: {cells:?}");
}

#[test]
fn a_column_depends_on_those_before_it_alone() -> Result<()> {
    let model = table(&[0, 1, 2, 3, 4], DType::F64, None)?;
    let (mut one, other) = (rows(1, 5)[0], [2.0, 71.0, 3.5, 6.0, 7.0]);
    one[0] = 0.0;
    let terms = |row: [f64; 5]| -> Result<Vec<f64>> {
        Ok(model.log_prob_columns(&tensor(&[row])?, None)?.to_vec2::<f64>()?.remove(0))
    };
    let before = terms(one)?;
    for column in 0..5 {
        let mut changed = one;
        changed[column] = other[column];
        let after = terms(changed)?;
        assert_eq!(before[..column], after[..column], "column {column}");
        let later = before[column + 1..].iter().zip(&after[column + 1..]);
        assert!(later.clone().all(|(a, b)| a != b), "column {column}: {before:?}, {after:?}");
    }
    // The same by the gradients of the network's outputs with respect to its inputs.
    let layout = &model.layout;
    let inputs = Var::from_tensor(&Rng::seed(6).normal_tensor((1, layout.inputs), DType::F64, CPU)?)?;
    let raw = model.made.run(&inputs, None, &mut Mode::evaluation())?;
    for (i, place) in layout.places.iter().enumerate() {
        let own = raw.narrow(1, place.flow.start, place.classes.end - place.flow.start)?;
        let gradients = own.sqr()?.sum_all()?.backward()?;
        let gradient = gradients.get(&inputs).map(|g| g.to_vec2::<f64>()).transpose()?.unwrap_or_default();
        let first = place.inputs.start;
        assert!(gradient[0][first..].iter().all(|g| *g == 0.0), "column {i}: {gradient:?}");
        assert!(gradient[0][..first].iter().all(|g| *g != 0.0), "column {i}: {gradient:?}");
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_differences() -> Result<()> {
    for (which, context) in [(&[0, 1, 2, 3, 4][..], None), (&[4, 2, 1][..], Some(2)), (&[3], Some(1))] {
        let model = table(which, DType::F64, context)?;
        let rows = rows(12, 8).iter().flat_map(|row| which.iter().map(|&i| row[i])).collect::<Vec<f64>>();
        let x = Tensor::from_vec(rows, (12, which.len()), CPU)?;
        let context = context.map(|width| Rng::seed(9).normal_tensor((12, width), DType::F64, CPU)).transpose()?;
        let context = context.map(|context| Var::from_tensor(&context)).transpose()?;
        let loss = || Ok(model.log_prob(&x, context.as_ref().map(|c| c.as_tensor()))?.sum_all()?);
        let inputs: Vec<(&str, &Var)> = context.iter().map(|context| ("context", context)).collect();
        let off = gradient_difference(loss, model.parameters(), &inputs, &mut Rng::seed(10))?;
        assert!(off < 1e-6, "{which:?}: {off}");
    }
    Ok(())
}

#[test]
fn the_first_column_depends_on_the_context() -> Result<()> {
    let model = table(&[1, 0], DType::F64, Some(3))?;
    let (x, context) = (tensor(&[[100.0, 1.0]; 2])?, Rng::seed(0).normal_tensor((2, 3), DType::F64, CPU)?);
    let terms = model.log_prob_columns(&x, Some(&context))?.to_vec2::<f64>()?;
    assert!((0..2).all(|i| terms[0][i] != terms[1][i]), "{terms:?}");
    let repeated = model.sample(300, Some(&context.narrow(0, 0, 1)?.repeat((300, 1))?), &mut Rng::seed(1))?;
    assert_eq!(repeated.dims(), [300, 2]);
    assert!(model.log_prob(&x, None).is_err());
    assert!(table(&[1], DType::F64, None)?.log_prob(&x.narrow(1, 0, 1)?, Some(&context)).is_err());
    Ok(())
}

#[test]
fn far_in_the_tails_everything_is_finite() -> Result<()> {
    let rows = [[0.0, 1e8, 1e-12, 4e6, 0.0], [0.0, -1e8, 1e9, -4e6, 11.0], [1.0, 1e300, 1e300, 1e15, 7.0]];
    for dtype in [DType::F64, DType::F32] {
        let model = table(&[0, 1, 2, 3, 4], dtype, None)?;
        let log_prob = model.log_prob(&tensor(&rows)?, None)?;
        assert!(log_prob.to_vec1::<f64>()?.iter().all(|p| p.is_finite()), "{log_prob}");
        let gradients = log_prob.sum_all()?.backward()?;
        for (name, var) in model.parameters().trainable() {
            let gradient = gradients.get(&var).map(|g| g.to_dtype(DType::F64)?.abs()?.max_all()?.to_scalar::<f64>());
            let largest = gradient.transpose()?.unwrap_or(f64::NAN);
            assert!(largest.is_finite(), "{dtype:?}, {name}: {largest}");
        }
    }
    Ok(())
}

#[test]
fn cells_that_are_none_of_their_column_are_errors() -> Result<()> {
    let model = table(&[0, 1, 2, 3, 4], DType::F64, None)?;
    let good = [0.0, 100.0, f64::NAN, 3.0, f64::NAN];
    for (column, value, words) in [
        (0, 3.0, ["`class`", "0 to 2", "common code"]),
        (0, 0.5, ["`class`", "0.5", "common code"]),
        (0, f64::NAN, ["`class`", "NaN", "category of their own"]),
        (1, f64::NAN, ["`number`", "row 1", "`missing`"]),
        (3, f64::NAN, ["`whole`", "row 1", "`missing`"]),
        (3, 2.5, ["`whole`", "2.5", "round it"]),
    ] {
        let mut bad = good;
        bad[column] = value;
        let error = model.log_prob(&tensor(&[good, bad])?, None).unwrap_err();
        assert!(error.is_bad_use() && words.iter().all(|word| error.to_string().contains(word)), "{error}");
    }
    // Out of bounds, and infinite.
    for (column, value) in [(2, -1.0), (4, 12.0), (1, f64::INFINITY)] {
        let mut bad = good;
        bad[column] = value;
        let log_prob = model.log_prob(&tensor(&[good, bad])?, None)?.to_vec1::<f64>()?;
        assert!(log_prob[0].is_finite() && log_prob[1] == f64::NEG_INFINITY, "{log_prob:?}");
    }
    let config = |columns: Vec<Column>| MixedTableModel::new(MixedTableConfig::new(columns), &mut Rng::seed(0));
    let mut column = columns(&rows(100, 0))?.remove(1);
    column.shares = vec![];
    for columns in [vec![], vec![Column::category("one", 1, &[])?], vec![column]] {
        assert!(config(columns).unwrap_err().is_bad_use());
    }
    assert!(Column::category("none", 2, &[2.0]).is_err() && Column::whole("half", &[0.5], [None; 2]).is_err());
    Ok(())
}

#[test]
fn single_precision_agrees_with_double() -> Result<()> {
    let x = tensor(&rows(200, 11))?;
    let [double, single] = [DType::F64, DType::F32].map(|dtype| table(&[0, 1, 2, 3, 4], dtype, None));
    let (double, single) = (double?, single?);
    close("log_prob", &double.log_prob(&x, None)?, &single.log_prob(&x, None)?, 2e-4)?;
    let draws = |model: &MixedTableModel| -> Result<Vec<f64>> {
        let draws = model.sample(200, None, &mut Rng::seed(12))?.flatten_all()?.to_vec1::<f64>()?;
        Ok(draws.into_iter().map(|x| if x.is_nan() { -1.0 } else { x }).collect())
    };
    let (one, other) = (draws(&double)?, draws(&single)?);
    let far = one.iter().zip(&other).filter(|(a, b)| (*a - *b).abs() > 1e-3 * a.abs().max(1.0)).count();
    // A draw next to an edge may fall on its other side.
    assert!(far <= 5, "{far} of {} numbers differ", one.len());
    // Data in f32 too.
    let rounded = single.log_prob(&x.to_dtype(DType::F32)?, None)?;
    close("log_prob", &double.log_prob(&x, None)?, &rounded.to_dtype(DType::F64)?, 2e-3)
}

#[test]
fn times_in_seconds_keep_their_digits() -> Result<()> {
    let times: Vec<f64> = (0..500).map(|i| 1.7e9 + f64::from(i)).collect();
    let columns = [Column::whole("time", &times, [None; 2])?, Column::number("same", &times, Bounds::NONE)?];
    let model = MixedTableModel::new(MixedTableConfig::new(columns), &mut Rng::seed(0))?;
    let rows: Vec<[f64; 2]> = times.iter().map(|&t| [t, t]).collect();
    let terms = model.log_prob_columns(&tensor(&rows)?, None)?.to_vec2::<f64>()?;
    // Both are about uniform, on 500 numbers and on an interval of length 500.
    let mean = |i: usize| terms.iter().map(|terms| terms[i]).sum::<f64>() / 500.0;
    assert!([0, 1].iter().all(|&i| (mean(i) + 500f64.ln()).abs() < 0.2), "{} {}", mean(0), mean(1));
    let drawn = model.sample(300, None, &mut Rng::seed(1))?.to_vec2::<f64>()?;
    let mut different: Vec<f64> = drawn.iter().map(|row| row[0]).collect();
    different.sort_unstable_by(f64::total_cmp);
    different.dedup();
    assert!(different.len() > 150, "{} different times", different.len());
    Ok(())
}

#[test]
fn a_saved_table_loads_and_scores_alike() -> Result<()> {
    let model = table(&[0, 1, 2, 3, 4], DType::F32, Some(2))?;
    let (x, context) = (tensor(&rows(50, 13))?, Rng::seed(14).normal_tensor((50, 2), DType::F32, CPU)?);
    model.initialize(&x, Some(&context))?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.safetensors");
    model.save(&path)?;
    let loaded = MixedTableModel::load(&path, CPU)?;
    close("log_prob", &model.log_prob(&x, Some(&context))?, &loaded.log_prob(&x, Some(&context))?, 0.0)?;
    assert_eq!(model.structure().total(), model.parameters().count());
    assert_eq!(model.support().shape(), [5]);
    Ok(())
}
