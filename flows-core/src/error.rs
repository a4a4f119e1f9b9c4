//! The one error type of the workspace: every message says what is wrong and what to do about it.

use std::path::{Path, PathBuf};

/// `Result` with the workspace's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong, worded for the person who has to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has another shape than the one that is wanted.
    #[error("{what} has shape {got:?}, but {want} is wanted")]
    Shape {
        /// Which tensor, as the caller knows it.
        what: String,
        /// The shape that came.
        got: Vec<usize>,
        /// The shape that is wanted, in words or as `(B, 2)`.
        want: String,
    },
    /// A setting that cannot be used; the message names it and the remedy.
    #[error("{0}")]
    Config(String),
    /// Data that cannot be used; the message names the place (file, row, column) and the remedy.
    #[error("{0}")]
    Data(String),
    /// A file that cannot be used.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and the remedy.
        message: String,
        /// The error beneath, if there is one.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A disk, a device or a network that failed, through no fault of the input.
    #[error("{0}")]
    Io(String),
    /// A training run whose loss or gradient is not finite any more.
    #[error("{0}")]
    Diverged(String),
    /// The user asked to stop (Ctrl-C) and the work was saved.
    #[error("interrupted; {0}")]
    Interrupted(String),
    /// A fault of this library, not of its use: the message names the assumption that does not hold.
    #[error("internal error: {0}. This is a bug: please report it with what led to it")]
    Internal(String),
    /// An error of the tensor library.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// A [`Error::Shape`] for `tensor`, known to the caller as `what`.
    pub fn shape(what: impl Into<String>, got: &[usize], want: impl Into<String>) -> Self {
        Self::Shape { what: what.into(), got: got.to_vec(), want: want.into() }
    }

    /// A [`Error::File`] for `path`.
    pub fn file(path: impl Into<PathBuf>, message: impl std::fmt::Display) -> Self {
        Self::File { path: path.into(), message: message.to_string(), source: None }
    }

    /// The same with the error beneath, which the message need not repeat in full.
    #[must_use]
    pub fn with_source(self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        match self {
            Self::File { path, message, .. } => Self::File { path, message, source: Some(error.into()) },
            other => other,
        }
    }

    /// The [`Error::Io`] of a file that cannot be written.
    pub fn unwritten(path: impl AsRef<Path>, why: impl std::fmt::Display) -> Self {
        let path = path.as_ref().display();
        Self::Io(format!("{path}: cannot be written ({why}); check the folder and the space that is left"))
    }

    /// Whether the input of the user is at fault (exit status 2) rather than the work itself (1).
    pub fn is_bad_use(&self) -> bool {
        matches!(self, Self::Shape { .. } | Self::Config(_) | Self::Data(_) | Self::File { .. })
    }
}
