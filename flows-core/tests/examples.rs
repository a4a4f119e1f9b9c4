//! Every example runs, and ends with what it asserts.

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
#[path = "../examples/own_flow.rs"]
mod own_flow;
#[path = "../examples/own_loop.rs"]
mod own_loop;
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

run!(anomalies conditional density own_bijector own_flow own_loop reverse_kl);

/// The pictures that are kept are those that the example draws.
#[cfg(feature = "plot")]
#[test]
fn introduction() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    introduction::draw(folder.path())?;
    for name in ["change.png", "maps.png"] {
        let size = |path: std::path::PathBuf| image::image_dimensions(path).unwrap();
        let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/introduction").join(name);
        assert_eq!(size(folder.path().join(name)), size(kept), "{name}");
    }
    Ok(())
}
