//! The client that fetches files from the Hub.

use super::Address;
use crate::data::names;
use crate::{Error, Result};
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Fetches a file into the Hugging Face cache that the environment names, and returns its path.
pub(super) fn fetch(address: &Address) -> Result<PathBuf> {
    let Place { endpoint, cache, token } = Place::of_environment()?;
    fetch_from(address, &endpoint, &cache, token)
}

/// The names of all files in a folder of the address's repository, or in all of it, relative to that.
pub(super) fn names_of(address: &Address, folder: Option<&str>) -> Result<Vec<String>> {
    let Place { endpoint, cache, token } = Place::of_environment()?;
    names_from(address, folder, &endpoint, &cache, token)
}

/// Where files come from and go to.
struct Place {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
}

impl Place {
    fn of_environment() -> Result<Self> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let home = set("HF_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cache/huggingface")));
        let no_home = || Error::Config("there is no home folder for the cache; set HF_HOME to a folder".into());
        let home = home.ok_or_else(no_home)?;
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let token = set("HF_TOKEN").or_else(|| std::fs::read_to_string(home.join("token")).ok());
        let token = token.map(|t| t.trim().to_string()).filter(|t| !t.is_empty());
        Ok(Self { endpoint: endpoint.trim_end_matches('/').into(), cache: home.join("hub"), token })
    }
}

/// The path of the file in `cache`, fetched from `endpoint` unless it is already there.
pub(super) fn fetch_from(address: &Address, endpoint: &str, cache: &Path, token: Option<String>) -> Result<PathBuf> {
    asked(address, endpoint, cache, token, |repo| repo.get(&address.path))
}

/// As [`names_of`], from `endpoint`, or from `cache` when that cannot be reached.
pub(super) fn names_from(
    address: &Address,
    folder: Option<&str>,
    endpoint: &str,
    cache: &Path,
    token: Option<String>,
) -> Result<Vec<String>> {
    let info = match asked(address, endpoint, cache, token, |repo| repo.info()) {
        Ok(info) => info,
        // What is in the cache needs no network.
        Err(error) => {
            let cached = Cache::new(cache.into()).repo(repository(address)).get(folder.unwrap_or_default());
            return cached.filter(|path| path.is_dir()).map_or(Err(error), |path| names(&path));
        }
    };
    let folder = folder.map(|folder| format!("{folder}/")).unwrap_or_default();
    Ok(info.siblings.iter().filter_map(|file| file.rfilename.strip_prefix(&folder)).map(String::from).collect())
}

fn repository(address: &Address) -> Repo {
    let kind = if address.dataset { RepoType::Dataset } else { RepoType::Model };
    let revision = address.revision.clone().unwrap_or_else(|| "main".into());
    Repo::with_revision(address.repo.clone(), kind, revision)
}

/// What a request to the repository of an address gives.
fn asked<T>(
    address: &Address,
    endpoint: &str,
    cache: &Path,
    token: Option<String>,
    request: impl FnOnce(&ApiRepo) -> std::result::Result<T, ApiError>,
) -> Result<T> {
    let message = |why: String| format!("{address} cannot be fetched from {endpoint}: {why}");
    let builder = ApiBuilder::from_cache(Cache::new(cache.into())).with_endpoint(endpoint.into());
    let api = builder.with_token(token).build().map_err(|e| Error::Config(message(e.to_string())))?;
    let repo = api.repo(repository(address));
    // The client panics on some invalid responses.
    let answer = catch_unwind(AssertUnwindSafe(|| request(&repo)));
    let nonsense = |_| Error::Io(message("its response is invalid; check HF_ENDPOINT and any proxy".into()));
    answer.map_err(nonsense)?.map_err(|e| {
        let kind = if matches!(status(&e), Some(401 | 403 | 404)) { Error::Data } else { Error::Io };
        kind(message(remedy(&e, &repo, address)))
    })
}

/// The HTTP status of the server's response.
fn status(error: &ApiError) -> Option<u16> {
    error.to_string().rsplit_once("http status: ").and_then(|(_, code)| code.parse().ok())
}

/// What went wrong and what to do about it.
fn remedy(error: &ApiError, repo: &ApiRepo, address: &Address) -> String {
    let text = error.to_string();
    match (error, status(error)) {
        (_, Some(401 | 403)) => format!(
            "there is no readable repository {}; check its name, and if it is private or gated ask for access \
             and set HF_TOKEN",
            address.repo
        ),
        (_, Some(404)) => match repo.info() {
            Ok(info) => {
                let files: Vec<_> = info.siblings.iter().map(|s| s.rfilename.as_str()).take(20).collect();
                let more = if info.siblings.len() > files.len() { ", ..." } else { "" };
                format!("the repository has no file {}; it has {}{more}", address.path, files.join(", "))
            }
            Err(_) => format!("there is no repository {} with that revision; check the spelling", address.repo),
        },
        (_, Some(416)) | (ApiError::InvalidResume, _) => {
            format!("an interrupted download cannot be resumed ({text}); remove the .part files in the cache")
        }
        (_, Some(429 | 500..)) => format!("the server is overloaded or failing ({text}); try again later"),
        (ApiError::LockAcquisition(_), _) => "another program is fetching it; wait until it is done".into(),
        (ApiError::IoError(_), _) => format!("{text}; try again, and check that the cache is writable"),
        (ApiError::MissingHeader(_) | ApiError::InvalidHeader(_) | ApiError::ParseIntError(_), _) => {
            format!("the server does not respond like the Hub ({text}); check HF_ENDPOINT")
        }
        _ => format!(
            "{text}; check the network, set HF_ENDPOINT to a mirror, or get the file by other means and give its path"
        ),
    }
}
