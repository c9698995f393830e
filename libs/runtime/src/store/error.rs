//! Why a store can't be used.

/// Why a store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The text is no URL of a store.
    #[error(
        "\"{url}\" is no store ({cause}): use a folder, file:///…, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, \
         az://CONTAINER/PREFIX or memory://"
    )]
    Malformed {
        /// As given.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A local store whose folder is not there.
    #[error("no store at {url}: the folder {folder} does not exist")]
    NoFolder {
        /// The store.
        url: String,
        /// What was looked for.
        folder: String,
    },
    /// A local store whose folder can't be made, read or written.
    #[error("can't {attempt} the folder {folder} for the store {url}")]
    Folder {
        /// `create`, `open` or the like.
        attempt: &'static str,
        /// The store.
        url: String,
        /// Which folder.
        folder: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A store behind a network and nothing to sign requests with.
    #[error("no credentials for {url}: set {settings}")]
    NoCredentials {
        /// The store.
        url: String,
        /// What was looked for.
        settings: &'static str,
    },
    /// The profile that `AWS_PROFILE` names is of no use.
    #[error("no credentials for {url}: {cause}")]
    Profile {
        /// The store.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The store's settings don't fit together.
    #[error("can't set up the store {url}")]
    Settings {
        /// The store.
        url: String,
        /// What object_store said.
        #[source]
        source: object_store::Error,
    },
    /// A request of the probe failed.
    #[error("can't {attempt} in the store {url}")]
    Probe {
        /// `write an object` or the like.
        attempt: &'static str,
        /// The store.
        url: String,
        /// What object_store said.
        #[source]
        source: object_store::Error,
    },
    /// The store writes over an object that a conditional create must leave alone.
    #[error(
        "the store {url} ignores conditional creates: two coordinators could both own a run there; use a folder, AWS S3 \
         or another server that honours If-None-Match"
    )]
    NoConditionalPut {
        /// The store.
        url: String,
    },
    /// The store lets several conditional creates of one object succeed.
    #[error(
        "the store {url} let {winners} of {asked} writers create the same object: two coordinators could both own a run \
         there; use a folder, AWS S3 or another server whose If-None-Match holds under load"
    )]
    RacyConditionalPut {
        /// The store.
        url: String,
        /// Writers that were told that the object is theirs.
        winners: usize,
        /// Writers that tried.
        asked: usize,
    },
}

impl StoreError {
    pub(super) fn no_credentials(url: &str, settings: &'static str) -> Self {
        Self::NoCredentials { url: url.to_owned(), settings }
    }
}
