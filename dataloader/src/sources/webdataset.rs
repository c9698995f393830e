//! Shards of a WebDataset: tar files with members `<key>.mp4` and, for the class, `<key>.cls`, `<key>.json` or
//! `<key>.txt`. Only headers and labels are read here; the videos stay where they are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use bytes::Bytes;
use clips::Index;
use clips::container::{Member, walk};
use clips::index::INDEX_OBJECT;
use futures::StreamExt;
use tokio::runtime::Handle;

use super::lines::parse_label;
use super::{Entry, Fault, Found, Label, ListError, Listing, Place, Root, Trouble, is_video};

/// Shards that are listed side by side.
const SHARDS: usize = 16;
/// A request of a store fetches this much: a header, and the label that follows.
const WINDOW_BYTES: u64 = 16 << 10;
/// Longer labels are none.
const MAX_LABEL_BYTES: u64 = 64 << 10;

/// What belongs to one key.
#[derive(Default)]
struct Sample {
    video: Option<(Range<u64>, String)>,
    /// By how much its kind is trusted: `cls` before `json` before `txt`.
    label: BTreeMap<u8, Result<Label, String>>,
}

/// Lists the clips of shards, in their order.
pub async fn read(from: &str, root: &Root, shards: Vec<Found>) -> Result<Listing, ListError> {
    let index = index(root).await;
    let shards = current(shards, index.as_ref());
    let classes = index.map(|index| index.classes);
    let mut listing = Listing { from: from.to_owned(), classes, ..Listing::default() };
    let list = |shard: Found| async move {
        let (handle, open) = (Handle::current(), shard.clone());
        let samples = tokio::task::spawn_blocking(move || samples(&open, handle)).await;
        (shard, samples.map_err(io::Error::other).and_then(|samples| samples))
    };
    let mut listed = futures::stream::iter(shards).map(list).buffered(SHARDS);
    let mut seen = HashMap::new();
    while let Some((shard, samples)) = listed.next().await {
        let fault = |listed: String, what: String| Fault { line: 0, listed, what, passable: false };
        match samples {
            Err(error) => listing.faults.push(fault(shard.name.clone(), format!("the shard can't be read: {error}"))),
            Ok(samples) => {
                for (key, sample) in samples {
                    match entry(&shard, &key, sample) {
                        Ok(Some(entry)) => match seen.insert(key.clone(), shard.name.clone()) {
                            Some(first) => {
                                listing.faults.push(fault(entry.name, format!("key {key:?} is in {first} already")))
                            }
                            None => listing.entries.push(entry),
                        },
                        Ok(None) => listing.other_files += 1,
                        Err(what) => listing.faults.push(fault(format!("{}, key {key:?}", shard.name), what)),
                    }
                }
            }
        }
    }
    Ok(listing)
}

/// The index of a data set that this program made.
async fn index(root: &Root) -> Option<Index> {
    let found = root.look(vec![INDEX_OBJECT.to_owned()]).await.ok()?.pop()?.ok()?;
    Index::parse(&found.place.read(None).await.ok()?).ok()
}

/// Leaves out shards of ours that the index no longer names: a data set that was replaced leaves them behind.
fn current(shards: Vec<Found>, index: Option<&Index>) -> Vec<Found> {
    let Some(index) = index else { return shards };
    let named: HashSet<&str> = index.clips.iter().map(|clip| clip.object.as_str()).collect();
    let is_ours = |name: &str| name.starts_with("shard-") && name.len() == "shard-00000-0123456789ab.tar".len();
    shards.into_iter().filter(|shard| named.contains(shard.name.as_str()) || !is_ours(&shard.name)).collect()
}

fn entry(shard: &Found, key: &str, sample: Sample) -> Result<Option<Entry>, String> {
    let Some((range, extension)) = sample.video else { return Ok(None) };
    if key.split('/').any(|part| part == "..") || key.starts_with('/') {
        return Err("its name leads out of the shard".to_owned());
    }
    let missing = || "it has no label: a member .cls, .txt, or .json with \"label\", says the class".to_owned();
    let label = sample.label.into_values().next().ok_or_else(missing)??;
    if range.end > shard.length_bytes {
        return Err(format!("the shard is cut off: it ends at byte {} of {}", shard.length_bytes, range.end));
    }
    Ok(Some(Entry {
        name: format!("{}/{key}.{extension}", shard.name),
        place: shard.place.clone(),
        length_bytes: range.end - range.start,
        range: Some(range),
        label,
        line: 0,
        key: Some(key.to_owned()),
    }))
}

fn samples(shard: &Found, handle: Handle) -> io::Result<Vec<(String, Sample)>> {
    match &shard.place {
        Place::File(path) => grouped(std::fs::File::open(path)?),
        Place::Object(..) => grouped(Window::new(shard, handle)),
    }
}

/// Groups members by their key, in order of the first.
fn grouped(shard: impl Read + Seek) -> io::Result<Vec<(String, Sample)>> {
    let mut samples: Vec<(String, Sample)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    walk(shard, |member, content| {
        let key = member.key.trim_start_matches("./").to_owned();
        let place = *places.entry(key.clone()).or_insert_with(|| {
            samples.push((key, Sample::default()));
            samples.len() - 1
        });
        note(&mut samples[place].1, member, content)
    })?;
    Ok(samples)
}

fn note(sample: &mut Sample, member: Member, content: &mut dyn Read) -> io::Result<()> {
    let extension = member.extension.to_ascii_lowercase();
    let last = extension.rsplit('.').next().unwrap_or_default();
    if is_video(&format!("x.{last}")) {
        let range = member.offset_bytes..member.offset_bytes + member.length_bytes;
        sample.video.get_or_insert((range, last.to_owned()));
        return Ok(());
    }
    let Some(trust) = ["cls", "json", "txt"].iter().position(|kind| *kind == extension) else { return Ok(()) };
    if member.length_bytes > MAX_LABEL_BYTES {
        return Ok(());
    }
    let mut text = String::new();
    let label = match content.read_to_string(&mut text) {
        Err(error) => Some(Err(format!("its .{extension} can't be read: {error}"))),
        Ok(_) if extension == "json" => from_json(&text),
        Ok(_) => Some(parse_label(text.trim()).and_then(|label| match label {
            Label::Name(name) if name.is_empty() => Err(format!("its .{extension} is empty")),
            label => Ok(label),
        })),
    };
    if let Some(label) = label {
        sample.label.insert(trust as u8, label);
    }
    Ok(())
}

/// The class in a sample's description, if it names one.
fn from_json(text: &str) -> Option<Result<Label, String>> {
    let value: serde_json::Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return Some(Err(format!("its .json is none: {error}"))),
    };
    let field = |name: &&str| value.get(name).filter(|field| field.is_string() || field.is_number());
    let field = ["label", "class", "cls", "target", "class_name"].iter().find_map(field);
    let field = field.or_else(|| Some(&value).filter(|value| value.is_string() || value.is_number()))?;
    Some(parse_label(field.as_str().map_or_else(|| field.to_string(), str::to_owned).trim()))
}

/// An object as a file: small reads come out of one request.
struct Window {
    place: Place,
    handle: Handle,
    length_bytes: u64,
    position: u64,
    start: u64,
    bytes: Bytes,
}

impl Window {
    fn new(shard: &Found, handle: Handle) -> Self {
        let (place, length_bytes) = (shard.place.clone(), shard.length_bytes);
        Self { place, handle, length_bytes, position: 0, start: 0, bytes: Bytes::new() }
    }
}

impl Read for Window {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.length_bytes {
            return Ok(0);
        }
        if self.position < self.start || self.position >= self.start + self.bytes.len() as u64 {
            let range = self.position..(self.position + WINDOW_BYTES).min(self.length_bytes);
            let read = self.handle.block_on(self.place.read(Some(range)));
            self.bytes = read.map_err(|(Trouble::File(why) | Trouble::Any(why))| io::Error::other(why))?;
            self.start = self.position;
        }
        let there = &self.bytes[(self.position - self.start) as usize..];
        let count = there.len().min(into.len());
        into[..count].copy_from_slice(&there[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::Current(by) => (self.position, by),
            SeekFrom::End(by) => (self.length_bytes, by),
        };
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "seek before the start");
        self.position = base.checked_add_signed(by).ok_or_else(outside)?;
        Ok(self.position)
    }
}
