use super::impute::{by_flow, chosen};
use super::*;
use crate::distributions::{MultivariateNormal, draw};
use crate::flows::RealNvp;
use crate::testing::perturb;

/// A table of two columns of two values each, of which the second depends on the first, with random weights.
fn categories() -> Result<TableModel> {
    let model = TableModel::new(TableConfig::Mixed(Box::new(Mixed::default().trial()?)), &mut Rng::seed(0))?;
    perturb(model.parameters(), 0.06, &mut Rng::seed(1))?;
    Ok(model)
}

fn from_1(row: usize) -> u64 {
    row as u64 + 1
}

fn flow(context: Option<usize>) -> Result<TableModel> {
    let config = FlowConfig { context, ..FlowConfig::new(2, RealNvp::default()) };
    let model = TableModel::new(TableConfig::Flow(Box::new(config)), &mut Rng::seed(2))?;
    let all = Rng::seed(3).normal_tensor((500, 2), DType::F32, &Device::Cpu)?;
    let given = context.map(|width| Rng::seed(4).normal_tensor((500, width), DType::F32, &Device::Cpu)).transpose()?;
    model.initialize(&all, given.as_ref())?;
    perturb(model.parameters(), 0.05, &mut Rng::seed(5))?;
    Ok(model)
}

#[test]
fn draws_of_the_model_itself_pass_and_others_do_not() -> Result<()> {
    for model in [categories()?, flow(None)?, flow(Some(1))?] {
        let rng = &mut Rng::seed(6);
        let context = model.config().context().map(|_| rng.normal_tensor((300, 1), DType::F32, &Device::Cpu));
        let context = context.transpose()?;
        let mut passed = 0;
        for _ in 0..12 {
            let x = draw(&model, 300, context.as_ref(), rng)?;
            let found = TableCheck::of(&model, &Examples { x, context: context.clone() }, rng)?;
            passed += usize::from(found.check.verdict.good);
            assert!(found.transforms.is_some() && found.check.rows == 300);
        }
        assert!(passed >= 10, "{passed} of 12");
    }
    // Data that are wider, and moved, in one column.
    let model = flow(Some(1))?;
    let rng = &mut Rng::seed(7);
    let context = rng.normal_tensor((600, 1), DType::F32, &Device::Cpu)?;
    let x = draw(&model, 600, Some(&context), rng)?;
    let wide = (x.broadcast_mul(&Tensor::new(&[1f32, 2.0], &Device::Cpu)?))?;
    let found = TableCheck::of(&model, &Examples { x: wide, context: Some(context) }, rng)?.check;
    assert!(found.calibrations[1].shape == Some("wider than the model has it"), "{found:?}");
    assert!(found.calibrations[0].uniform.p_value > 1e-3 && !found.verdict.good);
    assert!(found.margins[1].p_value() < 1e-3 && found.classifier.is_some_and(|found| found.p_value < 1e-3));
    let model = flow(None)?;
    let x = (draw(&model, 600, None, rng)? + 1.0)?;
    let found = TableCheck::of(&model, &Examples::from(&x), rng)?.check;
    assert!(!found.verdict.good && found.calibrations.iter().any(|found| found.uniform.p_value < 1e-6), "{found:?}");
    Ok(())
}

#[test]
fn missing_categories_have_their_conditional_probabilities() -> Result<()> {
    let model = categories()?;
    let all = Tensor::new(&[[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], &Device::Cpu)?;
    let p = model.log_prob(&all, None)?.exp()?.to_vec1::<f64>()?;
    // The second given the first is exact; the first given the second is chosen among candidates.
    let nan = f64::NAN;
    for (row, column, want, is_exact) in [
        ([0.0, nan], 1, p[1] / (p[0] + p[1]), true),
        ([nan, 1.0], 0, p[3] / (p[1] + p[3]), false),
        ([nan, nan], 1, p[1] + p[3], true),
    ] {
        let rows = Examples::from(&Tensor::new(&[row, [1.0, 1.0]], &Device::Cpu)?);
        let found = impute(&model, &rows, [3000, 3000], &from_1, &mut Rng::seed(8))?;
        assert_eq!(
            (found.incomplete, found.exact, found.effective.len()),
            (1, usize::from(is_exact), usize::from(!is_exact))
        );
        let mut ones = 0.0;
        for draw in &found.draws {
            let cells = draw.to_vec2::<f64>()?;
            assert!(cells[1] == [1.0, 1.0] && row.iter().zip(&cells[0]).all(|(a, b)| a.is_nan() || a == b));
            ones += cells[0][column];
        }
        assert!((0.02..0.98).contains(&want), "{want}");
        // Candidates are drawn too.
        let effective = found.effective.first().map_or(f64::INFINITY, |(_, effective)| *effective);
        let error = (want * (1.0 - want) * (1.0 / 3000.0 + 1.0 / effective)).sqrt();
        assert!(
            effective > 200.0 && (ones / 3000.0 - want).abs() < 4.0 * error,
            "{row:?}: {} of {want}",
            ones / 3000.0
        );
    }
    Ok(())
}

#[test]
fn missing_numbers_have_their_conditional_distribution() -> Result<()> {
    let mean = Tensor::new(&[1.0, -2.0, 10.0], &Device::Cpu)?;
    let covariance = Tensor::new(&[[1.0, 0.8, 1.5], [0.8, 2.0, 0.5], [1.5, 0.5, 9.0]], &Device::Cpu)?;
    let normal = MultivariateNormal::new(&mean, &covariance)?;
    let row = [2.5, f64::NAN, 4.0];
    let rows = Examples::from(&Tensor::new(&[row], &Device::Cpu)?);
    let found = by_flow(&normal, &rows, [2000, 4000], &from_1, &mut Rng::seed(9))?;
    let drawn: Vec<f64> = found.draws.iter().map(|x| Ok(x.to_vec2::<f64>()?[0][1])).collect::<Result<_>>()?;
    // Of the second given the first and the third: b = S_ab S_aa^-1, with S_aa = [[1, 1.5], [1.5, 9]].
    let determinant = 9.0 - 2.25;
    let b = [(0.8 * 9.0 - 0.5 * 1.5) / determinant, (0.5 - 0.8 * 1.5) / determinant];
    let want = -2.0 + b[0] * 1.5 + b[1] * -6.0;
    let variance = 2.0 - b[0] * 0.8 - b[1] * 0.5;
    let n = drawn.len() as f64;
    let found_mean = drawn.iter().sum::<f64>() / n;
    let found_variance = drawn.iter().map(|x| (x - found_mean).powi(2)).sum::<f64>() / n;
    assert!((found_mean - want).abs() < 0.08, "{found_mean} and {want}");
    assert!((found_variance / variance - 1.0).abs() < 0.12, "{found_variance} and {variance}");
    assert!(found.effective[0].1 > 2000.0, "{:?}", found.effective);
    Ok(())
}

#[test]
fn what_cannot_be_filled_is_said() -> Result<()> {
    let rows = |row: &[f32; 2]| Examples::from(&Tensor::new(&[*row], &Device::Cpu).unwrap());
    let model = flow(None)?;
    let rng = &mut Rng::seed(0);
    let error = |log_weight: f64| chosen(7, &[vec![1.0]], vec![log_weight], 1, &mut Rng::seed(0)).unwrap_err();
    let [impossible, unknown, infinite] =
        [f64::NEG_INFINITY, f64::NAN, f64::INFINITY].map(|log_weight| error(log_weight).to_string());
    assert!(impossible.contains("row 7") && impossible.contains("impossible"), "{impossible}");
    assert!(unknown.contains("no finite density") && infinite == unknown, "{unknown}");
    for (counts, flag) in [([usize::MAX, 100], "--draws"), ([1, usize::MAX], "--candidates")] {
        let error = impute(&model, &rows(&[0.0, f32::NAN]), counts, &from_1, rng).unwrap_err().to_string();
        assert!(error.contains("too much memory") && error.contains(flag), "{error}");
    }
    assert!(impute(&model, &rows(&[0.0, f32::NAN]), [0, 100], &from_1, rng).is_err());
    let whole = impute(&model, &rows(&[0.5, 1.0]), [2, 100], &from_1, rng)?;
    assert_eq!((whole.incomplete, whole.draws[1].to_vec2::<f64>()?), (0, vec![vec![0.5, 1.0]]));
    let all = impute(&model, &rows(&[f32::NAN, f32::NAN]), [2, 100], &from_1, rng)?;
    assert_eq!((all.incomplete, all.exact), (1, 1));
    let given = Examples { context: Some(Tensor::new(&[[f32::NAN]], &Device::Cpu)?), ..rows(&[0.0, f32::NAN]) };
    assert!(
        impute(&flow(Some(1))?, &given, [1, 100], &|_| 17, rng)
            .unwrap_err()
            .to_string()
            .contains("row 17: a cell of the context")
    );
    Ok(())
}
