//! Whether an MPI launcher has started the process.

use super::Ranks;
use crate::Result;

/// The variables by which launchers tell the number of ranks: those of Open MPI, of MPICH, Intel MPI and Slurm's PMI,
/// and of MVAPICH.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"];
/// What launchers by PMIx tell in its place.
const RANK: &str = "PMIX_RANK";

impl Ranks {
    /// The ranks that `mpirun` or `srun` has started, of which this process is one; a process that neither has started
    /// is alone, and MPI is left out of it.
    ///
    /// MPI ends with this value and its clones, so they must outlive the run.
    ///
    /// # Errors
    /// When there are several and the crate was built without the feature `mpi`, or MPI has been started before.
    pub fn start() -> Result<Self> {
        #[cfg(feature = "mpi")]
        if SIZES.iter().chain([&RANK]).any(|name| std::env::var_os(name).is_some()) {
            return Ok(Self::new(super::Mpi::start()?));
        }
        #[cfg(not(feature = "mpi"))]
        if SIZES.iter().any(|name| number(name) > 1) || number(RANK) > 0 {
            return Err(crate::Error::Config(
                "several ranks have been started of a program without MPI: build it with `--features mpi`, or start it \
                 without `mpirun` or `srun`"
                    .into(),
            ));
        }
        Ok(Self::alone())
    }
}

#[cfg(not(feature = "mpi"))]
fn number(name: &str) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(0)
}
