//! Training, density and sampling of whole flows: `cargo bench -p flows-core --bench flows`.
//!
//! Each is one step or one call on a batch, of the sizes that its name in `docs/speed.md` says.

mod report;
mod workloads;

use criterion::Criterion;
use flows_core::Result;
use std::time::{Duration, SystemTime};
use workloads::{VaeIaf, Workload, maf, nsf_autoregressive, nsf_coupling, nsf_coupling_mlp, realnvp};

#[global_allocator]
static ALLOCATOR: flows_core::cli::Allocator = flows_core::cli::Allocator;

fn bench(c: &mut Criterion, workload: &str, what: &str, mut run: impl FnMut() -> Result<()>) {
    c.bench_function(&format!("{workload}.{what}"), |b| b.iter(|| run().expect("the workload runs")));
}

fn flows(c: &mut Criterion) {
    for (name, make, calls) in [
        ("realnvp", realnvp as fn() -> Result<Workload>, &["train", "sample"][..]),
        ("nsf_c", nsf_coupling, &["train", "log_prob", "sample"]),
        ("nsf_c_mlp", nsf_coupling_mlp, &["train", "log_prob", "sample"]),
        ("nsf_ar", nsf_autoregressive, &["train", "log_prob", "sample"]),
        ("maf", maf, &["train", "sample"]),
    ] {
        let mut workload = make().expect("the flow is built");
        for what in calls {
            match *what {
                "train" => bench(c, name, what, || workload.train()),
                "log_prob" => bench(c, name, what, || workload.log_prob()),
                _ => bench(c, name, what, || workload.sample()),
            }
        }
    }
    let mut vae = VaeIaf::new().expect("the model is built");
    bench(c, "vae_iaf", "train", || vae.train());
}

fn main() {
    flows_core::cli::prepare_process();
    let start = SystemTime::now();
    let criterion = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500));
    flows(&mut criterion.output_directory(&report::folder()).configure_from_args());
    report::print(start);
}
