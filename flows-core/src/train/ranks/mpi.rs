//! Ranks started by an MPI launcher (`mpirun`, `srun`).

use super::Communicator;
use crate::{Error, Result};
use mpi::environment::{Threading, Universe, initialize_with_threading};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, Destination, Source};
use std::fmt;

/// Bytes per MPI message, whose length is an i32; longer messages are split.
const MOST: usize = 1 << 30;

/// All processes of an MPI job. MPI is finalised when this value is dropped, so it must outlive the run.
pub struct Mpi {
    world: SimpleCommunicator,
    _universe: Universe,
}

impl Mpi {
    /// Initialises MPI; a process that no launcher has started is a single rank.
    ///
    /// # Errors
    /// When MPI is already initialised.
    pub fn start() -> Result<Self> {
        // Other threads compute; only the one that initialises MPI calls it.
        let started = initialize_with_threading(Threading::Funneled);
        let (universe, _) =
            started.ok_or_else(|| Error::Config("MPI has been started before: keep its ranks".into()))?;
        Ok(Self { world: universe.world(), _universe: universe })
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        // Finalising MPI waits for all ranks, and the others still wait for messages from this one.
        if std::thread::panicking() {
            self.abort(101);
        }
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mpi(rank {} of {})", self.rank(), self.size())
    }
}

// By default any failure within MPI, including the loss of a process, ends the job, so there is
// no error to return.
impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn send(&self, to: usize, message: &[u8]) -> Result<()> {
        let to = self.world.process_at_rank(to as i32);
        message.chunks(MOST).for_each(|part| to.send(part));
        // A part shorter than `MOST` is the last.
        if message.len().is_multiple_of(MOST) {
            to.send::<[u8]>(&[]);
        }
        Ok(())
    }

    fn receive(&self, from: usize) -> Result<Vec<u8>> {
        let from = self.world.process_at_rank(from as i32);
        let (mut message, _) = from.receive_vec::<u8>();
        let mut full = message.len() == MOST;
        while full {
            let (part, _) = from.receive_vec::<u8>();
            full = part.len() == MOST;
            message.extend(part);
        }
        Ok(message)
    }

    fn abort(&self, status: u8) -> ! {
        self.world.abort(i32::from(status))
    }
}
