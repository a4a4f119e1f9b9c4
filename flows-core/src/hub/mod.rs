//! Files of the Hugging Face Hub.

use crate::{Error, Result};
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Repo, RepoType};
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::{env, fmt, str::FromStr};

/// What the address of a file on the Hub begins with.
pub const SCHEME: &str = "hf://";

const GRAMMAR: &str = "write hf://owner/repo/path or hf://datasets/owner/repo/path, then @revision if need be";

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

    /// Fetches the file into the cache that all programs of Hugging Face share, unless it is there,
    /// and gives its path.
    ///
    /// A file in the cache is taken as it is, without a look at the network; name a commit or remove
    /// the cache to get another. `HF_HOME` (else `~/.cache/huggingface`) has the cache in `hub`,
    /// `HF_ENDPOINT` is the server to ask, and `HF_TOKEN` or the file `token` in `HF_HOME` opens
    /// private repositories.
    ///
    /// # Errors
    /// [`Error::Data`] when there is no such repository or file or it is private, [`Error::Io`] when
    /// the server cannot be reached or fails; each says what to do.
    pub fn fetch(&self) -> Result<PathBuf> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let home = set("HF_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cache/huggingface")));
        let no_home = || Error::Config("there is no home folder for the cache; set HF_HOME to one".into());
        let home = home.ok_or_else(no_home)?;
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let token = set("HF_TOKEN").or_else(|| std::fs::read_to_string(home.join("token")).ok());
        let token = token.map(|t| t.trim().to_string()).filter(|t| !t.is_empty());
        fetch_from(self, endpoint.trim_end_matches('/'), &home.join("hub"), token)
    }

    /// The address of the file `name` in the folder that this is the address of.
    ///
    /// # Errors
    /// When `name` is not the name of a file.
    pub fn join(&self, name: &str) -> Result<Self> {
        let joined = Self { path: format!("{}/{name}", self.path), ..self.clone() };
        joined.to_string().parse()
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
        // They become parts of a URL and of a path in the cache: nothing may lead out of either.
        let plain = |part: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_.+=%~,()[]".contains(c);
            !part.is_empty() && part != "." && part != ".." && part.chars().all(known)
        };
        let parts: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
        if parts.len() < 3 {
            return Err(wrong("an owner, a repository and a path are wanted"));
        }
        if !parts.iter().chain(&revision.map_or(vec![], |r| r.split('/').collect())).all(|part| plain(part)) {
            return Err(wrong("a part is empty, `..`, or has a character that must be written as %20 and the like"));
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
/// As [`fetch`], and when the address is malformed.
pub fn resolve(text: &str) -> Result<PathBuf> {
    if text.starts_with(SCHEME) { fetch(text) } else { Ok(text.into()) }
}

/// Fetches the file at an `hf://` address, as [`Address::fetch`].
///
/// # Errors
/// As [`Address::fetch`], and when the address is malformed.
pub fn fetch(address: &str) -> Result<PathBuf> {
    address.parse::<Address>()?.fetch()
}

fn fetch_from(address: &Address, endpoint: &str, cache: &Path, token: Option<String>) -> Result<PathBuf> {
    let kind = if address.dataset { RepoType::Dataset } else { RepoType::Model };
    let revision = address.revision.clone().unwrap_or_else(|| "main".into());
    let message = |why: String| format!("{address} cannot be fetched from {endpoint}: {why}");
    let builder = ApiBuilder::from_cache(hf_hub::Cache::new(cache.into())).with_endpoint(endpoint.into());
    let api = builder.with_token(token).build().map_err(|e| Error::Config(message(e.to_string())))?;
    let repo = api.repo(Repo::with_revision(address.repo.clone(), kind, revision));
    // The client panics on some answers that a proper server does not give.
    let fetched = catch_unwind(AssertUnwindSafe(|| repo.get(&address.path)));
    let nonsense = |_| Error::Io(message("its answer makes no sense; check HF_ENDPOINT and any proxy".into()));
    fetched.map_err(nonsense)?.map_err(|e| {
        let kind = if matches!(status(&e), Some(401 | 403 | 404)) { Error::Data } else { Error::Io };
        kind(message(remedy(&e, &repo, address)))
    })
}

/// The status of the server's answer.
fn status(error: &ApiError) -> Option<u16> {
    error.to_string().rsplit_once("http status: ").and_then(|(_, code)| code.parse().ok())
}

/// What went wrong and what to do about it.
fn remedy(error: &ApiError, repo: &ApiRepo, address: &Address) -> String {
    let text = error.to_string();
    match (error, status(error)) {
        (_, Some(401 | 403)) => format!(
            "there is no repository {} that may be read; check its name, and if it is private or gated ask for access \
             and set HF_TOKEN",
            address.repo
        ),
        (_, Some(404)) => match repo.info() {
            Ok(info) => {
                let files: Vec<_> = info.siblings.iter().map(|s| s.rfilename.as_str()).take(20).collect();
                let more = if info.siblings.len() > files.len() { ", ..." } else { "" };
                format!("the repository has no file {}; it has {}{more}", address.path, files.join(", "))
            }
            Err(_) => format!("there is no repository {} of that revision; check the spelling", address.repo),
        },
        (_, Some(416)) | (ApiError::InvalidResume, _) => {
            format!("a download that was cut off cannot be taken up ({text}); remove the .part files in the cache")
        }
        (_, Some(429 | 500..)) => format!("the server is overloaded or broken ({text}); try again later"),
        (ApiError::LockAcquisition(_), _) => "another program is fetching it; wait until it is done".into(),
        (ApiError::IoError(_), _) => format!("{text}; try again, and see that the cache can be written to"),
        (ApiError::MissingHeader(_) | ApiError::InvalidHeader(_) | ApiError::ParseIntError(_), _) => {
            format!("the server does not answer as the Hub does ({text}); check HF_ENDPOINT")
        }
        _ => format!(
            "{text}; check the network, set HF_ENDPOINT to a mirror, or get the file by other means and give its path"
        ),
    }
}

#[cfg(test)]
mod tests;
