//! Whole figures; `FLOWS_PLOTS=folder cargo test plot` keeps the pictures there for inspection.

use super::*;
use crate::{Error, Result, Rng};
use candle_core::{DType, Device, Tensor};

fn moons(x: f64, y: f64) -> f64 {
    let arc = |cx: f64, cy: f64, sign: f64| -> f64 {
        (0..40)
            .map(|i| std::f64::consts::PI * (i as f64 + 0.5) / 40.)
            .map(|t| (-((x - cx - t.cos()).powi(2) + (y - cy - sign * t.sin()).powi(2)) / 0.02).exp())
            .sum()
    };
    arc(0., 0., 1.) + arc(1., 0.5, -1.)
}

fn draw_moons(rng: &mut Rng, n: usize) -> Vec<(f64, f64)> {
    (0..n)
        .map(|i| {
            let (t, s) = (std::f64::consts::PI * rng.uniform(), (i % 2) as f64);
            let (x, y) = (t.cos() * (1. - 2. * s) + s, t.sin() * (1. - 2. * s) + 0.5 * s);
            (x + 0.1 * rng.normal(), y + 0.1 * rng.normal())
        })
        .collect()
}

#[test]
fn pictures_are_small_and_whole() -> Result<()> {
    let temporary = tempfile::tempdir().map_err(|e| Error::file("a temporary folder", e))?;
    let folder = std::env::var_os("FLOWS_PLOTS").map_or_else(|| temporary.path().into(), std::path::PathBuf::from);
    let mut rng = Rng::seed(0);
    let samples = draw_moons(&mut rng, 1000);
    let grid = Grid::new((-1.7, 2.7), (-1.3, 1.8), 200)?;
    let moons = grid.map(moons);
    let bell = |x: f64, y: f64, s: f64| (-0.5 * (x * x + y * y) / (s * s)).exp();
    let hills = grid.map(|x, y| bell(x - 0.5, y - 0.25, 0.4) + 0.5 * bell(x + 1., y, 0.2));
    let rings = grid.map(|x, y| bell(x.hypot(y) - 0.8, 0., 0.07) + bell(x - 2., y - 0.9, 0.2) + bell(x, y, 0.1));
    let steps = |n: usize, every: f64| (0..n).map(move |i| i as f64 * every);
    let course = |s: f64| 1.2 + 3. * (-s / 2500.).exp();
    let training = steps(20_000, 1.).map(|s| (s, course(s) + 300. / (1. + s * s) + 0.15 * rng.normal())).collect();
    let validation = steps(40, 500.).map(|s| (s, course(s) + 0.05 + 3e-6 * s)).collect();
    let draws: Vec<f64> =
        (0..5000).map(|i| if i % 3 == 0 { -1.5 + 0.5 * rng.normal() } else { 1. + 0.8 * rng.normal() }).collect();
    let normal = |x: f64, s: f64| bell(x, 0., s) / (s * (2. * std::f64::consts::PI).sqrt());
    let exact: Vec<_> = (-400..=400)
        .map(|i| f64::from(i) / 100.)
        .map(|x| (x, normal(x + 1.5, 0.5) / 3. + normal(x - 1., 0.8) * 2. / 3.))
        .collect();
    let over = |title: &str, field: &Field| {
        Panel::new(title).equal_aspect().density(field.clone()).scatter(&samples, Colour::WHITE, 1., 0.6)
    };
    let bare = |title: &str| Panel::new(title).without_ticks();
    let figures = [
        ("two", Figure::new(2, (420, 330)).panel(over("Two moons", &moons)).panel(over("Hills", &hills))),
        (
            "plain",
            Figure::new(3, (240, 240))
                .panel(bare("data").equal_aspect().scatter(&samples, Colour::BLUE, 1., 0.5))
                .panel(bare("rings, and a title that is too long for its panel").density(rings))
                .panel(bare("a part").density(hills).x_range(-1., 1.).y_range(-0.5, 0.5)),
        ),
        (
            "loss",
            Figure::new(1, (560, 340)).panel(loss_curve(
                &[("training", training), ("validation", validation)],
                "negative log-likelihood (nats)",
            )),
        ),
        (
            "histogram",
            Figure::new(1, (480, 320)).panel(
                Panel::new("A mixture in one dimension")
                    .labels("x", "density")
                    .histogram(&draws, 60, Colour::BLUE, "5,000 samples")
                    .line(&exact, Colour::BLACK, "exact density"),
            ),
        ),
    ];
    for (name, figure) in figures {
        let png = folder.join(name).with_extension("png");
        figure.write(&png)?;
        figure.write(folder.join(name).with_extension("svg"))?;
        let length = std::fs::metadata(&png).map_err(|e| Error::file(&png, e))?.len();
        assert!((5_000..150_000).contains(&length), "{name}: {length} bytes");
        let picture = image::open(&png).map_err(|e| Error::file(&png, e))?.to_rgb8();
        let (w, h) = picture.dimensions();
        let border = picture.enumerate_pixels().filter(|(x, y, _)| *x < 2 || *y < 2 || *x >= w - 2 || *y >= h - 2);
        assert!(border.into_iter().all(|(.., p)| p.0 == [255; 3]), "{name}: something is cut off");
    }
    let left = std::fs::read_dir(&folder).map_err(|e| Error::file(&folder, e))?.flatten();
    assert!(left.into_iter().all(|f| !f.file_name().to_string_lossy().ends_with("tmp")));
    Ok(())
}

#[test]
fn any_data_can_be_drawn() -> Result<()> {
    let grid = Grid::new((-1., 1.), (-1., 1.), 20)?;
    let logs = Tensor::full(f64::NAN, 400, &Device::Cpu)?;
    let wild = [(f64::NAN, 1.), (0., f64::INFINITY), (1e300, -1e300), (1., -f64::MAX), (2., 1e99), (3., 0.)];
    let panels = [
        Panel::new("nothing, <&> \u{0}"),
        Panel::new("").density(grid.density(&logs)?),
        Panel::new("").density(grid.map(|_, _| 1.)).equal_aspect(),
        Panel::new("").density(grid.map(|x, _| x / 0.)).without_ticks(),
        Panel::new("").line(&wild, Colour::RED, "wild").scatter(&wild, Colour::RED, f64::NAN, f64::NAN),
        Panel::new("").line(&[(0., 3.), (1., 3.)], Colour::RED, "constant").x_range(0.2, 0.4),
        Panel::new("").line(&[(5., 5.)], Colour::RED, "one"),
        Panel::new("").histogram(&[f64::NAN], 0, Colour::RED, "none"),
        Panel::new("").histogram(&[2., 2.], 10, Colour::RED, "same"),
        Panel::new("").histogram(&[2., 3.], usize::MAX, Colour::BLUE, "fine"),
    ];
    for (i, panel) in panels.into_iter().enumerate() {
        let picture = Figure::new(1, (200, 160)).panel(panel).image(1.)?;
        let red = picture.pixels().any(|p| p.0[0] > p.0[1].max(p.0[2]).saturating_add(30));
        assert_eq!(red, [4, 5, 6, 7, 8].contains(&i), "panel {i}");
    }
    let empty = loss_curve(&[("empty", vec![]), ("one", vec![(0., f64::NAN)])], "");
    Figure::new(1, (560, 340)).panel(empty).image(0.5)?;
    assert!(Figure::new(0, (200, 200)).svg().is_ok());
    Ok(())
}

#[test]
fn undrawable_figures_are_errors() {
    let figure = Figure::new(1, (200, 200)).panel(Panel::new(""));
    assert!(Figure::new(1, (200, 200)).panel(Panel::new("").x_range(1., 1.)).svg().is_err());
    assert!(Figure::new(1, (20, u32::MAX)).svg().is_err());
    assert!(figure.write("/no such folder/a.png").is_err());
    assert!(figure.write("a.gif").is_err());
    for scale in [0., -1., f64::NAN, 1e9] {
        assert!(figure.write_png("a.png", scale).is_err());
    }
    assert!(Grid::new((0., f64::NAN), (0., 1.), 9).is_err());
    assert!(Grid::new((0., 1.), (0., 1.), 1).is_err());
}

#[test]
fn contours_follow_the_field() -> Result<()> {
    // Every level set of x + y over [0, 1]² is the line x + y = level; outside the grid the curve follows the frame.
    let grid = Grid::new((0., 1.), (0., 1.), 11)?;
    let points = grid.points(DType::F64, &Device::Cpu)?;
    assert_eq!(points.get(12)?.to_vec1::<f64>()?, [0.1, 0.1]);
    let field = grid.density(&points.sum(1)?.log()?)?;
    let levels = field.contours(4);
    assert_eq!(levels.len(), 3);
    let inside = |p: &&(f64, f64)| (0.1..0.9).contains(&p.0) && (0.1..0.9).contains(&p.1);
    for ring in &levels {
        let sums: Vec<f64> = ring.iter().flatten().filter(inside).map(|p| p.0 + p.1).collect();
        assert!(!sums.is_empty() && sums.iter().all(|s| (s - sums[0]).abs() < 1e-9), "{sums:?}");
    }
    Ok(())
}

#[test]
fn images_are_laid_out_in_rows() -> Result<()> {
    let images = Tensor::new(&[0f32, 1., f32::NAN, 2.], &Device::Cpu)?.reshape((4, 1, 1, 1))?;
    let page = image_grid(&images, 3)?;
    assert_eq!(page.dimensions(), (3 * 66 + 2, 2 * 66 + 2));
    assert_eq!([2, 68, 134].map(|x| page.get_pixel(x, 2).0[0]), [0, 255, 0]);
    assert!(image_grid(&images.reshape((2, 2, 1, 1))?, 3).is_err());
    assert_eq!(points(&Tensor::new(&[[1f32, 2.]], &Device::Cpu)?)?, [(1., 2.)]);
    Ok(())
}
