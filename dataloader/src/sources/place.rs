//! Where lists and videos lie: files of this machine, or objects of a store.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{self, PathBuf};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt};
use runtime::exit::one_line;
use runtime::store::guard::is_beyond;
use runtime::store::{self, Store};

use super::ListError;

/// Up to here files of a list are asked for one by one; above it is cheaper to list the whole store.
const ASKED_SINGLY: usize = 1000;
/// Small requests at a time.
pub const REQUESTS: usize = 64;

/// What names are relative to.
#[derive(Debug, Clone)]
pub enum Root {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A store and a place in it.
    Store(Store),
}

/// One file or object.
#[derive(Debug, Clone)]
pub enum Place {
    /// A file of this machine.
    File(PathBuf),
    /// An object.
    Object(Store, Path),
}

/// Something that is there.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its name below the root, with `/` between the parts.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// How long it is.
    pub length_bytes: u64,
}

/// Why bytes can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Something is wrong with this one; others may be good.
    File(String),
    /// It would be any other as well: the store is away, the disk is full.
    Any(String),
}

/// What a path or URL names.
#[derive(Debug)]
pub enum Opened {
    /// A folder, or a prefix of a store.
    Folder(Root),
    /// A file, and the folder that it is in.
    File(Root, String),
}

/// Looks up a path or URL.
pub async fn open(from: &str) -> Result<Opened, ListError> {
    if let Some(path) = local(from) {
        let failed = |source| ListError::Read { path: from.to_owned(), why: sentence(&source) };
        let is_folder = std::fs::metadata(&path).map_err(failed)?.is_dir();
        let Some(name) = path.file_name().filter(|_| !is_folder) else { return Ok(Opened::Folder(Root::Folder(path))) };
        let name = name.to_string_lossy().into_owned();
        return Ok(Opened::File(Root::Folder(path.parent().map(PathBuf::from).unwrap_or_default()), name));
    }
    let failed = |why: String| ListError::Read { path: from.to_owned(), why };
    let store = store::open_existing(from).map_err(|error| failed(error.to_string()))?;
    let (Some(above), Some(name)) = (store.root.parent(), store.root.filename().map(str::to_owned)) else {
        return Ok(Opened::Folder(Root::Store(store)));
    };
    match store.store.head(&store.root).await {
        Ok(_) => {
            let url = store.url.rsplit_once('/').map_or(store.url.as_str(), |(above, _)| above).to_owned();
            Ok(Opened::File(Root::Store(Store { root: above, url, ..store }), name))
        }
        Err(object_store::Error::NotFound { .. }) => Ok(Opened::Folder(Root::Store(store))),
        Err(error) => Err(unread(from, &error)),
    }
}

/// A place that can't be read, or a store that does not answer.
fn unread(place: &str, error: &object_store::Error) -> ListError {
    let (path, why) = (place.to_owned(), error.to_string());
    if is_of_one(error) { ListError::Read { path, why } } else { ListError::Away { path, why } }
}

/// The folder or prefix that `--root` names.
pub fn open_root(url: &str) -> Result<Root, ListError> {
    let failed = |why: String| ListError::Read { path: url.to_owned(), why };
    match local(url) {
        Some(path) => Ok(Root::Folder(path)),
        None => store::open_existing(url).map(Root::Store).map_err(|error| failed(error.to_string())),
    }
}

/// The path behind a bare path or a `file://` URL.
fn local(from: &str) -> Option<PathBuf> {
    if !from.contains("://") {
        return Some(PathBuf::from(from));
    }
    url::Url::parse(from).ok().filter(|url| url.scheme() == "file")?.to_file_path().ok()
}

/// What the system said, without its number.
fn sentence(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

impl Root {
    /// How it is written in messages.
    pub fn show(&self) -> String {
        match self {
            Self::Folder(path) if path.as_os_str().is_empty() => ".".to_owned(),
            Self::Folder(path) => path.display().to_string(),
            Self::Store(store) => store.url.clone(),
        }
    }

    /// The full name of what lies below.
    pub fn show_below(&self, name: &str) -> String {
        match self {
            Self::Folder(path) => path.join(name).display().to_string(),
            Self::Store(store) => format!("{}/{name}", store.url),
        }
    }

    /// The content of a text file, without its byte order mark.
    pub async fn text(&self, name: &str) -> Result<String, ListError> {
        let failed = |why| ListError::Read { path: self.show_below(name), why };
        let bytes = self.place(name).map_err(failed)?.read(None).await.map_err(|trouble| match trouble {
            Trouble::File(why) => failed(why),
            Trouble::Any(why) => ListError::Away { path: self.show_below(name), why },
        })?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let text = std::str::from_utf8(bytes);
        text.map(str::to_owned).map_err(|_| failed("it is no text in UTF-8: save it as such".to_owned()))
    }

    /// Where `name` is, or why it can't be anywhere.
    fn place(&self, name: &str) -> Result<Place, String> {
        let store = match self {
            Self::Folder(folder) => return Ok(Place::File(folder.join(name))),
            Self::Store(store) => store,
        };
        let below = name.strip_prefix(&format!("{}/", store.url)).unwrap_or(name).trim_start_matches("./");
        let below = Path::parse(below).map_err(|_| format!("{name:?} can't be the name of an object"))?;
        Ok(Place::Object(store.clone(), store.root.parts().chain(below.parts()).collect()))
    }

    /// Every file below, in order of its path, without hidden ones.
    pub async fn files(&self) -> Result<Vec<Found>, ListError> {
        let mut found = match self {
            Self::Folder(folder) => {
                let mut found = Vec::new();
                // Beside a list in the working directory.
                let folder = if folder.as_os_str().is_empty() { path::Path::new(".") } else { folder };
                walk(folder, "", &mut found)?;
                found
            }
            Self::Store(store) => listed(store, "").await?,
        };
        found.sort_by(|a, b| a.name.split('/').cmp(b.name.split('/')));
        Ok(found)
    }

    /// Looks for each of these files, and says what is wrong with those that can't be found.
    pub async fn look(&self, names: Vec<String>) -> Result<Vec<Result<Found, String>>, ListError> {
        let store = match self {
            Self::Folder(folder) => {
                let look = |name: String| look_local(folder.join(&name), name);
                return Ok(names.into_iter().map(look).collect());
            }
            Self::Store(store) => store,
        };
        let known: Option<HashMap<String, u64>> = if names.len() > ASKED_SINGLY {
            let all = listed(store, "").await?;
            Some(all.into_iter().map(|found| (found.name, found.length_bytes)).collect())
        } else {
            None
        };
        let look = |name: String| self.look_in_store(name, known.as_ref());
        futures::stream::iter(names).map(look).buffered(REQUESTS).try_collect().await
    }

    async fn look_in_store(
        &self,
        name: String,
        known: Option<&HashMap<String, u64>>,
    ) -> Result<Result<Found, String>, ListError> {
        let shown = self.show_below(&name);
        let place = match self.place(&name) {
            Ok(place) => place,
            Err(why) => return Ok(Err(why)),
        };
        let Place::Object(store, path) = &place else { return Ok(Err(format!("{shown} is no object"))) };
        let length_bytes = match known {
            Some(known) => known.get(&relative(store, path)).copied(),
            None => match store.store.head(path).await {
                Ok(object) => Some(object.size),
                Err(object_store::Error::NotFound { .. }) => None,
                Err(error) if is_of_one(&error) => return Ok(Err(format!("can't read {shown}: {error}"))),
                Err(error) => return Err(unread(&shown, &error)),
            },
        };
        let found = length_bytes.map(|length_bytes| Found { name, place, length_bytes });
        Ok(found.ok_or_else(|| format!("there is no object {shown}")))
    }
}

impl Place {
    /// Its name below a root, if it is there.
    pub fn name_below(&self, root: &Root) -> Option<String> {
        match (self, root) {
            (Self::File(path), Root::Folder(folder)) => {
                let (path, folder) = (path::absolute(path).ok()?, path::absolute(folder).ok()?);
                let below = path.strip_prefix(folder).ok()?.to_str()?;
                Some(below.to_owned())
            }
            (Self::Object(_, path), Root::Store(store)) => {
                path.prefix_matches(&store.root).then(|| relative(store, path))
            }
            _ => None,
        }
    }

    /// Its bytes, or a part of them.
    pub async fn read(&self, range: Option<Range<u64>>) -> Result<Bytes, Trouble> {
        match self {
            Self::Object(store, path) => {
                let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
                let read = async { store.store.get_opts(path, options).await?.bytes().await };
                read.await.map_err(|error| match is_of_one(&error) {
                    true => Trouble::File(error.to_string()),
                    false => {
                        let what = format!("the store {} does not answer", store.url);
                        Trouble::Any(one_line(&anyhow::Error::new(error).context(what)))
                    }
                })
            }
            Self::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_local(&path, range)).await;
                let read = read.map_err(|fault| Trouble::Any(fault.to_string()))?;
                read.map_err(|error| Trouble::File(sentence(&error)))
            }
        }
    }
}

/// Whether an error is of one object, so that another might be read all the same.
pub fn is_of_one(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } | E::PermissionDenied { .. } | E::InvalidPath { .. } => true,
        other => is_beyond(other),
    }
}

fn read_local(path: &path::Path, range: Option<Range<u64>>) -> std::io::Result<Bytes> {
    let Some(range) = range else { return std::fs::read(path).map(Bytes::from) };
    let mut bytes = vec![0; (range.end - range.start) as usize];
    std::fs::File::open(path)?.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}

fn look_local(path: PathBuf, name: String) -> Result<Found, String> {
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() => Ok(Found { name, length_bytes: found.len(), place: Place::File(path) }),
        Ok(found) if found.is_dir() => Err(format!("{} is a folder, not a video file", path.display())),
        Ok(_) => Err(format!("{} is no file", path.display())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(format!("there is no file {}", path.display()))
        }
        Err(error) => Err(format!("can't read {}: {}", path.display(), sentence(&error))),
    }
}

fn walk(folder: &path::Path, name: &str, found: &mut Vec<Found>) -> Result<(), ListError> {
    for path in sorted(folder)? {
        let last = path.file_name().unwrap_or_default().to_string_lossy();
        let name = if name.is_empty() { last.into_owned() } else { format!("{name}/{last}") };
        match std::fs::metadata(&path) {
            Ok(what) if what.is_dir() => walk(&path, &name, found)?,
            Ok(what) => found.push(Found { name, length_bytes: what.len(), place: Place::File(path) }),
            // A dangling link: it is a file that can't be read, and will be named as that.
            Err(_) => found.push(Found { name, length_bytes: 0, place: Place::File(path) }),
        }
    }
    Ok(())
}

/// A folder's entries by name, without hidden ones.
pub fn sorted(folder: &path::Path) -> Result<Vec<PathBuf>, ListError> {
    let failed = |error: std::io::Error| ListError::Read { path: folder.display().to_string(), why: sentence(&error) };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Every object below a prefix.
async fn listed(store: &Store, below: &str) -> Result<Vec<Found>, ListError> {
    let prefix = store.path(below);
    let mut objects = store.store.list(Some(&prefix));
    let mut found = Vec::new();
    while let Some(object) = objects.try_next().await.map_err(|error| unread(&store.url, &error))? {
        let name = relative(store, &object.location);
        if !name.split('/').any(|part| part.starts_with('.')) {
            let place = Place::Object(store.clone(), object.location);
            found.push(Found { name, length_bytes: object.size, place });
        }
    }
    Ok(found)
}

fn relative(store: &Store, path: &Path) -> String {
    let parts: Vec<_> = path.parts().skip(store.root.parts_count()).collect();
    parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("/")
}
