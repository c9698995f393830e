//! A folder as a store.

use std::io::ErrorKind;
use std::path::{self, Path};
use std::sync::Arc;

use object_store::local::LocalFileSystem;

use super::guard::Policy;
use super::{Store, StoreError};

/// Opens `folder`. Only its last part is created: a longer missing path is more likely a typing error.
pub(super) fn open(url: &str, folder: &Path, create: bool) -> Result<Store, StoreError> {
    let shown = folder.display().to_string();
    let failed = |attempt| {
        let (url, folder) = (url.to_owned(), shown.clone());
        move |source| StoreError::Folder { attempt, url, folder, source }
    };
    if create {
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(no_parent(url, folder)),
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed("create")(error)),
            _ => {}
        }
    }
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(failed("open")(ErrorKind::NotADirectory.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(StoreError::NoFolder { url: url.to_owned(), folder: shown });
        }
        Err(error) => return Err(failed("open")(error)),
    }
    let absolute = path::absolute(folder).map_err(failed("find"))?;
    // Durable writes: a committed checkpoint must survive a power cut.
    let store = LocalFileSystem::new_with_prefix(&absolute)
        .map_err(|source| StoreError::Settings { url: url.to_owned(), source })?
        .with_fsync(true)
        // Folders are no objects: what is deleted leaves none behind.
        .with_automatic_cleanup(true);
    let url = url::Url::from_directory_path(&absolute)
        .map(|url| url.as_str().trim_end_matches('/').to_owned())
        .expect("an absolute path is a file URL");
    Ok(Store::guarded(Arc::new(store), object_store::path::Path::default(), url, Policy::NEAR))
}

fn no_parent(url: &str, folder: &Path) -> StoreError {
    let parent = folder.parent().unwrap_or(folder).display().to_string();
    StoreError::NoFolder { url: url.to_owned(), folder: parent }
}
