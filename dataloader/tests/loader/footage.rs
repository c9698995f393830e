//! Videos made by the `ffmpeg` program, and data sets made of them.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use bytes::Bytes;
use clips::{Clip, Index, ShardWriter};
use object_store::{ObjectStoreExt, PutPayload};

/// Runs `ffmpeg`, which must write `path`.
pub fn make(arguments: &[&str], path: &Path) {
    let out = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y"])
        .args(arguments)
        .arg(path)
        .output()
        .expect("the tests need the ffmpeg program");
    assert!(out.status.success(), "ffmpeg {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Six small videos that differ.
pub fn videos() -> &'static [Bytes] {
    static VIDEOS: OnceLock<Vec<Bytes>> = OnceLock::new();
    VIDEOS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("temporary folder");
        (0..6).map(|n| video(folder.path(), n)).collect()
    })
}

fn video(folder: &Path, n: u32) -> Bytes {
    let path = folder.join(format!("{n}.mp4"));
    let source = format!("testsrc2=s=96x64:r=25:d=1.2,hue=h={}", n * 55);
    make(&["-f", "lavfi", "-i", &source, "-c:v", "libx264", "-preset", "ultrafast", "-threads", "1"], &path);
    std::fs::read(&path).expect("ffmpeg wrote the file").into()
}

/// So many frames that all of them, at the size of the tests, take more memory than a decoder is allowed there.
pub fn hungry() -> Bytes {
    static VIDEO: OnceLock<Bytes> = OnceLock::new();
    VIDEO
        .get_or_init(|| {
            let folder = tempfile::tempdir().expect("temporary folder");
            let path = folder.path().join("long.mp4");
            let source = ["-f", "lavfi", "-i", "color=gray:s=64x16:r=100:d=100"];
            make(&[&source[..], &["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1"]].concat(), &path);
            std::fs::read(&path).expect("ffmpeg wrote the file").into()
        })
        .clone()
}

/// A file as the tests pack it: `broken` ones are web pages.
#[derive(Clone)]
pub enum File {
    Video(usize),
    WebPage,
    /// Good when packed, other bytes since.
    Rotten(usize),
    /// With a key of its own, and any bytes.
    Named(String, Bytes),
    /// More frames than fit into a decoder.
    Hungry,
    /// In an object that is not there.
    Missing,
    /// Behind the end of its object.
    Beyond,
}

/// Writes a data set of two classes to a store.
pub async fn data_set(url: &str, files: &[File]) -> Index {
    let store = runtime::store::open(url).expect("opens");
    let mut shard = ShardWriter::default();
    let mut clips = Vec::new();
    let mut rotten = Vec::new();
    for (n, file) in files.iter().enumerate() {
        let bytes = match file {
            File::Video(v) | File::Rotten(v) => videos()[v % videos().len()].clone(),
            File::Hungry => hungry(),
            File::Named(_, bytes) => bytes.clone(),
            File::WebPage | File::Missing | File::Beyond => Bytes::from(format!("<html>{n}</html>")),
        };
        let description = clips::index::describe(bytes.clone()).ok();
        let key = if let File::Named(key, _) = file { key.clone() } else { format!("clip-{n:03}") };
        let label = (n % 2) as u32;
        let offset_bytes = shard.append(&key, "mp4", &bytes, label).expect("memory");
        if matches!(file, File::Rotten(_)) {
            rotten.push(offset_bytes as usize + 40);
        }
        clips.push(Clip {
            key,
            label,
            object: if matches!(file, File::Missing) { "gone.tar".into() } else { "shard.tar".into() },
            offset_bytes: if matches!(file, File::Beyond) { 1 << 40 } else { offset_bytes },
            length_bytes: bytes.len() as u64,
            crc32c: crc32c::crc32c(&bytes),
            frames: 30,
            width: 96,
            height: 64,
            groups: description.as_ref().map_or(0, |known| known.groups),
            footage: description.map(|known| Box::new(known.footage)),
        });
    }
    let mut bytes = shard.finish().expect("memory");
    for place in rotten {
        bytes[place] ^= 1;
    }
    let index = Index::new(vec!["left".into(), "right".into()], clips).expect("valid");
    let put = |name: &str, bytes: Vec<u8>| {
        let path = store.path(name);
        let store = store.clone();
        async move { store.store.put(&path, PutPayload::from(bytes)).await.expect("memory") }
    };
    put("shard.tar", bytes).await;
    put("index.parquet", index.to_bytes()).await;
    index
}
