//! Transforms of cells, and draws of missing ones.

use super::*;
use crate::evaluate::Distance;

fn columns_of(x: &Tensor) -> Result<Vec<Vec<f64>>> {
    Ok(x.t()?.to_vec2()?)
}

#[test]
fn transforms_of_draws_are_uniform_and_of_others_are_not() -> Result<()> {
    let model = table(&[0, 1, 2, 3, 4], DType::F32, None)?;
    let rng = &mut Rng::seed(0);
    let x = draw(&model, 4000, None, rng)?;
    for (column, values) in columns_of(&model.transforms(&x, None, rng)?)?.iter().enumerate() {
        let found = Distance::from_uniform(values).unwrap();
        assert!(found.p_value > 1e-3, "column {column}: {found:?}");
    }
    // A column with other values is told, and no other one but those after it.
    let shifted = columns_of(&x)?.into_iter().enumerate().map(|(i, mut values)| {
        if i == 1 {
            values.iter_mut().for_each(|x| *x += 10.0);
        }
        values
    });
    let shifted = Tensor::from_vec(shifted.collect::<Vec<_>>().concat(), (5, 4000), CPU)?.t()?.contiguous()?;
    let found = columns_of(&model.transforms(&shifted, None, rng)?)?;
    assert!(Distance::from_uniform(&found[0]).unwrap().p_value > 1e-3);
    assert!(Distance::from_uniform(&found[1]).unwrap().p_value < 1e-6);
    let mean = found[1].iter().sum::<f64>() / found[1].len() as f64;
    assert!(mean > 0.55, "greater values have greater transforms: {mean}");
    Ok(())
}

#[test]
fn transforms_are_sums_of_probabilities() -> Result<()> {
    // A whole number with an atom at 7, missing cells and a range of 0 to 11.
    let model = table(&[4], DType::F64, None)?;
    let values: Vec<f64> = (0..12).map(f64::from).chain([f64::NAN]).collect();
    let probabilities = density(&model, values.clone())?;
    let x = Tensor::from_vec(values, (13, 1), CPU)?;
    let found = model.transforms(&x, None, &mut Rng::seed(0))?.flatten_all()?.to_vec1::<f64>()?;
    let mut below = 0.0;
    for (u, p) in found.iter().zip(&probabilities) {
        assert!(*u >= below - 1e-9 && *u <= below + p + 1e-9, "{u} in {below} to {}", below + p);
        below += p;
    }
    assert!((below - 1.0).abs() < 1e-9);
    // A real number with an atom on its bound and missing cells: the density is the slope of the transform.
    let model = table(&[2], DType::F64, None)?;
    let at = [0.0, 0.7, 0.7 + 1e-4, 3.0, 3.0 + 1e-4, f64::NAN];
    let x = Tensor::from_vec(at.to_vec(), (6, 1), CPU)?;
    let p = density(&model, at.to_vec())?;
    let u = model.transforms(&x, None, &mut Rng::seed(0))?.flatten_all()?.to_vec1::<f64>()?;
    assert!(u[0] <= p[0] && u[1] > p[0] && u[5] >= 1.0 - p[5] - 1e-9, "{u:?}, {p:?}");
    for i in [1, 3] {
        let slope = (u[i + 1] - u[i]) / 1e-4;
        assert!((slope / p[i] - 1.0).abs() < 1e-2, "{slope}, {}", p[i]);
    }
    Ok(())
}

#[test]
fn missing_cells_are_drawn_and_the_others_stay() -> Result<()> {
    let model = table(&[0, 1, 2, 3, 4], DType::F64, None)?;
    let rng = &mut Rng::seed(0);
    let nan = f64::NAN;
    let rows = [[1.0, 100.0, nan, nan, 7.0], [nan, 110.5, 0.0, 3.0, nan], [2.0, 95.0, 1.5, -2.0, 3.0]];
    let x = tensor(&rows.repeat(500))?;
    let filled = model.fill(&x, &[None; 5], None, rng)?.to_vec2::<f64>()?;
    for (row, filled) in rows.repeat(500).iter().zip(&filled) {
        for (cell, filled) in row.iter().zip(filled) {
            assert!(if cell.is_nan() { filled.is_finite() } else { filled == cell }, "{row:?}, {filled:?}");
        }
    }
    // The last columns are drawn as by the density, but for missing cells.
    let leading = tensor(&[[1.0, 100.0]])?.repeat((4000, 1))?;
    let known = columns_of(&model.sample_given(&leading, None, rng)?)?;
    let x = tensor(&[[1.0, 100.0, nan, nan, nan]])?.repeat((4000, 1))?;
    let drawn = columns_of(&model.fill(&x, &[None; 5], None, rng)?)?;
    assert!(known[2].iter().any(|x| x.is_nan()) && drawn[2].iter().all(|x| !x.is_nan()));
    assert!(Distance::between(&known[2], &drawn[2]).unwrap().p_value > 1e-3);
    // A category that is never drawn.
    let x = tensor(&[[nan, 100.0, 0.0, 0.0, 7.0]])?.repeat((500, 1))?;
    let never = [Some(2), None, None, None, None];
    let drawn = columns_of(&model.fill(&x, &never, None, rng)?)?;
    assert!(drawn[0].contains(&0.0) && drawn[0].contains(&1.0) && !drawn[0].contains(&2.0));
    assert!(model.fill(&x, &[None; 4], None, rng).is_err());
    // A missing number of the context stays missing, and the others are drawn as after one.
    assert!(model.may_miss(2) && !model.may_miss(0));
    let x = tensor(&[[1.0, 100.0, nan, nan, nan]])?.repeat((4000, 1))?;
    let known = columns_of(&model.sample_given(&x.narrow(1, 0, 3)?, None, rng)?)?;
    let drawn = columns_of(&model.fill_after(3, &x, &[None; 5], rng)?)?;
    assert!(drawn[2].iter().all(|x| x.is_nan()) && drawn[3..].iter().flatten().all(|x| !x.is_nan()));
    assert!(Distance::between(&known[3], &drawn[3]).unwrap().p_value > 1e-3);
    Ok(())
}
