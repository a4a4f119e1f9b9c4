//! Ctrl-C and the signals by which a system asks a program to terminate.

use super::note;
use crate::{Error, Result};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether an [`Interrupt`] exists.
static HEEDED: AtomicBool = AtomicBool::new(false);
/// Whether the user has asked to stop since it was created.
static ASKED: AtomicBool = AtomicBool::new(false);
/// Whether it acknowledges the request on standard error.
static SPEAKS: AtomicBool = AtomicBool::new(true);

/// Turns Ctrl-C, SIGTERM and SIGHUP into a request to stop, honoured after the current step of a training run.
///
/// While one exists, the first Ctrl-C is a request and a second ends the program at once; after it is dropped, Ctrl-C
/// ends the program at once. Only one can exist at a time.
#[derive(Debug)]
pub struct Interrupt(());

impl Interrupt {
    /// Installs the signal handler; if `speaks`, it acknowledges the request on standard error, which one of several
    /// ranks does.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn install(speaks: bool) -> Result<Self> {
        static HANDLER: OnceLock<std::result::Result<(), String>> = OnceLock::new();
        let handler = || {
            if !HEEDED.load(Ordering::SeqCst) || ASKED.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            if SPEAKS.load(Ordering::SeqCst) {
                note("\nfinishing the step and saving; press Ctrl-C again to stop at once");
            }
        };
        let installed = HANDLER.get_or_init(|| ctrlc::set_handler(handler).map_err(|e| e.to_string()));
        installed.clone().map_err(|e| Error::Config(format!("cannot install a handler for Ctrl-C ({e})")))?;
        ASKED.store(false, Ordering::SeqCst);
        SPEAKS.store(speaks, Ordering::SeqCst);
        HEEDED.store(true, Ordering::SeqCst);
        Ok(Self(()))
    }

    /// Whether the user has asked to stop.
    pub fn asked(&self) -> bool {
        ASKED.load(Ordering::SeqCst)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        HEEDED.store(false, Ordering::SeqCst);
    }
}
