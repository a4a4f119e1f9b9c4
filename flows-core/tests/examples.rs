//! Runs every example, including its assertions.

use flows_core::Result;

#[path = "../examples/anomalies.rs"]
mod anomalies;
#[path = "../examples/conditional.rs"]
mod conditional;
#[path = "../examples/density.rs"]
mod density;
#[cfg(feature = "plot")]
#[path = "../examples/introduction.rs"]
#[allow(dead_code)]
mod introduction;
#[path = "../examples/own_bijector.rs"]
mod own_bijector;
#[path = "../examples/own_conditioner.rs"]
mod own_conditioner;
#[path = "../examples/own_flow.rs"]
mod own_flow;
#[path = "../examples/own_loop.rs"]
mod own_loop;
#[path = "../examples/posterior.rs"]
mod posterior;
#[path = "../examples/reverse_kl.rs"]
mod reverse_kl;

macro_rules! run {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() -> Result<()> {
            $name::main()
        })*
    };
}

run!(anomalies conditional density own_bijector own_conditioner own_flow own_loop posterior reverse_kl);

/// The pictures in the introduction are those that the example draws, up to rounding.
#[cfg(feature = "plot")]
#[test]
fn introduction() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    introduction::draw(folder.path())?;
    for name in ["change.png", "maps.png"] {
        let shown = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/introduction").join(name);
        let [drawn, shown] = [folder.path().join(name), shown].map(|path| image::open(path).unwrap().to_rgb8());
        assert_eq!(drawn.dimensions(), shown.dimensions(), "{name}");
        let off: u64 = drawn.as_raw().iter().zip(shown.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        assert!(off < drawn.as_raw().len() as u64 / 10, "{name} is another picture: off by {off}");
    }
    Ok(())
}
