//! Detects whether an MPI launcher has started the process.

use super::Ranks;
use crate::{Error, Result};

/// The environment variables in which launchers give the number of ranks: Open MPI's; that of MPICH, Intel MPI and
/// Slurm's PMI; and MVAPICH's.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"];
/// The variable that PMIx launchers set instead, the rank.
const RANK: &str = "PMIX_RANK";

impl Ranks {
    /// The ranks that `mpirun` or `srun` has started, including this process; a process started otherwise is a single
    /// rank and does not initialise MPI.
    ///
    /// MPI is finalised when this value and its clones are dropped, so they must outlive the run.
    ///
    /// # Errors
    /// When there are several ranks and the crate was built without the feature `mpi`, or the MPI library does not
    /// connect them, or MPI is already initialised.
    pub fn start() -> Result<Self> {
        let several = SIZES.iter().any(|name| number(name) > 1) || number(RANK) > 0;
        #[cfg(feature = "mpi")]
        if SIZES.iter().chain([&RANK]).any(|name| std::env::var_os(name).is_some()) {
            let ranks = Self::new(super::Mpi::start()?);
            if several && ranks.size() == 1 {
                return Err(Error::Config(
                    "this program was started as several ranks, but its MPI library does not connect them: start it by the \
                     `mpirun` of that library, or by `srun` with a suitable `--mpi` (`srun --mpi=list` shows the choices)"
                        .into(),
                ));
            }
            return Ok(ranks);
        }
        #[cfg(not(feature = "mpi"))]
        if several {
            return Err(Error::Config(
                "this program was started as several ranks but built without MPI: build it with `--features mpi`, or \
                 start it without `mpirun` or `srun`"
                    .into(),
            ));
        }
        Ok(Self::alone())
    }
}

fn number(name: &str) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(0)
}
