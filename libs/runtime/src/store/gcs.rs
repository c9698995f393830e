//! A bucket of Google Cloud Storage.

use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

use super::client;
use super::{Store, StoreError};

/// Where credentials can come from; one of them must be set, or the file of `gcloud auth application-default login` be there.
const CREDENTIALS: [&str; 7] = [
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_BEARER_TOKEN",
    "GOOGLE_SKIP_SIGNATURE",
    "GCE_METADATA_HOST",
];

const SETTINGS: &str = "GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT to a file of credentials, \
                        GOOGLE_SERVICE_ACCOUNT_KEY to such a file's text, run `gcloud auth application-default login`, set \
                        GCE_METADATA_HOST=metadata.google.internal to use the role of the machine or pod, or \
                        GOOGLE_SKIP_SIGNATURE=true for a public bucket";

/// Opens `gs://BUCKET/PREFIX` with the settings in `environment`.
pub(super) fn open(
    text: &str,
    url: &url::Url,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Store, StoreError> {
    let malformed = |cause: &str| StoreError::Malformed { url: text.to_owned(), cause: cause.to_owned() };
    let bucket = url.host_str().filter(|name| !name.is_empty()).ok_or_else(|| malformed("it names no bucket"))?;
    let settings = client::settings(environment, &["GOOGLE_", "GCE_METADATA_", "HOME"]);
    let logged_in = client::value(&settings, "HOME").is_some_and(|home| {
        std::path::Path::new(home).join(".config/gcloud/application_default_credentials.json").exists()
    });
    // Without this check the library would look for a machine's role, for minutes.
    if !logged_in && !CREDENTIALS.iter().any(|name| client::value(&settings, name).is_some()) {
        return Err(StoreError::no_credentials(text, SETTINGS));
    }
    let is_plain = |key: &_, value: &str| *key == GoogleConfigKey::BaseUrl && value.starts_with("http://");
    let (known, plain_http) = client::known(&settings, is_plain);
    let builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_client_options(client::options(plain_http))
        .with_retry(client::no_retries());
    let builder = known.into_iter().fold(builder, |builder, (key, value)| builder.with_config(key, value));
    client::finish((text, url), builder.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(url: &str, environment: &[(&str, &str)]) -> Result<Store, StoreError> {
        let parsed = url::Url::parse(url).expect("a URL");
        open(url, &parsed, environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn a_bucket_without_credentials_is_refused_with_what_was_looked_for() {
        let text = opened("gs://clips/k", &[("HOME", "/nobody")]).expect_err("no credentials").to_string();
        assert!(text.contains("gs://clips/k") && text.contains("GOOGLE_APPLICATION_CREDENTIALS"), "{text}");
        let text = opened("gs:///k", &[]).expect_err("no bucket").to_string();
        assert!(text.contains("names no bucket"), "{text}");
    }

    #[test]
    fn settings_open_a_bucket_below_its_prefix() {
        for setting in [("GOOGLE_SKIP_SIGNATURE", "true"), ("GOOGLE_BEARER_TOKEN", "t"), ("GCE_METADATA_HOST", "h")] {
            let store = opened("gs://clips/a/b/", &[setting]).unwrap_or_else(|error| panic!("{setting:?}: {error:?}"));
            assert_eq!((store.path("x").as_ref(), store.url.as_str()), ("a/b/x", "gs://clips/a/b"));
        }
    }

    #[test]
    fn a_file_of_credentials_that_is_not_there_is_named() {
        let missing = opened("gs://clips", &[("GOOGLE_SERVICE_ACCOUNT", "/no/such.json")]).expect_err("no file");
        let text = crate::exit::one_line(&anyhow::Error::new(missing));
        assert!(text.contains("gs://clips") && text.contains("/no/such.json"), "{text}");
    }
}
