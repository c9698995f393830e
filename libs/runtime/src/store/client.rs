//! What all stores behind a network share: settings from the environment, and how their clients are set up.

use std::time::Duration;

use object_store::{BackoffConfig, ClientOptions, RetryConfig};

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
