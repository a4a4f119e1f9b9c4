//! Ctrl-C, and the signals by which a system asks a program to end.

use super::note;
use crate::train::{Observer, StepEvent};
use crate::{Error, Result};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Turns Ctrl-C into a request to stop, which the next step of a training run grants; so do SIGTERM and SIGHUP.
///
/// While there is one, the first Ctrl-C asks and a second ends the program at once; when it is dropped
/// Ctrl-C ends the program at once.
#[derive(Debug)]
pub struct Interrupt {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    heeded: AtomicBool,
    asked: AtomicBool,
}

impl Interrupt {
    /// Takes over Ctrl-C, which can be done once in a process.
    ///
    /// # Errors
    /// When it has been done before or the system does not allow it.
    pub fn install() -> Result<Self> {
        let state = Arc::new(State { heeded: AtomicBool::new(true), asked: AtomicBool::new(false) });
        let shared = state.clone();
        let handler = move || {
            if !shared.heeded.load(Ordering::SeqCst) || shared.asked.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            note("\nfinishing the step and saving; press Ctrl-C again to stop at once");
        };
        ctrlc::set_handler(handler).map_err(|e| Error::Config(format!("Ctrl-C cannot be watched for ({e})")))?;
        Ok(Self { state })
    }

    /// Whether the user has asked to stop.
    pub fn asked(&self) -> bool {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// The observer that ends a training run when the user asks.
    pub fn observer(&self) -> impl Observer + use<> {
        Asked(self.state.clone())
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.state.heeded.store(false, Ordering::SeqCst);
    }
}

struct Asked(Arc<State>);

impl Observer for Asked {
    fn step(&mut self, _: &StepEvent) -> Result<ControlFlow<()>> {
        let asked = self.0.asked.load(Ordering::SeqCst);
        Ok(if asked { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}
