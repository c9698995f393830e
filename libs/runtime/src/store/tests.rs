use std::fmt;

use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutResult,
};

use super::*;

fn refusal(url: &str) -> String {
    crate::exit::one_line(&anyhow::Error::new(open(url).expect_err("must be refused")))
}

#[test]
fn a_folder_is_created_and_its_url_is_absolute() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("store");
    let store = open(folder.to_str().expect("utf-8")).expect("opens");
    assert!(folder.is_dir());
    assert_eq!(store.url, format!("file://{}", folder.display()));
    assert_eq!(open(&store.url).expect("its own URL opens").url, store.url);
}

#[test]
fn a_missing_parent_is_named_and_nothing_is_created() {
    let parent = tempfile::tempdir().expect("a folder");
    let missing = parent.path().join("typo");
    let text = refusal(missing.join("store").to_str().expect("utf-8"));
    assert!(text.contains(&format!("the folder {} does not exist", missing.display())), "{text}");
    assert!(!missing.exists());
}

#[test]
fn a_reader_creates_nothing() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("store");
    let text = open_existing(folder.to_str().expect("utf-8")).expect_err("not there").to_string();
    assert!(text.starts_with("no store at ") && text.contains("does not exist"), "{text}");
    assert!(!folder.exists());
}

#[test]
fn a_file_in_the_way_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = refusal(file.path().to_str().expect("utf-8"));
    assert!(text.contains("can't open the folder") && text.contains("not a directory"), "{text}");
}

#[test]
fn an_unknown_scheme_is_told_with_what_to_use() {
    for url in ["", "ftp://x/y", "file://relative/x"] {
        let text = refusal(url);
        assert!(text.contains("use a folder, file:///…, s3://BUCKET/PREFIX"), "{text}");
    }
}

#[tokio::test]
async fn a_memory_store_is_shared_by_name() {
    let (one, same) =
        (open("memory://shared-by-name").expect("opens"), open("memory://shared-by-name").expect("opens"));
    one.store.put(&one.path("a"), PutPayload::from_static(b"x")).await.expect("puts");
    assert!(same.store.get(&same.path("a")).await.is_ok());
    let nameless = open("memory://").expect("opens");
    assert!(nameless.store.get(&nameless.path("a")).await.is_err());
}

#[tokio::test]
async fn the_probe_passes_on_good_stores_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for url in ["memory://probed", folder.path().to_str().expect("utf-8")] {
        let store = open(url).expect("opens");
        store.probe().await.expect("is usable");
        let left: Vec<_> = futures::StreamExt::collect::<Vec<_>>(store.store.list(None)).await;
        assert!(left.is_empty(), "{left:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0);
}

#[test]
fn paths_are_below_the_root() {
    let store = open("memory://paths/a/b").expect("opens");
    assert_eq!(store.path("runs/x/manifest.json").as_ref(), "a/b/runs/x/manifest.json");
    assert_eq!(open("memory://").expect("opens").path("runs").as_ref(), "runs");
}

#[tokio::test]
async fn files_of_others_are_found_by_the_names_that_they_have() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path().to_str().expect("utf-8")).expect("opens");
    for name in ["jump/\u{fc} 100%.mp4", "a#b?[c]~d*.tar"] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("has one")).expect("create");
        std::fs::write(&path, name).expect("write");
        let read = store.store.get(&store.path(name)).await.expect("is there").bytes().await.expect("reads");
        assert_eq!(read, name.as_bytes());
    }
    assert_eq!(store.path("../x").as_ref(), "%2E%2E/x");
}

/// A store whose conditional creates are none, or look first and write then.
#[derive(Debug)]
struct Careless {
    inner: InMemory,
    looks: bool,
}

impl fmt::Display for Careless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("careless")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Careless {
    async fn put_opts(&self, location: &Path, payload: PutPayload, _: PutOptions) -> Result<PutResult, Error> {
        let is_there = self.inner.head(location).await.is_ok();
        tokio::task::yield_now().await;
        if self.looks && is_there {
            return Err(Error::AlreadyExists { path: location.to_string(), source: "it is there".into() });
        }
        self.inner.put(location, payload).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        with: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>, Error> {
        self.inner.put_multipart_opts(to, with).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult, Error> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path, Error>>) -> BoxStream<'static, Result<Path, Error>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta, Error>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult, Error> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<(), Error> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn the_probe_tells_stores_without_conditional_creates_from_ones_that_lose_races() {
    for (looks, expected) in
        [(false, "ignores conditional creates"), (true, "let 4 of 4 writers create the same object")]
    {
        let careless = Arc::new(Careless { inner: InMemory::new(), looks });
        let store = Store::guarded(careless, Path::default(), "s3://careless".to_owned(), Policy::NEAR);
        let text = store.probe().await.expect_err("it is careless").to_string();
        assert!(text.contains("s3://careless") && text.contains(expected), "{text}");
    }
}
