//! The error type of the workspace: every message says what is wrong and what to do about it.

use std::path::{Path, PathBuf};

/// `Result` with the workspace's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// The errors of the workspace, worded for the person who has to fix them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor does not have the required shape.
    #[error("{what} has shape {got:?}, but {want} is required")]
    Shape {
        /// What the caller calls the tensor.
        what: String,
        /// The actual shape.
        got: Vec<usize>,
        /// The required shape, in words or as `(B, 2)`.
        want: String,
    },
    /// A setting that cannot be used; the message names it and the remedy.
    #[error("{0}")]
    Config(String),
    /// Data that cannot be used; the message names the location (file, row, column) and the remedy.
    #[error("{0}")]
    Data(String),
    /// A file that cannot be used.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and the remedy.
        message: String,
        /// The underlying error, if there is one.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A failure of a disk, a device or a network, not caused by the input.
    #[error("{0}")]
    Io(String),
    /// A training run whose loss or gradient is no longer finite.
    #[error("{0}")]
    Diverged(String),
    /// The user asked to stop (Ctrl-C) and the work was saved.
    #[error("interrupted; {0}")]
    Interrupted(String),
    /// A bug in this library: the message names the violated assumption.
    #[error("internal error: {0}. This is a bug: please report it with what led to it")]
    Internal(String),
    /// An error of the tensor library.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// An [`Error::Shape`] for a tensor that the caller calls `what`.
    pub fn shape(what: impl Into<String>, got: &[usize], want: impl Into<String>) -> Self {
        Self::Shape { what: what.into(), got: got.to_vec(), want: want.into() }
    }

    /// An [`Error::File`] for `path`.
    pub fn file(path: impl Into<PathBuf>, message: impl std::fmt::Display) -> Self {
        Self::File { path: path.into(), message: message.to_string(), source: None }
    }

    /// Attaches the underlying error, which the message need not repeat in full.
    #[must_use]
    pub fn with_source(self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        match self {
            Self::File { path, message, .. } => Self::File { path, message, source: Some(error.into()) },
            other => other,
        }
    }

    /// The [`Error::Io`] for a file that cannot be written.
    pub fn unwritten(path: impl AsRef<Path>, why: impl std::fmt::Display) -> Self {
        let path = path.as_ref().display();
        Self::Io(format!("{path}: cannot be written ({why}); check the folder and the free space"))
    }

    /// Whether the user's input is at fault (exit status 2) rather than the work itself (1).
    pub fn is_bad_use(&self) -> bool {
        matches!(self, Self::Shape { .. } | Self::Config(_) | Self::Data(_) | Self::File { .. })
    }
}
