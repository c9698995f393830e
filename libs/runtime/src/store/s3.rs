//! An S3 bucket, or a server that speaks its protocol.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::{Store, StoreError};

/// Whole request; the library's 30 s would cut the upload of a large object on a slow line.
const REQUEST: Duration = Duration::from_secs(180);
/// Between two reads of one body: a stalled body is noticed long before [`REQUEST`].
const READ: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);
/// After that a request's failure is told, so that whoever waits can decide.
const RETRIES: Duration = Duration::from_secs(60);

/// Where credentials can come from; one of them must be set.
const CREDENTIALS: [&str; 6] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_METADATA_ENDPOINT",
    "AWS_SKIP_SIGNATURE",
];

/// Opens `s3://BUCKET/PREFIX` with the settings in `environment`.
pub(super) fn open(
    text: &str,
    url: &url::Url,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Store, StoreError> {
    let malformed = |cause: &str| StoreError::Malformed { url: text.to_owned(), cause: cause.to_owned() };
    let bucket = url.host_str().filter(|name| !name.is_empty()).ok_or_else(|| malformed("it names no bucket"))?;
    let settings: Vec<(String, String)> =
        environment.filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty()).collect();
    // Without this check the library would look for a machine role at a link-local address, for minutes.
    if !settings.iter().any(|(name, _)| CREDENTIALS.contains(&name.as_str())) {
        return Err(StoreError::NoCredentials { url: text.to_owned() });
    }
    let store = builder(&settings)
        .with_bucket_name(bucket)
        .build()
        .map_err(|source| StoreError::Settings { url: text.to_owned(), source })?;
    let root = Path::from_url_path(url.path()).map_err(|error| malformed(&error.to_string()))?;
    Ok(Store { store: Arc::new(store), root, url: text.trim_end_matches('/').to_owned() })
}

fn builder(settings: &[(String, String)]) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::new();
    let mut plain_http = false;
    for (name, value) in settings {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            plain_http |= key == AmazonS3ConfigKey::Endpoint && value.starts_with("http://");
            builder = builder.with_config(key, value);
        }
    }
    let client = ClientOptions::new()
        .with_timeout(REQUEST)
        .with_read_timeout(READ)
        .with_connect_timeout(CONNECT)
        // A plain endpoint was asked for by name (a server in the cluster): no second switch for it.
        .with_allow_http(plain_http);
    builder
        .with_client_options(client)
        .with_retry(RetryConfig { backoff: BackoffConfig::default(), max_retries: 10, retry_timeout: RETRIES })
        .with_conditional_put(S3ConditionalPut::ETagMatch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(url: &str, environment: &[(&str, &str)]) -> Result<Store, StoreError> {
        let parsed = url::Url::parse(url).expect("a URL");
        open(url, &parsed, environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn a_bucket_without_credentials_is_refused_before_any_request() {
        let text = opened("s3://clips/kinetics", &[("PATH", "/bin")]).expect_err("no credentials").to_string();
        assert!(text.contains("s3://clips/kinetics") && text.contains("AWS_ACCESS_KEY_ID"), "{text}");
    }

    #[test]
    fn the_prefix_becomes_the_root() {
        let keys = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_REGION", "eu-central-1")];
        let store = opened("s3://clips/a/b/", &keys).expect("opens");
        assert_eq!(store.path("runs/x").as_ref(), "a/b/runs/x");
        assert_eq!(store.url, "s3://clips/a/b");
    }

    #[test]
    fn a_url_without_a_bucket_is_refused() {
        let text = opened("s3:///x", &[("AWS_ACCESS_KEY_ID", "k")]).expect_err("no bucket").to_string();
        assert!(text.contains("names no bucket"), "{text}");
    }
}
