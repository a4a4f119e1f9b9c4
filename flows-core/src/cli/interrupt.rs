//! Ctrl-C, and the signals by which a system asks a program to end.

use super::note;
use crate::{Error, Result};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether there is an [`Interrupt`].
static HEEDED: AtomicBool = AtomicBool::new(false);
/// Whether the user has asked to stop since it was made.
static ASKED: AtomicBool = AtomicBool::new(false);
/// Whether it says that it was asked.
static SPEAKS: AtomicBool = AtomicBool::new(true);

/// Turns Ctrl-C into a request to stop, which the next step of a training run grants; so do SIGTERM and SIGHUP.
///
/// While there is one, the first Ctrl-C asks and a second ends the program at once; when it is dropped Ctrl-C ends the
/// program at once. There is one at a time.
#[derive(Debug)]
pub struct Interrupt(());

impl Interrupt {
    /// Takes over Ctrl-C; `speaks` if it is to say that it was pressed, as one of several ranks does.
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
        installed.clone().map_err(|e| Error::Config(format!("Ctrl-C cannot be watched for ({e})")))?;
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
