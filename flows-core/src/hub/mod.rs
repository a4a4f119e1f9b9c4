//! Files on the Hugging Face Hub.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::{fmt, str::FromStr};

#[cfg(feature = "hub")]
mod client;

#[cfg(not(feature = "hub"))]
mod client {
    use crate::{Error, Result};

    pub(super) fn fetch(address: &super::Address) -> Result<std::path::PathBuf> {
        let remedy = "build it with the feature `hub`, or get the file by other means and give its path";
        Err(Error::Config(format!("{address} cannot be fetched: this build has no Hub client; {remedy}")))
    }

    pub(super) fn names_of(address: &super::Address, _: Option<&str>) -> Result<Vec<String>> {
        fetch(address).map(|_| Vec::new())
    }
}

/// The prefix of the address of a file on the Hub.
pub const SCHEME: &str = "hf://";

const GRAMMAR: &str = "write hf://owner/repo/path or hf://datasets/owner/repo/path, optionally followed by @revision";

/// The address of a file on the Hub: `hf://[datasets/]owner/repo/path[@revision]`.
///
/// The revision is a branch, a tag or a commit, and `main` if none is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    dataset: bool,
    repo: String,
    path: String,
    revision: Option<String>,
}

impl Address {
    /// The path of the file within its repository.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Fetches the file into the cache shared by all Hugging Face programs, unless it is already there,
    /// and returns its path.
    ///
    /// A cached file is used without accessing the network; name a commit or remove
    /// the cache to get another version. The cache is `hub` in `HF_HOME` (by default `~/.cache/huggingface`),
    /// `HF_ENDPOINT` is the server, and `HF_TOKEN` or the file `token` in `HF_HOME` gives access to
    /// private repositories.
    ///
    /// # Errors
    /// [`Error::Data`] when there is no such repository or file or it is private, [`Error::Io`] when
    /// the server cannot be reached or fails, [`Error::Config`] when the crate was built without its
    /// feature `hub`; each says what to do.
    pub fn fetch(&self) -> Result<PathBuf> {
        client::fetch(self)
    }

    /// The names of all files in the folder at this address and in its folders, relative to it.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub fn names(&self) -> Result<Vec<String>> {
        client::names_of(self, Some(&self.path))
    }

    /// The names of all files in the folder of the file at this address and in its folders, relative to it; the folder of a
    /// file without one is its repository.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub fn beside(&self) -> Result<Vec<String>> {
        client::names_of(self, self.path.rsplit_once('/').map(|(folder, _)| folder))
    }

    /// The address of another file of the same repository.
    ///
    /// # Errors
    /// When `path` is not the path of a file.
    pub fn with_path(&self, path: &str) -> Result<Self> {
        Self { path: path.to_string(), ..self.clone() }.to_string().parse()
    }

    /// The address of the file `name` in the folder at this address.
    ///
    /// # Errors
    /// When `name` is not the name of a file.
    pub fn join(&self, name: &str) -> Result<Self> {
        self.with_path(&format!("{}/{name}", self.path))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.dataset { "datasets/" } else { "" };
        write!(f, "{SCHEME}{kind}{}/{}", self.repo, self.path)?;
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::Config(format!("`{text}` is not the address of a file ({why}); {GRAMMAR}"));
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| wrong("it does not begin with hf://"))?;
        let (rest, revision) = match rest.rsplit_once('@') {
            Some((rest, revision)) => (rest, Some(revision)),
            None => (rest, None),
        };
        let (dataset, rest) = match rest.strip_prefix("datasets/") {
            Some(rest) => (true, rest),
            None => (false, rest.strip_prefix("models/").unwrap_or(rest)),
        };
        // These become parts of a URL and of a path in the cache: none may lead out of either.
        let plain = |part: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_.+=%~,()[]".contains(c);
            !part.is_empty() && part != "." && part != ".." && part.chars().all(known)
        };
        let parts: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
        if parts.len() < 3 {
            return Err(wrong("an owner, a repository and a path are required"));
        }
        if !parts.iter().chain(&revision.map_or(vec![], |r| r.split('/').collect())).all(|part| plain(part)) {
            return Err(wrong("a part is empty, `..`, or has a character that must be percent-encoded, like %20"));
        }
        Ok(Self {
            dataset,
            repo: parts[..2].join("/"),
            path: parts[2..].join("/"),
            revision: revision.map(str::to_string),
        })
    }
}

impl TryFrom<String> for Address {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

/// The path of a file that `text` names: a local path as it is, an `hf://` address once fetched.
///
/// # Errors
/// Same as [`fetch`], and when the address is malformed.
pub fn resolve(text: &str) -> Result<PathBuf> {
    if text.starts_with(SCHEME) { fetch(text) } else { Ok(text.into()) }
}

/// Fetches the file at an `hf://` address, as [`Address::fetch`].
///
/// # Errors
/// Same as [`Address::fetch`], and when the address is malformed.
pub fn fetch(address: &str) -> Result<PathBuf> {
    address.parse::<Address>()?.fetch()
}

#[cfg(all(test, feature = "hub"))]
mod tests;
