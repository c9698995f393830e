//! Which files become clips, and of which class: from a folder per class, a list, or WebDataset shards, on this machine
//! or in a store.
//!
//! All of it is checked before a byte is written. What is wrong with a list is told at once, each fault with its line.

mod classes;
mod kinetics;
mod lines;
mod place;
mod webdataset;

use std::collections::HashMap;
use std::ops::Range;

pub use classes::{classes, numbers, read_classes};
pub use place::{Found, Opened, Place, Root, Trouble, is_of_one, open, sorted};

/// Endings of video files; other files in a folder are passed over.
const VIDEO_EXTENSIONS: [&str; 17] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "mts", "flv", "wmv", "asf", "3gp", "ogv", "ogg",
    "ivf",
];

/// The files of one data set, in its order.
#[derive(Debug, Default)]
pub struct Listing {
    /// The folder, list or store that they come from.
    pub from: String,
    /// The files.
    pub entries: Vec<Entry>,
    /// Lines that were passed over, and why.
    pub passed_over: Vec<LeftOut>,
    /// Files without a video's ending.
    pub other_files: usize,
    /// Class names that came with the data.
    pub classes: Option<Vec<String>>,
    /// What is wrong with it. [`classes()`] tells all of it, together with what is wrong with the labels.
    pub faults: Vec<Fault>,
}

/// One file.
#[derive(Debug, Clone)]
pub struct Entry {
    /// As written in the list, or below the folder.
    pub name: String,
    /// The file or object that holds it.
    pub place: Place,
    /// Which part of that, if it is a member of a shard.
    pub range: Option<Range<u64>>,
    /// How long it is.
    pub length_bytes: u64,
    /// Its class.
    pub label: Label,
    /// Its line in the list; 0 where there is none.
    pub line: usize,
    /// Its key, where it has one already.
    pub key: Option<String>,
}

/// A class as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// By number.
    Number(u32),
    /// By name.
    Name(String),
}

/// A file that is not in the data set.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LeftOut {
    /// As written.
    pub name: String,
    /// Where it is listed.
    pub listed: String,
    /// Why.
    pub reason: String,
}

/// Something wrong with one line of a list, or one member of a shard.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// The line; 0 where there is none.
    pub line: usize,
    /// The list and the line.
    pub listed: String,
    /// What is wrong.
    pub what: String,
    /// Whether `--keep-going` passes it over.
    pub passable: bool,
}

/// How a source is to be read.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Where the files of a list are; else beside it.
    pub root: Option<String>,
    /// The split of an official csv.
    pub split: Option<String>,
    /// Whether missing files are passed over.
    pub keep_going: bool,
}

/// Why there is no listing.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The folder or list can't be read.
    #[error("can't read {path}: {why}")]
    Read {
        /// Which.
        path: String,
        /// What the system or the store said.
        why: String,
    },
    /// The store does not answer: nothing is known of the list.
    #[error("can't read {path} now: {why}")]
    Away {
        /// Which.
        path: String,
        /// What the store said.
        why: String,
    },
    /// A folder without classes.
    #[error(
        "{path} has no sub-folders with videos and no .tar shards: put the videos of each class into a folder named \
         after it, or give a list"
    )]
    NoClassFolders {
        /// The folder.
        path: String,
    },
    /// Nothing to pack.
    #[error("{path} lists no videos: nothing to pack")]
    Empty {
        /// The folder or list.
        path: String,
    },
    /// Lines of a list that can't be used: all of them.
    #[error("{}", first_of(.0))]
    Faults(Vec<Fault>),
    /// A list that can't be used as a whole, or labels and class names that don't fit together.
    #[error("{0}")]
    Whole(String),
}

/// The first fault, and how many more there are.
fn first_of(faults: &[Fault]) -> String {
    let Some(Fault { listed, what, .. }) = faults.first() else { return "nothing is wrong".to_owned() };
    let more = match (faults.len() - 1, faults.iter().all(|fault| fault.passable)) {
        (0, false) => String::new(),
        (0, true) => "; --keep-going passes it over".to_owned(),
        (more, false) => format!(" (and {more} more faults)"),
        (more, true) => format!(" (and {more} more such lines); --keep-going passes them over"),
    };
    format!("{listed}: {what}{more}")
}

impl Listing {
    /// Where an entry is listed, for messages.
    pub fn listed(&self, entry: &Entry) -> String {
        listed(&self.from, entry.line, &entry.name)
    }
}

/// `list, line 3`; where there are no lines, the name.
fn listed(from: &str, line: usize, name: &str) -> String {
    if line == 0 { name.to_owned() } else { format!("{from}, line {line}") }
}

/// Whether a file is named like a video.
pub fn is_video(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.rsplit_once('.').is_some_and(|(_, ending)| VIDEO_EXTENSIONS.contains(&ending.to_ascii_lowercase().as_str()))
}

/// Reads a folder per class, shards, or a list. With `keep_going`, lines whose file is missing are passed over. Faults of
/// single lines are in the listing, for [`classes()`] to tell.
pub async fn read(from: &str, ask: &Ask) -> Result<Listing, ListError> {
    let listing = match open(from).await? {
        Opened::Folder(root) => read_folder(from, &root).await?,
        Opened::File(root, name) if name.to_ascii_lowercase().ends_with(".tar") => {
            let found = root.look(vec![name]).await?;
            webdataset::read(from, &root, found.into_iter().flatten().collect()).await?
        }
        Opened::File(root, name) => {
            let text = root.text(&name).await?;
            let root = ask.root.as_deref().map_or(Ok(root), place::open_root)?;
            read_list(from, &text, (&root, ask)).await?
        }
    };
    if listing.entries.is_empty() && listing.faults.is_empty() {
        return Err(ListError::Empty { path: from.to_owned() });
    }
    Ok(listing)
}

async fn read_folder(from: &str, root: &Root) -> Result<Listing, ListError> {
    let files = root.files().await?;
    if !files.iter().any(|file| is_video(&file.name)) {
        let shards: Vec<Found> =
            files.iter().filter(|f| f.name.to_ascii_lowercase().ends_with(".tar")).cloned().collect();
        if !shards.is_empty() {
            return webdataset::read(from, root, shards).await;
        }
    }
    let mut listing = Listing { from: from.to_owned(), ..Listing::default() };
    let has_classes = files.iter().any(|file| file.name.contains('/'));
    if !has_classes {
        return Err(ListError::NoClassFolders { path: from.to_owned() });
    }
    for Found { name, place, length_bytes } in files {
        // What lies beside the class folders belongs to none of them.
        match name.split_once('/').filter(|_| is_video(&name)) {
            Some((class, _)) => {
                let label = Label::Name(class.to_owned());
                listing.entries.push(Entry { name, place, range: None, length_bytes, label, line: 0, key: None });
            }
            None => listing.other_files += 1,
        }
    }
    Ok(listing)
}

/// A row of a list: what the file may be called, in order of preference, and its class.
struct Row {
    line: usize,
    name: String,
    label: Label,
    /// What the clip is to be called, where the list says so.
    key: Option<String>,
}

async fn read_list(from: &str, text: &str, (root, ask): (&Root, &Ask)) -> Result<Listing, ListError> {
    let mut listing = Listing { from: from.to_owned(), ..Listing::default() };
    let fault =
        |line: usize, what: String, passable: bool| Fault { line, listed: listed(from, line, ""), what, passable };
    let (found, wrong): (Vec<(Row, Result<Found, String>)>, _) = if kinetics::is_official(text) {
        let (rows, wrong) = kinetics::parse(text, ask.split.as_deref())?;
        (kinetics::find(rows, root).await?, wrong)
    } else {
        let (rows, wrong) = lines::parse(text);
        let names = rows.iter().map(|row| row.name.clone()).collect();
        (rows.into_iter().zip(root.look(names).await?).collect(), wrong)
    };
    listing.faults.extend(wrong.into_iter().map(|(line, what)| fault(line, what, false)));
    let mut seen = HashMap::with_capacity(found.len());
    for (Row { line, name, label, key }, found) in found {
        match found.and_then(|found| only_once(found, line, &mut seen)) {
            Ok(Found { name, place, length_bytes }) => {
                listing.entries.push(Entry { name, place, range: None, length_bytes, label, line, key });
            }
            Err(reason) if ask.keep_going => {
                listing.passed_over.push(LeftOut { listed: listed(from, line, &name), name, reason });
            }
            Err(reason) => listing.faults.push(fault(line, reason, true)),
        }
    }
    Ok(listing)
}

/// The same file in two lines would be two clips of one content, and one of them under a wrong class.
fn only_once(found: Found, line: usize, seen: &mut HashMap<String, usize>) -> Result<Found, String> {
    let shown = match &found.place {
        Place::File(path) => path.display().to_string(),
        Place::Object(_, path) => path.to_string(),
    };
    match seen.get(&shown) {
        Some(first) => Err(format!("{shown} is in line {first} already")),
        None => {
            seen.insert(shown, line);
            Ok(found)
        }
    }
}

#[cfg(test)]
mod tests;
