//! What every kind of store must do, over each that is at hand: memory, a folder, S3 in this process, and the server that
//! `VARED_TEST_S3` names (`cargo xtask stores` starts one).

use bytes::Bytes;
use faults::S3;
use futures::TryStreamExt;
use futures::future::join_all;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use runtime::store::{self, Store};

/// Runs `test` on each store, told how many races it stands.
async fn everywhere<F: AsyncFn(Store, usize)>(test: F) {
    test(store::open("memory://").expect("opens"), 200).await;
    let folder = tempfile::tempdir().expect("a folder");
    test(store::open(folder.path().to_str().expect("utf-8")).expect("opens"), 200).await;
    let server = S3::start().await.expect("starts");
    test(store::open_with("s3://bucket/some/where", &S3::settings(server.address())).expect("opens"), 200).await;
    if let Ok(address) = std::env::var("VARED_TEST_S3") {
        let settings = S3::settings(address.parse().expect("VARED_TEST_S3 is HOST:PORT"));
        let url = format!("s3://bucket/{}", uuid::Uuid::new_v4());
        // SeaweedFS takes up to seconds for a contended create.
        test(store::open_with(&url, &settings).expect("opens"), 3).await;
    }
}

#[tokio::test]
async fn objects_come_back_in_whole_in_parts_and_by_name() {
    everywhere(async |store, _| {
        let content: Bytes = (0..300_000u32).map(|at| at as u8).collect();
        for name in ["a/1", "a/2 \u{fc}+%.tar", "b"] {
            store.store.put(&store.path(name), content.clone().into()).await.expect("puts");
        }
        let path = store.path("a/2 \u{fc}+%.tar");
        assert_eq!(store.store.get(&path).await.expect("is there").bytes().await.expect("reads"), content);
        let ranges = [5..10, 100..200_000, 250_000..250_001];
        let read = store.store.get_ranges(&path, &ranges).await.expect("reads");
        for (range, read) in ranges.into_iter().zip(read) {
            assert_eq!(read, content.slice(range.start as usize..range.end as usize));
        }
        assert_eq!(store.store.head(&path).await.expect("is there").size, 300_000);
        let listed: Vec<_> = store.store.list(Some(&store.path("a"))).try_collect().await.expect("lists");
        assert_eq!(listed.len(), 2);
        let paths = listed.into_iter().map(|object| object.location);
        for path in paths {
            store.store.delete(&path).await.expect("deletes");
            assert!(matches!(store.store.get(&path).await.expect_err("gone"), Error::NotFound { .. }));
        }
        store.store.put(&store.path("empty"), PutPayload::new()).await.expect("puts");
        let empty = store.store.get(&store.path("empty")).await.expect("is there").bytes().await.expect("reads");
        assert!(empty.is_empty());
        let figures = store.figures();
        assert!(figures.read_bytes > 300_000 && figures.written_bytes == 900_000, "{figures}");
    })
    .await;
}

#[tokio::test]
async fn of_sixteen_that_create_one_object_one_wins() {
    everywhere(async |store, rounds| {
        for round in 0..rounds {
            let path = store.path(&format!("race/{round}"));
            let created = join_all((0..16u8).map(|who| {
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                store.store.put_opts(&path, PutPayload::from(vec![who]), options)
            }))
            .await;
            let winners: Vec<_> = (0..16u8).zip(&created).filter(|(_, created)| created.is_ok()).collect();
            assert_eq!(winners.len(), 1, "round {round} in {}", store.url);
            let stored = store.store.get(&path).await.expect("is there").bytes().await.expect("reads");
            assert_eq!(stored.as_ref(), [winners[0].0], "round {round} in {}", store.url);
        }
    })
    .await;
}

#[tokio::test]
async fn the_probe_passes() {
    everywhere(async |store, _| {
        store.probe().await.unwrap_or_else(|error| panic!("{}: {error}", store.url));
        let left: Vec<_> = store.store.list(Some(&store.path("probe"))).try_collect().await.expect("lists");
        assert!(left.is_empty(), "{left:?}");
    })
    .await;
}

#[tokio::test]
async fn a_wrong_key_is_refused_with_the_servers_words_and_not_repeated() {
    let server = S3::start().await.expect("starts");
    let mut settings = S3::settings(server.address());
    settings.retain(|(name, _)| name != "AWS_SECRET_ACCESS_KEY");
    settings.push(("AWS_SECRET_ACCESS_KEY".to_owned(), "another".to_owned()));
    let store = store::open_with("s3://bucket", &settings).expect("opens");
    let text = runtime::exit::one_line(&anyhow::Error::new(store.probe().await.expect_err("a wrong key")));
    assert!(
        text.contains("can't write an object in the store s3://bucket") && text.contains("SignatureDoesNotMatch"),
        "{text}"
    );
    assert_eq!(store.figures().retries, 0);
}
