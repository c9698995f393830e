//! What a pack will hold, before anything is read: keys, labels, settings, and the identity of all that together.

use std::collections::HashSet;
use std::path::Path;

use clips::container::sanitise_key;

use crate::sources::{Entry, Label, LeftOut, Listing, numbers};

/// How videos come into the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As they are.
    Keep,
    /// Encoded anew, small and cheap to decode, with at most this many pixels on the short side.
    Reencode(u32),
    /// Not at all: they stay where they are.
    InPlace,
}

/// How a data set is packed.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How videos come in.
    pub mode: Mode,
    /// Size at which a shard is closed.
    pub shard_bytes: u64,
    /// Videos that are examined side by side.
    pub jobs: usize,
    /// Bytes of videos that are held at a time.
    pub memory_bytes: u64,
}

/// One video on its way into a shard.
#[derive(Debug, Clone)]
pub struct Item {
    /// Where it comes from.
    pub entry: Entry,
    /// Its line, for messages.
    pub listed: String,
    /// What it will be called.
    pub key: String,
    /// Its class.
    pub label: u32,
    /// Ending of its member in the shard.
    pub extension: String,
    /// The object that it stays in, if it is not packed.
    pub object: String,
}

/// One data set to write.
pub struct Plan {
    /// Its videos, in order.
    pub items: Vec<Item>,
    /// Lines that were passed over.
    pub passed_over: Vec<LeftOut>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// How it is packed.
    pub settings: Settings,
    /// Equal for equal lists and settings: what an earlier, unfinished pack must have had to be gone on with.
    pub identity: String,
}

impl Plan {
    /// Names and numbers every video.
    ///
    /// # Panics
    /// If a label has no class: [`crate::sources::classes`] was to be asked before.
    pub fn new(mut listing: Listing, classes: Vec<String>, settings: Settings) -> Self {
        let numbers = numbers(&classes);
        let mut keys = HashSet::with_capacity(listing.entries.len());
        let mut items = Vec::with_capacity(listing.entries.len());
        for entry in std::mem::take(&mut listing.entries) {
            let label = match &entry.label {
                Label::Number(number) => *number,
                Label::Name(name) => numbers[name.as_str()],
            };
            let key = entry.key.clone().unwrap_or_else(|| key(&entry, &classes[label as usize]));
            let key = only(key, &mut keys);
            let extension = match settings.mode {
                Mode::Keep | Mode::InPlace => extension_of(&entry.name),
                Mode::Reencode(_) => "mp4".to_owned(),
            };
            let (listed, object) = (listing.listed(&entry), String::new());
            items.push(Item { listed, entry, key, label, extension, object });
        }
        let identity = identity(&items, &classes, settings);
        Self { items, passed_over: listing.passed_over, classes, settings, identity }
    }

    /// The settings in words, for whoever must find out what differs.
    pub fn describe(&self) -> String {
        let (videos, mode) = (self.items.len(), self.settings.mode.describe());
        match self.settings.mode {
            Mode::InPlace => format!("{videos} videos, {mode}"),
            _ => format!("{videos} videos, {mode}, shards of {} MiB", self.settings.shard_bytes >> 20),
        }
    }
}

impl Mode {
    /// As it is written in messages and reports.
    pub fn describe(self) -> String {
        match self {
            Self::Keep => "kept as they are".to_owned(),
            Self::InPlace => "left where they are".to_owned(),
            Self::Reencode(side) => format!("encoded anew at {side} pixels"),
        }
    }
}

/// `class/name` without extension.
fn key(entry: &Entry, class: &str) -> String {
    let below = entry.name.strip_prefix(&format!("{class}/")).unwrap_or(&entry.name);
    let stem = Path::new(below).with_extension("");
    sanitise_key(&format!("{class}/{}", stem.to_string_lossy().replace("../", "").trim_matches('/')))
}

/// A second one of the same name (`a.mp4` and `a.webm`) gets a number.
fn only(plain: String, keys: &mut HashSet<String>) -> String {
    let mut key = plain.clone();
    let mut copies = 1;
    while !keys.insert(key.clone()) {
        copies += 1;
        key = format!("{plain}-{copies}");
    }
    key
}

/// The file's own ending, if it can stand in a shard.
fn extension_of(name: &str) -> String {
    let extension = Path::new(name).extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let fits = !extension.is_empty() && extension != "cls" && extension.chars().all(|c| c.is_ascii_alphanumeric());
    if fits { extension } else { "mp4".to_owned() }
}

/// Covers what the objects depend on; not how many jobs make them, nor where the files lie.
fn identity(items: &[Item], classes: &[String], settings: Settings) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut text = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    text(&settings.mode.describe());
    text(&settings.shard_bytes.to_string());
    classes.iter().for_each(|class| text(class));
    for item in items {
        text(&item.key);
        text(&item.entry.name);
        text(&format!("{} {}", item.label, item.entry.length_bytes));
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Place;

    fn listing(files: &[(&str, u64)]) -> Listing {
        let entry = |&(name, length_bytes): &(&str, u64)| Entry {
            name: name.into(),
            place: Place::File(name.into()),
            range: None,
            length_bytes,
            label: Label::Name("run".into()),
            line: 1,
            key: None,
        };
        Listing { from: "list".into(), entries: files.iter().map(entry).collect(), ..Listing::default() }
    }

    fn plan(files: &[(&str, u64)], mode: Mode, jobs: usize) -> Plan {
        let settings = Settings { mode, shard_bytes: 1 << 20, jobs, memory_bytes: 1 };
        Plan::new(listing(files), vec!["run".into()], settings)
    }

    #[test]
    fn keys_are_clean_and_each_is_there_once() {
        let files = [("run/a.b.mp4", 1), ("run/a.b.webm", 1), ("../run/c.mp4", 1), ("/x/run/d e.MP4", 1)];
        let plan = plan(&files, Mode::Keep, 1);
        let seen: Vec<_> = plan.items.iter().map(|item| (item.key.as_str(), item.extension.as_str())).collect();
        assert_eq!(seen, [("run/a_b", "mp4"), ("run/a_b-2", "webm"), ("run/run/c", "mp4"), ("run/x/run/d e", "mp4")]);
    }

    #[test]
    fn the_identity_covers_files_and_settings_but_not_how_many_work_on_it() {
        let same = plan(&[("a.mp4", 1)], Mode::Keep, 1).identity;
        assert_eq!(plan(&[("a.mp4", 1)], Mode::Keep, 9).identity, same);
        assert_ne!(plan(&[("a.mp4", 2)], Mode::Keep, 1).identity, same);
        assert_ne!(plan(&[("b.mp4", 1)], Mode::Keep, 1).identity, same);
        assert_ne!(plan(&[("a.mp4", 1)], Mode::Reencode(128), 1).identity, same);
    }
}
