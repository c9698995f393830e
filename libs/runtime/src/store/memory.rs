//! Stores in memory, for tests and simulations: everything in one process that opens the same name sees the same.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use object_store::memory::InMemory;
use object_store::path::Path;

use super::Store;
use super::guard::Policy;

static BY_NAME: LazyLock<Mutex<HashMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);

/// Opens `memory://NAME/PREFIX`. Without a name it is a new store that nobody else sees.
pub(super) fn open(url: &url::Url) -> Store {
    let name = url.host_str().unwrap_or_default();
    let store = if name.is_empty() { Arc::default() } else { named(name) };
    let root = Path::from(url.path());
    Store::guarded(store, root, url.as_str().trim_end_matches('/').to_owned(), Policy::NEAR)
}

fn named(name: &str) -> Arc<InMemory> {
    // A panic of another holder can't leave the map half-written.
    let mut stores = BY_NAME.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(stores.entry(name.to_owned()).or_default())
}
