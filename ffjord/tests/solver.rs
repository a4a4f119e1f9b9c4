//! The solver on equations with known solutions.

use candle_core::{Device, Tensor};
use ffjord::solver::{Method, Solver, Status};
use flows_core::Result;

/// `y' = -y^2 cos t`, `y(0) = 1`: `y = 1 / (1 + sin t)`.
#[allow(clippy::ptr_arg)] // The state is a `Vec`.
fn riccati(t: f64, y: &Vec<f64>) -> Result<Vec<f64>> {
    Ok(vec![-y[0] * y[0] * t.cos()])
}

fn exact(t: f64) -> f64 {
    1.0 / (1.0 + t.sin())
}

/// The slope of the logarithm of the error over that of the step.
fn order(error: impl Fn(f64) -> f64, steps: [f64; 2]) -> f64 {
    (error(steps[0]) / error(steps[1])).ln() / (steps[0] / steps[1]).ln()
}

#[test]
fn methods_converge_with_their_order() {
    for method in Method::ALL {
        let error = |h: f64| {
            // With this tolerance an adaptive method accepts every step, and takes a single one, whose error is one
            // order higher than that of a whole solve.
            let solver = Solver { method, rtol: 1e9, atol: 1e9, first_step: Some(h), step: h, ..Solver::default() };
            let end = if method.is_adaptive() { h } else { 1.0 };
            let from = |t: f64| {
                let solution = solver.solve(riccati, vec![exact(t)], &[t, t + end]).unwrap();
                assert_eq!(solution.status, Status::Finished);
                (solution.states[1][0] - exact(t + end)).abs()
            };
            // The leading term of the error may vanish at one point, but not at many.
            (0..12).map(|i| from(0.25 * f64::from(i))).sum()
        };
        let got = order(error, [0.1, 0.05]) - if method.is_adaptive() { 1.0 } else { 0.0 };
        let want = f64::from(method.order());
        // The leading term of Dormand and Prince's error is small by design, so that the next one matters.
        assert!((-0.3..0.8).contains(&(got - want)), "{method}: order {got}, not {want}");
    }
}

#[test]
fn output_between_steps_converges() {
    for (method, want) in
        [(Method::Dopri5, 4.0), (Method::Tsit5, 4.0), (Method::Bosh3, 3.0), (Method::AdaptiveHeun, 2.0)]
    {
        let error = |h: f64| {
            let solver = Solver { method, rtol: 1e9, atol: 1e9, first_step: Some(h), ..Solver::default() };
            let from = |t: f64| {
                let at: Vec<f64> = [0.0, 0.3, 0.7, 0.9].map(|x| t + x * h).to_vec();
                let states = solver.solve(riccati, vec![exact(t)], &at).unwrap().states;
                at.iter().zip(&states).map(|(t, y)| (y[0] - exact(*t)).abs()).fold(0.0, f64::max)
            };
            (0..12).map(|i| from(0.25 * f64::from(i))).sum()
        };
        // The order of the error of one step is one more than that of a whole solve.
        let got = order(error, [0.1, 0.05]) - 1.0;
        assert!(got > want - 0.35, "{method}: order {got}, not {want}");
    }
}

#[test]
fn tolerances_hold_forward_and_backward() -> Result<()> {
    for method in Method::ALL.into_iter().filter(|method| method.is_adaptive()) {
        for times in [vec![0.0, 0.5, 2.0, 2.1], vec![2.0, 1.0, 0.0]] {
            let solver = Solver { max_steps: 100_000, ..Solver::new(method, 1e-7) };
            let solution = solver.solve(riccati, vec![exact(times[0])], &times)?.finished()?;
            for (t, y) in times.iter().zip(&solution.states) {
                assert!((y[0] - exact(*t)).abs() < 1e-5, "{method} at {t}: {}, not {}", y[0], exact(*t));
            }
        }
    }
    Ok(())
}

#[test]
fn states_of_all_kinds_take_the_same_steps() -> Result<()> {
    let solver = Solver::new(Method::Dopri5, 1e-6);
    let spin = |y: &[f64]| vec![y[1], -y[0]];
    let vector = solver.solve(|_, y: &Vec<f64>| Ok(spin(y)), vec![1.0, 0.5], &[0.0, 3.0])?;
    let tensor = |y: &[f64]| Tensor::from_slice(y, (1, 2), &Device::Cpu);
    let field = |_: f64, y: &Tensor| Ok(tensor(&spin(&y.flatten_all()?.to_vec1::<f64>()?))?);
    let tensors = solver.solve(field, tensor(&[1.0, 0.5])?, &[0.0, 3.0])?;
    let single = |_: f64, y: &Vec<f32>| Ok(vec![y[1], -y[0]]);
    let singles = solver.solve(single, vec![1.0, 0.5], &[0.0, 3.0])?;
    // The larger norm of two equal halves is the norm of the whole.
    let pairs = |_: f64, y: &(Vec<f64>, Vec<f64>)| Ok((spin(&y.0), spin(&y.1)));
    let pair = (vec![1.0, 0.5], vec![1.0, 0.5]);
    let pairs = solver.solve(pairs, pair, &[0.0, 3.0])?;
    assert_eq!(vector.stats, tensors.stats);
    assert_eq!(vector.stats, pairs.stats);
    assert_eq!(vector.states[1], pairs.states[1].1);
    for (i, want) in [3f64.cos() + 0.5 * 3f64.sin(), 0.5 * 3f64.cos() - 3f64.sin()].into_iter().enumerate() {
        assert!((vector.states[1][i] - want).abs() < 1e-5);
        assert!((tensors.states[1].flatten_all()?.to_vec1::<f64>()?[i] - vector.states[1][i]).abs() < 1e-14);
        assert!((f64::from(singles.states[1][i]) - want).abs() < 1e-5);
    }
    Ok(())
}

#[test]
fn a_stiff_state_does_not_slow_down_the_others() -> Result<()> {
    let solver = Solver::new(Method::Dopri5, 1e-6);
    let field = |_: f64, y: &Vec<f64>| Ok(vec![y[0], -y[0] * y[1]]);
    let states = vec![vec![1.0, 1.0], vec![200.0, 1.0]];
    let each = solver.solve_each(field, states.clone(), &[0.0, 1.0])?;
    assert!(each[0].stats.accepted < each[1].stats.accepted);
    for (state, solution) in states.into_iter().zip(each) {
        let alone = solver.solve(field, state, &[0.0, 1.0])?;
        assert_eq!((solution.stats, &solution.states), (alone.stats, &alone.states));
    }
    Ok(())
}

#[test]
fn failed_solves_return_a_status_with_a_remedy() -> Result<()> {
    let solver = Solver::default();
    let square = |_: f64, y: &Vec<f64>| Ok(vec![y[0] * y[0]]);
    let words = |status: Status, part: &str| {
        assert!(status.to_string().contains(part), "{status}");
    };
    // Infinite at time 1.
    let pole = solver.solve(square, vec![1.0], &[0.0, 2.0])?;
    assert!(matches!(pole.status, Status::Underflow { .. } | Status::NotFinite { .. }), "{pole:?}");
    assert!(pole.clone().finished().is_err() && pole.states.len() == 1);
    let stiff = |_: f64, y: &Vec<f64>| Ok(vec![-1e7 * y[0]]);
    let limited = Solver { max_steps: 50, ..solver }.solve(stiff, vec![1.0], &[0.0, 2.0])?;
    assert!(matches!(limited.status, Status::TooManySteps { limit: 50, .. }));
    words(limited.status, "max_steps");
    for y in [f64::NAN, f64::INFINITY] {
        let status = solver.solve(square, vec![y], &[0.0, 1.0])?.status;
        assert!(matches!(status, Status::NotFinite { .. }), "{status:?}");
        words(status, "NaN");
    }
    let wall = |t: f64, _: &Vec<f64>| Ok(vec![if t > 0.5 { f64::NAN } else { 1.0 }]);
    assert!(matches!(solver.solve(wall, vec![0.0], &[0.0, 1.0])?.status, Status::NotFinite { .. }));
    let fixed = Solver { method: Method::Rk4, ..solver };
    assert!(matches!(fixed.solve(wall, vec![0.0], &[0.0, 1.0])?.status, Status::NotFinite { .. }));
    assert!(matches!(
        Solver { max_steps: 3, ..fixed }.solve(square, vec![0.1], &[0.0, 1.0])?.status,
        Status::TooManySteps { .. }
    ));

    for times in [&[0.0][..], &[0.0, 0.0], &[0.0, 1.0, 0.5], &[0.0, f64::NAN]] {
        assert!(solver.solve(square, vec![1.0], times).is_err(), "{times:?}");
    }
    for bad in [
        Solver { rtol: 0.0, atol: 0.0, ..solver },
        Solver { rtol: -1.0, ..solver },
        Solver { atol: f64::NAN, ..solver },
        Solver { step: 0.0, ..solver },
        Solver { first_step: Some(0.0), ..solver },
        Solver { max_steps: 0, ..solver },
    ] {
        assert!(bad.solve(square, vec![1.0], &[0.0, 0.5]).unwrap_err().is_bad_use(), "{bad:?}");
    }
    Ok(())
}
