//! An S3 bucket, or a server that speaks its protocol.

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};

use super::client::{self, Settings};
use super::{Store, StoreError, profile};

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
    let environment = client::settings(environment, &["AWS_", "HOME"]);
    let settings = match profile::read(&environment) {
        Ok(from_files) => with_profile(environment, from_files),
        Err(cause) => return Err(StoreError::Profile { url: text.to_owned(), cause }),
    };
    // Without this check the library would look for a machine role at a link-local address, for minutes.
    if !CREDENTIALS.iter().any(|name| client::value(&settings, name).is_some()) {
        return Err(StoreError::no_credentials(text, S3_SETTINGS));
    }
    client::finish((text, url), builder(&settings).with_bucket_name(bucket).build())
}

const S3_SETTINGS: &str = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_REGION, AWS_ENDPOINT where needed) or \
                           AWS_PROFILE, run with a web identity or container role, let AWS_METADATA_ENDPOINT name the \
                           service that hands out the machine's role, or set AWS_SKIP_SIGNATURE=true for a public bucket";

/// What is set in the environment wins over the files.
fn with_profile(mut environment: Settings, from_files: Settings) -> Settings {
    let new = from_files.into_iter().filter(|(name, _)| client::value(&environment, name).is_none());
    let new: Vec<_> = new.collect();
    environment.extend(new);
    environment
}

fn builder(settings: &[(String, String)]) -> AmazonS3Builder {
    let is_plain = |key: &_, value: &str| *key == AmazonS3ConfigKey::Endpoint && value.starts_with("http://");
    let (known, plain_http) = client::known(settings, is_plain);
    let builder =
        known.into_iter().fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value));
    builder
        // A plain endpoint was asked for by name (a server in the cluster): no second switch for it.
        .with_client_options(client::options(plain_http))
        .with_retry(client::no_retries())
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

    #[test]
    fn a_profile_opens_a_bucket_and_a_missing_one_is_named_with_its_files() {
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join("credentials");
        std::fs::write(&file, "[lab]\naws_access_key_id = k\naws_secret_access_key = s\n").expect("writes");
        let file = file.to_str().expect("utf-8");
        let with = |name| opened("s3://clips", &[("AWS_SHARED_CREDENTIALS_FILE", file), ("AWS_PROFILE", name)]);
        with("lab").expect("opens");
        let text = with("lap").expect_err("no such profile").to_string();
        assert!(text.contains("s3://clips") && text.contains("\"lap\"") && text.contains(file), "{text}");
    }

    #[test]
    fn a_public_bucket_needs_no_key_but_says_so() {
        opened("s3://clips", &[("AWS_SKIP_SIGNATURE", "true")]).expect("opens");
        opened("s3://clips", &[("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x")])
            .expect("opens");
    }
}
