use clips::ShardWriter;
use object_store::{ObjectStoreExt, PutPayload};

use super::*;

fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    for file in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().expect("has a folder")).expect("create");
        std::fs::write(path, b"x").expect("write");
    }
    folder
}

fn name(text: &str) -> Label {
    Label::Name(text.to_owned())
}

fn pairs(listing: &Listing) -> Vec<(&str, Label)> {
    listing.entries.iter().map(|entry| (entry.name.as_str(), entry.label.clone())).collect()
}

async fn read_in(folder: &tempfile::TempDir, file: &str, ask: &Ask) -> Result<Listing, ListError> {
    read(folder.path().join(file).to_str().expect("utf-8"), ask).await
}

/// Reads a list of this content beside the files.
async fn list(folder: &tempfile::TempDir, text: &str) -> Result<Listing, ListError> {
    std::fs::write(folder.path().join("list.csv"), text).expect("write");
    settled(read_in(folder, "list.csv", &Ask::default()).await?)
}

/// A listing without faults.
fn settled(listing: Listing) -> Result<Listing, ListError> {
    classes(&[&listing], None)?;
    Ok(listing)
}

async fn refusal(folder: &tempfile::TempDir, text: &str) -> String {
    list(folder, text).await.expect_err("must be refused").to_string()
}

/// The line and the text of every fault.
async fn faults(folder: &tempfile::TempDir, text: &str) -> Vec<String> {
    let Err(ListError::Faults(faults)) = list(folder, text).await else { panic!("the lines are at fault") };
    let last = |fault: &Fault| fault.listed.rsplit('/').next().unwrap_or_default().to_owned();
    faults.iter().map(|fault| format!("{}: {}", last(fault), fault.what)).collect()
}

async fn put(url: &str, objects: &[(&str, &[u8])]) {
    let store = runtime::store::open(url).expect("opens");
    for (name, bytes) in objects {
        let payload = PutPayload::from(bytes.to_vec());
        store
            .store
            .put(&object_store::path::Path::parse(format!("{}/{name}", store.root)).expect("a name"), payload)
            .await
            .expect("memory");
    }
}

#[tokio::test]
async fn a_folder_per_class_is_listed_in_order() {
    let files = ["run/b.mp4", "run/a.MP4", "run/more/ü c.webm", "jump/x.avi", "jump/notes.txt", "run/.hidden.mp4"];
    let folder = folder(&files);
    let expected = [
        ("jump/x.avi", name("jump")),
        ("run/a.MP4", name("run")),
        ("run/b.mp4", name("run")),
        ("run/more/ü c.webm", name("run")),
    ];
    let listing = read_in(&folder, "", &Ask::default()).await.expect("lists");
    assert_eq!(pairs(&listing), expected);
    assert_eq!(listing.other_files, 1);
    assert_eq!(classes(&[&listing], None).expect("fit"), ["jump", "run"]);
    // The same in a store.
    let objects: Vec<(&str, &[u8])> = files.iter().map(|file| (*file, &b"x"[..])).collect();
    put("memory://sources-folder/videos", &objects).await;
    let listing = read("memory://sources-folder/videos", &Ask::default()).await.expect("lists");
    assert_eq!(pairs(&listing), expected);
    assert!(listing.entries.iter().all(|entry| entry.length_bytes == 1));
}

#[tokio::test]
async fn folders_without_classes_or_videos_are_refused() {
    let refused = |folder: tempfile::TempDir| async move {
        read_in(&folder, "", &Ask::default()).await.expect_err("must be refused").to_string()
    };
    assert!(refused(folder(&["a.mp4"])).await.contains("has no sub-folders"));
    assert!(refused(folder(&["run/readme.txt"])).await.ends_with("nothing to pack"));
    let missing = read("/no/such/folder", &Ask::default()).await.expect_err("missing").to_string();
    assert_eq!(missing, "can't read /no/such/folder: No such file or directory");
}

#[tokio::test]
async fn paths_may_hold_spaces_and_labels_too() {
    let folder = folder(&["a b.mp4", "c.mp4", "d,e.mp4", "日本 é.mp4"]);
    let pairs_of = async |text: &str| {
        let listing = list(&folder, text).await.expect("lists");
        listing.entries.into_iter().map(|entry| (entry.name, entry.label)).collect::<Vec<_>>()
    };
    let pair = |path: &str, label: Label| (path.to_owned(), label);
    assert_eq!(
        pairs_of("a b.mp4 3\nc.mp4 0\n").await,
        [pair("a b.mp4", Label::Number(3)), pair("c.mp4", Label::Number(0))]
    );
    assert_eq!(
        pairs_of("\u{feff}path,label\r\n# comment\r\n\r\na b.mp4,riding a bike\r\n\"d,e.mp4\",jump\r\n").await,
        [pair("a b.mp4", name("riding a bike")), pair("d,e.mp4", name("jump"))]
    );
    assert_eq!(pairs_of("d,e.mp4\tbig jump\n").await, [pair("d,e.mp4", name("big jump"))]);
    assert_eq!(
        pairs_of("c.mp4 \"riding a bike\"\n\"a b.mp4\" jump\n日本 é.mp4 run").await,
        [pair("c.mp4", name("riding a bike")), pair("a b.mp4", name("jump")), pair("日本 é.mp4", name("run"))]
    );
}

#[tokio::test]
async fn mmaction_lists_may_count_frames_but_not_labels() {
    let folder = folder(&["a b.mp4", "c.mp4"]);
    let counted = list(&folder, "a b.mp4 300 3\nc.mp4 250 0\n").await.expect("lists");
    assert_eq!(pairs(&counted), [("a b.mp4", Label::Number(3)), ("c.mp4", Label::Number(0))]);
    let quoted = list(&folder, "path total_frames label\n\"a b.mp4\" 300 3\n").await.expect("lists");
    assert_eq!(pairs(&quoted), [("a b.mp4", Label::Number(3))]);
    let wrong = faults(&folder, "a b.mp4 3\nc.mp4 0 4 7\n").await;
    assert_eq!(wrong.len(), 1);
    assert!(
        wrong[0].starts_with("list.csv, line 2: 3 numbers stand behind the path: lists with several labels"),
        "{wrong:?}"
    );
}

#[tokio::test]
async fn every_fault_of_a_list_is_told_with_its_line() {
    let folder = folder(&["a.mp4"]);
    let wrong = faults(&folder, "a.mp4 0\n\nno.mp4 1\na.mp4 -1\nneither.mp4 1\na.mp4 4000000000\nlost\n").await;
    let at = |line: usize, what: &str| format!("list.csv, line {line}: {what}");
    let file = |name: &str| format!("there is no file {}", folder.path().join(name).display());
    let expected = [
        at(3, &file("no.mp4")),
        at(4, "label -1 is not 0, 1, 2, …"),
        at(5, &file("neither.mp4")),
        at(6, "label 4000000000 is above 99999"),
        at(7, "there is no label behind the path"),
    ];
    assert_eq!(wrong, expected);
    let text = refusal(&folder, "a.mp4 0\n\nno.mp4 1\nneither.mp4 1\n").await;
    assert!(text.ends_with("(and 1 more such lines); --keep-going passes them over"), "{text}");
    let ask = Ask { keep_going: true, ..Ask::default() };
    let listing = read_in(&folder, "list.csv", &ask).await.expect("keeps going");
    assert_eq!((listing.entries.len(), listing.passed_over.len()), (1, 2));
    assert!(refusal(&folder, "\n# nothing\n").await.ends_with("nothing to pack"));
    assert!(refusal(&folder, "a.mp4 0\na.mp4 1\n").await.contains("line 2: "));
    assert!(refusal(&folder, "a.mp4 0\na.mp4 1\n").await.contains("in line 1 already"));
}

const OFFICIAL: &str = "label,youtube_id,time_start,time_end,split\r\n\
                        riding a bike,aaaaaaaaaaa,7,17,train\r\n\
                        \"massaging, slowly\",-bbbbbbbbbb,0.0,10.0,train\r\n\
                        # a comment\r\n\r\n\
                        riding a bike,ccccccccccc,1,11,train\r\n";

#[tokio::test]
async fn the_official_csv_finds_its_files_by_name_wherever_they_are() {
    let folder = folder(&[
        "videos/riding_a_bike/aaaaaaaaaaa_000007_000017.mp4",
        "videos/elsewhere/aaaaaaaaaaa_000007_000017.mp4",
        "videos/-bbbbbbbbbb.mkv",
    ]);
    let root = Some(folder.path().join("videos").to_str().expect("utf-8").to_owned());
    std::fs::write(folder.path().join("list.csv"), OFFICIAL).expect("write");
    let ask = Ask { root: root.clone(), ..Ask::default() };
    let listing = read_in(&folder, "list.csv", &ask).await.expect("reads");
    let text = settled(listing).expect_err("one is missing").to_string();
    assert!(
        text.contains("list.csv, line 6: there is no file ccccccccccc_000001_000011.mp4 (nor ccccccccccc.mp4)"),
        "{text}"
    );
    let listing = read_in(&folder, "list.csv", &Ask { keep_going: true, ..ask.clone() }).await.expect("lists");
    assert_eq!(
        pairs(&listing),
        [
            ("riding_a_bike/aaaaaaaaaaa_000007_000017.mp4", name("riding a bike")),
            ("-bbbbbbbbbb.mkv", name("massaging, slowly"))
        ]
    );
    let keys: Vec<_> = listing.entries.iter().filter_map(|entry| entry.key.as_deref()).collect();
    assert_eq!(keys, ["riding a bike/aaaaaaaaaaa_000007_000017", "massaging, slowly/-bbbbbbbbbb_000000_000010"]);
}

#[tokio::test]
async fn one_split_of_a_csv_is_taken() {
    let folder = folder(&["ccccccccccc.mp4", "ddddddddddd.mp4"]);
    let text =
        "label,youtube_id,time_start,time_end,split\nrun,ccccccccccc,0,10,train\nrun,ddddddddddd,0,10,validate\n";
    assert!(refusal(&folder, text).await.ends_with("choose one by --split (train, validate)"));
    let ask = Ask { split: Some("val".to_owned()), ..Ask::default() };
    let listing = read_in(&folder, "list.csv", &ask).await.expect("lists");
    assert_eq!(pairs(&listing), [("ddddddddddd.mp4", name("run"))]);
    let unlabelled = refusal(&folder, "youtube_id,time_start,time_end,split\nccccccccccc,0,10,test\n").await;
    assert!(unlabelled.contains("no column \"label\""), "{unlabelled}");
}

/// A shard as others write them: labels of every kind.
fn foreign() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, data).expect("memory");
    };
    add("./0001.json", br#"{"caption": "x", "label": 4}"#);
    add("./0001.mp4", b"one");
    add("0002.video.mp4", &[2; 40_000]);
    add("0002.txt", b"riding\n");
    add("0003.png", b"no video");
    tar.into_inner().expect("memory")
}

#[tokio::test]
async fn shards_are_listed_without_their_videos() {
    let mut own = ShardWriter::default();
    own.append("run/a", "webm", b"video", 7).expect("memory");
    put("memory://sources-tar/set", &[("a.tar", &foreign()), ("b.tar", &own.finish().expect("memory"))]).await;
    let listing = read("memory://sources-tar/set", &Ask::default()).await.expect("lists");
    assert_eq!(
        pairs(&listing),
        [
            ("a.tar/0001.mp4", Label::Number(4)),
            ("a.tar/0002.mp4", name("riding")),
            ("b.tar/run/a.webm", Label::Number(7))
        ]
    );
    let keys: Vec<_> = listing.entries.iter().filter_map(|entry| entry.key.as_deref()).collect();
    assert_eq!((keys, listing.other_files), (vec!["0001", "0002", "run/a"], 1));
    let second = &listing.entries[1];
    assert_eq!(second.place.read(second.range.clone()).await.expect("memory"), vec![2; 40_000]);
    let single = read("memory://sources-tar/set/b.tar", &Ask::default()).await.expect("lists");
    assert_eq!(single.entries.len(), 1);
}

#[tokio::test]
async fn what_is_wrong_with_shards_is_told_at_once() {
    let mut twice = ShardWriter::default();
    twice.append("a", "mp4", b"video", 0).expect("memory");
    let twice = twice.finish().expect("memory");
    let mut unlabelled = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    unlabelled.append_data(&mut header, "lonely.mp4", &b"x"[..]).expect("memory");
    let unlabelled = unlabelled.into_inner().expect("memory");
    put("memory://sources-bad", &[("1.tar", &twice), ("2.tar", &twice), ("3.tar", &unlabelled)]).await;
    let faults = read("memory://sources-bad", &Ask::default()).await.expect("reads").faults;
    assert_eq!(faults.len(), 2);
    assert_eq!(faults[0].what, "key \"a\" is in 1.tar already");
    assert_eq!(faults[1].listed, "3.tar, key \"lonely\"");
}

#[tokio::test]
async fn a_list_in_a_store_finds_its_files_there() {
    put("memory://sources-list/k", &[("a b.mp4", b"12"), ("list.txt", b"a b.mp4 0\nno.mp4 1\n")]).await;
    let listing = read("memory://sources-list/k/list.txt", &Ask::default()).await.expect("reads");
    let text = settled(listing).expect_err("missing").to_string();
    assert!(text.contains("list.txt, line 2: there is no object memory://sources-list/k/no.mp4"), "{text}");
    let ask = Ask { keep_going: true, ..Ask::default() };
    let listing = read("memory://sources-list/k/list.txt", &ask).await.expect("lists");
    assert_eq!((pairs(&listing), listing.entries[0].length_bytes), (vec![("a b.mp4", Label::Number(0))], 2));
}

#[tokio::test]
async fn faults_of_every_kind_are_told_together() {
    let folder = folder(&["a.mp4", "b.mp4"]);
    std::fs::write(folder.path().join("list.csv"), "b.mp4 9\nno.mp4 0\na.mp4 0\na.mp4 1\na.mp4 x 2 3\n")
        .expect("write");
    let listing = read_in(&folder, "list.csv", &Ask::default()).await.expect("reads");
    let error = classes(&[&listing], Some(vec!["x".into(), "y".into()])).expect_err("five faults");
    let text = error.to_string();
    assert!(text.ends_with("line 1: label 9 occurs, but there are only 2 class names (and 3 more faults)"), "{text}");
    let ListError::Faults(faults) = error else { panic!("lines are at fault") };
    assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [1, 2, 4, 5]);
}

#[tokio::test]
async fn labels_and_class_names_must_fit() {
    let folder = folder(&["a.mp4", "b.mp4"]);
    let numbers = list(&folder, "a.mp4 0\nb.mp4 2\n").await.expect("lists");
    assert_eq!(classes(&[&numbers], None).expect("fit"), ["0", "1", "2"]);
    let two = Some(vec!["x".to_owned(), "y".to_owned()]);
    let error = classes(&[&numbers], two).expect_err("too few").to_string();
    assert!(error.ends_with("list.csv, line 2: label 2 occurs, but there are only 2 class names"), "{error}");
    assert!(refusal(&folder, "a.mp4 0\nb.mp4 jump\n").await.contains("use one of the two"));
    let names = list(&folder, "a.mp4 run\n").await.expect("lists");
    let val = list(&folder, "b.mp4 swim\n").await.expect("lists");
    let error = classes(&[&names, &val], None).expect_err("unknown").to_string();
    assert!(error.ends_with("line 1: class \"swim\" occurs, but is not among run"), "{error}");
}
