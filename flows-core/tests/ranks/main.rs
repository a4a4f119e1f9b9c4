//! Several processes connected by MPI, if `mpirun` is installed.

mod library;
mod program;

use std::path::Path;
use std::process::{Command, Stdio};

/// A command that starts `program` as this many single-threaded ranks; none if there is no `mpirun`.
fn mpirun(ranks: usize, program: &Path) -> Option<Command> {
    let found = Command::new("mpirun").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("there is no `mpirun`: the tests of several processes are passed over");
        return None;
    }
    let mut command = Command::new("mpirun");
    command.args(["-n", &ranks.to_string()]).arg(program).stdin(Stdio::null());
    for (name, value) in [
        // A deadlock must not hang the tests.
        ("MPIEXEC_TIMEOUT", "300"),
        // Allow more ranks than cores, and root in a container, which may not read the memory of other processes.
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
