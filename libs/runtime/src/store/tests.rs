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
        assert!(text.contains("use a folder, file:///…, s3://BUCKET/PREFIX or memory://"), "{text}");
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
