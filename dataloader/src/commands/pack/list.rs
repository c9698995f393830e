//! Which files become clips, and of which class: from a folder per class, or from a list.
//!
//! All of it is checked before a byte is written: a list with a missing file is refused with the line's number.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Endings of video files; other files in a folder are passed over.
const VIDEO_EXTENSIONS: [&str; 17] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "mts", "flv", "wmv", "asf", "3gp", "ogv", "ogg",
    "ivf",
];

/// Labels above this are a mistake in the list.
const MAX_LABEL: u32 = 99_999;

/// The files of one data set, in its order.
#[derive(Debug, Default, PartialEq)]
pub struct Listing {
    /// The files.
    pub entries: Vec<Entry>,
    /// Lines that were passed over, and why.
    pub passed_over: Vec<LeftOut>,
    /// Files without a video's ending.
    pub other_files: usize,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: PathBuf,
    /// As written in the list, or below the folder.
    pub name: String,
    /// Its class.
    pub label: Label,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// As written.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// Why there is no listing.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The folder or list can't be read.
    #[error("can't read {path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A folder without classes.
    #[error("{path} has no sub-folders: put the videos of each class into a folder named after it")]
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
    /// A line of a list that can't be used.
    #[error("{list}, line {line}: {what}{more}")]
    Line {
        /// The list.
        list: String,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
        /// How many more there are.
        more: String,
    },
    /// Labels and class names don't fit together.
    #[error("{0}")]
    Classes(String),
}

/// Reads a folder per class, or a list. With `keep_going`, lines whose file is missing are passed over.
pub fn read(from: &Path, root: Option<&Path>, keep_going: bool) -> Result<Listing, ListError> {
    let failed = |source| ListError::Read { path: from.display().to_string(), source };
    let listing = if std::fs::metadata(from).map_err(failed)?.is_dir() {
        read_folder(from)?
    } else {
        let text = std::fs::read_to_string(from).map_err(failed)?;
        let beside = from.parent().unwrap_or(Path::new(""));
        parse_list(&text, (&from.display().to_string(), root.unwrap_or(beside)), keep_going)?
    };
    if listing.entries.is_empty() {
        return Err(ListError::Empty { path: from.display().to_string() });
    }
    Ok(listing)
}

fn read_folder(folder: &Path) -> Result<Listing, ListError> {
    let mut listing = Listing::default();
    let classes: Vec<PathBuf> = sorted(folder)?.into_iter().filter(|path| path.is_dir()).collect();
    if classes.is_empty() {
        return Err(ListError::NoClassFolders { path: folder.display().to_string() });
    }
    for class in classes {
        let label = class.file_name().unwrap_or_default().to_string_lossy().into_owned();
        walk(&class, &label, (&label, &mut listing))?;
    }
    Ok(listing)
}

fn walk(folder: &Path, name: &str, (label, listing): (&str, &mut Listing)) -> Result<(), ListError> {
    for path in sorted(folder)? {
        let name = format!("{name}/{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            walk(&path, &name, (label, listing))?;
        } else if is_video(&path) {
            listing.entries.push(Entry { path, name, label: Label::Name(label.to_owned()) });
        } else {
            listing.other_files += 1;
        }
    }
    Ok(())
}

/// A folder's entries by name, without hidden ones.
pub fn sorted(folder: &Path) -> Result<Vec<PathBuf>, ListError> {
    let failed = |source| ListError::Read { path: folder.display().to_string(), source };
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

/// Whether a file is named like a video.
pub fn is_video(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    VIDEO_EXTENSIONS.contains(&extension.as_str())
}

fn parse_list(text: &str, (list, root): (&str, &Path), keep_going: bool) -> Result<Listing, ListError> {
    let lines = || text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())).filter(|(_, line)| !ignored(line));
    let separator = separator_of(lines().map(|(_, line)| line));
    let mut listing = Listing::default();
    let mut seen: HashMap<PathBuf, usize> = HashMap::new();
    let mut faults = Vec::new();
    for (number, line) in lines() {
        match parse_line(line, separator, root) {
            Err(what) => faults.push((number, what, false)),
            Ok(entry) if number == 1 && is_header(&entry) => {}
            Ok(entry) => match check_file(&entry, &mut seen, number) {
                Ok(()) => listing.entries.push(entry),
                Err(reason) if keep_going => listing.passed_over.push(LeftOut { name: entry.name, reason }),
                Err(what) => faults.push((number, what, true)),
            },
        }
    }
    let Some((line, what, passable)) = faults.first().cloned() else { return Ok(listing) };
    let more = match (faults.len() - 1, passable) {
        (0, false) => String::new(),
        (0, true) => "; --keep-going passes it over".to_owned(),
        (more, false) => format!(" (and {more} more such lines)"),
        (more, true) => format!(" (and {more} more such lines); --keep-going passes them over"),
    };
    Err(ListError::Line { list: list.to_owned(), line, what, more })
}

fn ignored(line: &str) -> bool {
    line.is_empty() || line.starts_with('#')
}

/// A tab or a comma where each line has one, else a space: so paths may hold the other ones.
fn separator_of<'a>(lines: impl Iterator<Item = &'a str> + Clone) -> char {
    ['\t', ','].into_iter().find(|sign| lines.clone().all(|line| line.contains(*sign))).unwrap_or(' ')
}

fn parse_line(line: &str, separator: char, root: &Path) -> Result<Entry, String> {
    let (path, label) = match line.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        Some((path, label)) => (path, label.trim_start_matches(separator)),
        None if line.ends_with('"') && line.matches('"').count() == 2 => line.split_once('"').unwrap_or((line, "")),
        None => line.rsplit_once(separator).ok_or("there is no label behind the path")?,
    };
    let (path, label) = (path.trim().trim_end_matches(separator), label.trim().trim_matches('"').trim());
    if path.is_empty() || label.is_empty() {
        return Err("a line is a path and a label".to_owned());
    }
    let label = match label.parse::<u32>() {
        Ok(number) if number > MAX_LABEL => return Err(format!("label {number} is above {MAX_LABEL}")),
        Ok(number) => Label::Number(number),
        Err(_) if label.parse::<f64>().is_ok() => return Err(format!("label {label} is not 0, 1, 2, …")),
        Err(_) => Label::Name(label.to_owned()),
    };
    Ok(Entry { path: root.join(path), name: path.to_owned(), label })
}

fn is_header(entry: &Entry) -> bool {
    let path = entry.name.to_ascii_lowercase();
    let label = match &entry.label {
        Label::Name(name) => name.to_ascii_lowercase(),
        Label::Number(_) => return false,
    };
    ["path", "file", "filename", "video", "video_path"].contains(&path.as_str())
        && ["label", "class", "class_id", "class_name", "target"].contains(&label.as_str())
}

fn check_file(entry: &Entry, seen: &mut HashMap<PathBuf, usize>, line: usize) -> Result<(), String> {
    match std::fs::metadata(&entry.path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(format!("{} is no file", entry.path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(format!("there is no file {}", entry.path.display()));
        }
        Err(error) => return Err(format!("can't read {}: {error}", entry.path.display())),
    }
    match seen.insert(entry.path.clone(), line) {
        Some(first) => Err(format!("{} is in line {first} already", entry.path.display())),
        None => Ok(()),
    }
}

/// Reads class names, one a line.
pub fn read_classes(file: &Path) -> Result<Vec<String>, ListError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| ListError::Read { path: file.display().to_string(), source })?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let unique: BTreeSet<&String> = names.iter().collect();
    if names.is_empty() || unique.len() < names.len() {
        return Err(ListError::Classes(format!("{}: class names must be there, and each only once", file.display())));
    }
    Ok(names)
}

/// The classes of all listings together: as named, else those of the first listing.
pub fn classes(listings: &[&Listing], named: Option<Vec<String>>) -> Result<Vec<String>, ListError> {
    let labels = |listing: &Listing| listing.entries.iter().map(|e| e.label.clone()).collect::<BTreeSet<Label>>();
    let all: BTreeSet<Label> = listings.iter().flat_map(|listing| labels(listing)).collect();
    let highest = all.iter().filter_map(|l| if let Label::Number(n) = l { Some(*n) } else { None }).max();
    let mixed = all.iter().find_map(|l| if let Label::Name(name) = l { Some(name) } else { None });
    if let (Some(number), Some(name)) = (highest, mixed) {
        let why = format!("some labels are numbers ({number}), some are names ({name:?}): use one of the two");
        return Err(ListError::Classes(why));
    }
    let classes = match (named, highest) {
        (Some(named), _) => named,
        (None, Some(highest)) => (0..=highest).map(|n| n.to_string()).collect(),
        (None, None) => listings.first().map(|first| labels(first)).into_iter().flatten().map(name_of).collect(),
    };
    match all.iter().find(|label| number_of(label, &classes).is_none()) {
        None => Ok(classes),
        Some(Label::Number(n)) => {
            Err(ListError::Classes(format!("label {n} occurs, but there are only {} class names", classes.len())))
        }
        Some(Label::Name(name)) => {
            Err(ListError::Classes(format!("class {name:?} occurs, but is not among {}", classes.join(", "))))
        }
    }
}

fn name_of(label: Label) -> String {
    match label {
        Label::Name(name) => name,
        Label::Number(number) => number.to_string(),
    }
}

/// The number of a label, if there is such a class.
pub fn number_of(label: &Label, classes: &[String]) -> Option<u32> {
    match label {
        Label::Number(number) => ((*number as usize) < classes.len()).then_some(*number),
        Label::Name(name) => classes.iter().position(|class| class == name).map(|place| place as u32),
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_folder_per_class_is_listed_in_order() {
        let folder =
            folder(&["run/b.mp4", "run/a.MP4", "run/more/c.webm", "jump/x.avi", "jump/notes.txt", "run/.hidden.mp4"]);
        let listing = read(folder.path(), None, false).expect("lists");
        assert_eq!(
            pairs(&listing),
            [
                ("jump/x.avi", name("jump")),
                ("run/a.MP4", name("run")),
                ("run/b.mp4", name("run")),
                ("run/more/c.webm", name("run"))
            ]
        );
        assert_eq!(listing.other_files, 1);
        assert_eq!(classes(&[&listing], None).expect("fit"), ["jump", "run"]);
    }

    #[test]
    fn folders_without_classes_or_videos_are_refused() {
        let flat = folder(&["a.mp4"]);
        assert!(read(flat.path(), None, false).expect_err("flat").to_string().contains("has no sub-folders"));
        let empty = folder(&["run/readme.txt"]);
        assert!(read(empty.path(), None, false).expect_err("empty").to_string().ends_with("nothing to pack"));
        let missing = read(Path::new("/no/such/folder"), None, false).expect_err("missing").to_string();
        assert!(missing.starts_with("can't read /no/such/folder: No such file"), "{missing}");
    }

    fn list(folder: &tempfile::TempDir, text: &str) -> Result<Listing, ListError> {
        let path = folder.path().join("list.csv");
        std::fs::write(&path, text).expect("write");
        read(&path, None, false)
    }

    #[test]
    fn paths_may_hold_spaces_and_labels_too() {
        let folder = folder(&["a b.mp4", "c.mp4", "d,e.mp4"]);
        let spaced = list(&folder, "a b.mp4 3\nc.mp4 0\n").expect("lists");
        assert_eq!(pairs(&spaced), [("a b.mp4", Label::Number(3)), ("c.mp4", Label::Number(0))]);
        let commas =
            list(&folder, "path,label\n# comment\n\na b.mp4,riding a bike\n\"d,e.mp4\",jump\n").expect("lists");
        assert_eq!(pairs(&commas), [("a b.mp4", name("riding a bike")), ("d,e.mp4", name("jump"))]);
        let tabs = list(&folder, "d,e.mp4\tbig jump\n").expect("lists");
        assert_eq!(pairs(&tabs), [("d,e.mp4", name("big jump"))]);
        let quoted = list(&folder, "c.mp4 \"riding a bike\"\n\"a b.mp4\" jump\n").expect("lists");
        assert_eq!(pairs(&quoted), [("c.mp4", name("riding a bike")), ("a b.mp4", name("jump"))]);
    }

    #[test]
    fn a_missing_file_is_named_with_its_line() {
        let folder = folder(&["a.mp4"]);
        let text = list(&folder, "a.mp4 0\n\nno.mp4 1\nneither.mp4 1\n").expect_err("missing").to_string();
        assert!(text.contains("list.csv, line 3: there is no file") && text.contains("no.mp4"), "{text}");
        assert!(text.ends_with("(and 1 more such lines); --keep-going passes them over"), "{text}");
        let listing = read(&folder.path().join("list.csv"), None, true).expect("keeps going");
        assert_eq!((listing.entries.len(), listing.passed_over.len()), (1, 2));
    }

    #[test]
    fn mistakes_in_a_line_are_told() {
        let folder = folder(&["a.mp4"]);
        let refusal = |text: &str| list(&folder, text).expect_err("must be refused").to_string();
        assert!(refusal("a.mp4\n").contains("line 1: there is no label behind the path"));
        assert!(refusal("a.mp4 -1\n").contains("line 1: label -1 is not 0, 1, 2"));
        assert!(refusal("a.mp4 4000000000\n").contains("is above 99999"));
        assert!(
            refusal("a.mp4 0\na.mp4 1\n").contains("line 2: ")
                && refusal("a.mp4 0\na.mp4 1\n").contains("in line 1 already")
        );
        assert!(refusal("\n# nothing\n").ends_with("nothing to pack"));
    }

    #[test]
    fn labels_and_class_names_must_fit() {
        let folder = folder(&["a.mp4", "b.mp4"]);
        let numbers = list(&folder, "a.mp4 0\nb.mp4 2\n").expect("lists");
        assert_eq!(classes(&[&numbers], None).expect("fit"), ["0", "1", "2"]);
        let two = Some(vec!["x".to_owned(), "y".to_owned()]);
        let error = classes(&[&numbers], two).expect_err("too few").to_string();
        assert_eq!(error, "label 2 occurs, but there are only 2 class names");
        let mixed = list(&folder, "a.mp4 0\nb.mp4 jump\n").expect("lists");
        assert!(classes(&[&mixed], None).expect_err("mixed").to_string().contains("use one of the two"));
        let names = list(&folder, "a.mp4 run\n").expect("lists");
        let val = list(&folder, "b.mp4 swim\n").expect("lists");
        let error = classes(&[&names, &val], None).expect_err("unknown").to_string();
        assert_eq!(error, "class \"swim\" occurs, but is not among run");
    }
}
