//! A container of Azure Blob Storage.

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::client;
use super::{Store, StoreError};

/// Where credentials can come from; one of them must be set.
const CREDENTIALS: [&str; 13] = [
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_IDENTITY_ENDPOINT",
    "AZURE_MSI_ENDPOINT",
    "AZURE_USE_AZURE_CLI",
    "AZURE_SKIP_SIGNATURE",
    "AZURE_STORAGE_USE_EMULATOR",
];

const SETTINGS: &str = "AZURE_STORAGE_ACCOUNT_NAME and one of AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN, \
                        AZURE_CLIENT_SECRET (with AZURE_CLIENT_ID and AZURE_TENANT_ID), AZURE_FEDERATED_TOKEN_FILE (a \
                        workload's identity), AZURE_MSI_ENDPOINT (a machine's identity) or AZURE_USE_AZURE_CLI=true, or \
                        AZURE_SKIP_SIGNATURE=true for a public container";

/// Opens `az://CONTAINER/PREFIX` or `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PREFIX` with the settings in
/// `environment`.
pub(super) fn open(
    text: &str,
    url: &url::Url,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Store, StoreError> {
    let malformed = |cause: &str| StoreError::Malformed { url: text.to_owned(), cause: cause.to_owned() };
    if url.host_str().is_none_or(str::is_empty) {
        return Err(malformed("it names no container"));
    }
    let settings = client::settings(environment, &["AZURE_"]);
    // Without this check the library would look for a machine's identity, for minutes.
    if !CREDENTIALS.iter().any(|name| client::value(&settings, name).is_some()) {
        return Err(StoreError::no_credentials(text, SETTINGS));
    }
    let is_plain = |key: &_, value: &str| {
        *key == AzureConfigKey::UseEmulator || (*key == AzureConfigKey::Endpoint && value.starts_with("http://"))
    };
    let (known, plain_http) = client::known(&settings, is_plain);
    let builder = MicrosoftAzureBuilder::new()
        .with_url(text)
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
    fn a_container_without_credentials_is_refused_with_what_was_looked_for() {
        let account = [("AZURE_STORAGE_ACCOUNT_NAME", "me")];
        let text = opened("az://clips/k", &account).expect_err("no credentials").to_string();
        assert!(text.contains("az://clips/k") && text.contains("AZURE_STORAGE_ACCOUNT_KEY"), "{text}");
    }

    #[test]
    fn all_ways_to_write_a_container_open_it() {
        let settings = [("AZURE_STORAGE_ACCOUNT_NAME", "me"), ("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")];
        for url in ["az://clips/a", "azure://clips/a", "abfs://clips/a", "abfss://clips@me.dfs.core.windows.net/a"] {
            let store = opened(url, &settings).unwrap_or_else(|error| panic!("{url}: {error:?}"));
            assert_eq!((store.path("x").as_ref(), store.url.as_str()), ("a/x", url));
            assert!(
                store.store.to_string().contains("me") && store.store.to_string().contains("clips"),
                "{}",
                store.store
            );
        }
    }
}
