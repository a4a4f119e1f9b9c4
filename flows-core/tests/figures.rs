//! `flows figures` writes valid pictures and results.

use std::process::Command;

#[test]
fn all_figures_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a new folder");
    let run = |flags: &[&str]| {
        let command = ["figures", "--quick", "--json", "-q", "--threads", "2", "--out"];
        Command::new(env!("CARGO_BIN_EXE_flows")).args(command).arg(&out).args(flags).output().unwrap()
    };
    let flows = |seed: &str| {
        let output = run(&["--seed", seed, "--overwrite"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Vec<serde_json::Value>>(&output.stdout).unwrap()
    };
    let fits = flows("1");
    let of = |i: usize, name: &str| fits[i][name].clone();
    assert_eq!(fits.len(), 12);
    assert!((0..12).all(|i| of(i, "kl").as_f64().is_some_and(|kl| kl > 0.0)), "{fits:?}");
    assert_eq!((of(11, "energy"), of(11, "layers")), ("U4".into(), 32.into()));

    for (name, least) in [("figures", 1440), ("energies", 1760)] {
        let picture = image::open(out.join(name).with_extension("png")).unwrap().to_rgb8();
        assert!(picture.width() >= least, "{name}: {:?}", picture.dimensions());
        let colours: std::collections::HashSet<_> = picture.pixels().map(|p| p.0).collect();
        assert!(colours.len() > 30, "{name} is blank");
    }
    let single =
        ["normal", "scale-rotate", "planar", "radial", "coupling", "autoregressive", "shift-1d", "exp-1d", "energies"];
    for name in single {
        let svg = std::fs::read_to_string(out.join(name).with_extension("svg")).unwrap();
        roxmltree::Document::parse(&svg).unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    let refused = run(&[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--overwrite"));
    let picture = std::fs::read(out.join("figures.png")).unwrap();
    flows("1");
    assert!(picture == std::fs::read(out.join("figures.png")).unwrap(), "the same seed gave different pictures");
}
