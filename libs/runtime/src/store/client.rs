//! What all stores behind a network share: settings from the environment, and how their clients are set up.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::{Store, StoreError};

/// Whole request; the library's 30 s would cut the transfer of a large object on a slow line.
const REQUEST: Duration = Duration::from_secs(180);
const CONNECT: Duration = Duration::from_secs(5);

/// Environment variables, as pairs.
pub(super) type Settings = Vec<(String, String)>;

/// The variables that begin with one of `prefixes` and say something.
pub(super) fn settings(environment: impl Iterator<Item = (String, String)>, prefixes: &[&str]) -> Settings {
    let ours = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
    environment.filter(|(name, value)| ours(name) && !value.is_empty()).collect()
}

/// Those of the settings that a client knows by name, and whether one of them asks for plain HTTP.
pub(super) fn known<K: FromStr>(
    settings: &[(String, String)],
    is_plain: impl Fn(&K, &str) -> bool,
) -> (Vec<(K, String)>, bool) {
    let key = |(name, value): &(String, String)| Some((name.to_ascii_lowercase().parse().ok()?, value.clone()));
    let known: Vec<(K, String)> = settings.iter().filter_map(key).collect();
    let plain_http = known.iter().any(|(key, value)| is_plain(key, value));
    (known, plain_http)
}

/// The store at a URL, behind a client that was set up for it.
pub(super) fn finish<S: ObjectStore>(
    (text, url): (&str, &url::Url),
    built: object_store::Result<S>,
) -> Result<Store, StoreError> {
    let store = built.map_err(|source| StoreError::Settings { url: text.to_owned(), source })?;
    let root = Path::from_url_path(url.path())
        .map_err(|error| StoreError::Malformed { url: text.to_owned(), cause: error.to_string() })?;
    Ok(Store::remote(Arc::new(store), root, text))
}

/// The value of `name`.
pub(super) fn value<'a>(settings: &'a [(String, String)], name: &str) -> Option<&'a str> {
    settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Timeouts of single reads are the guard's.
pub(super) fn options(plain_http: bool) -> ClientOptions {
    ClientOptions::new().with_timeout(REQUEST).with_connect_timeout(CONNECT).with_allow_http(plain_http)
}

/// None: the guard repeats, within its budget.
pub(super) fn no_retries() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: REQUEST }
}
