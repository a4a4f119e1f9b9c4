//! Several processes joined by MPI, where `mpirun` is found.

mod library;
mod program;

use std::path::Path;
use std::process::{Command, Stdio};

/// A command that starts `program` as that many ranks of a thread each; none where there is no `mpirun`.
fn mpirun(ranks: usize, program: &Path) -> Option<Command> {
    let found = Command::new("mpirun").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("there is no `mpirun`: the tests of several processes are passed over");
        return None;
    }
    let mut command = Command::new("mpirun");
    command.args(["-n", &ranks.to_string()]).arg(program).stdin(Stdio::null());
    for (name, value) in [
        // No test waits for ranks that wait for each other.
        ("MPIEXEC_TIMEOUT", "300"),
        // More ranks than processors, and the user root of a container, which may not read the memory of others.
        ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        ("OMPI_MCA_btl_vader_single_copy_mechanism", "none"),
        ("RAYON_NUM_THREADS", "1"),
    ] {
        command.env(name, value);
    }
    Some(command)
}
