//! The official Kinetics csv: `label,youtube_id,time_start,time_end,split`, one row a clip, under a header.
//!
//! What the clips are called is a matter of the download tool: `<id>_<start>_<end>.mp4` with six digits each, or
//! `<id>.mp4`; flat, or in a folder per class or split. So all files below the root are looked through by name.

use std::collections::HashMap;

use clips::container::sanitise_key;

use super::{Found, Label, ListError, Root, Row, is_video};

/// A row, and the stems that its file may have.
type Named = (Row, [String; 2]);
/// Rows by line, and what is wrong with the others.
type Parsed = (Vec<Named>, Vec<(usize, String)>);

/// Whether a list has the official header.
pub fn is_official(text: &str) -> bool {
    let header = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    header.is_some_and(|line| line.split(',').any(|column| heading(column) == "youtube_id"))
}

fn heading(column: &str) -> String {
    column.trim().trim_matches('"').to_ascii_lowercase()
}

/// Reads the rows of one split; of the only one, where none is named.
pub fn parse(text: &str, split: Option<&str>) -> Result<Parsed, ListError> {
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).comment(Some(b'#')).trim(csv::Trim::All).from_reader(text.as_bytes());
    let whole = |error: csv::Error| ListError::Whole(format!("the csv can't be read: {error}"));
    let columns: Vec<String> = reader.headers().map_err(whole)?.iter().map(heading).collect();
    let column = |name: &str| columns.iter().position(|column| column == name);
    if column("label").is_none() {
        return Err(ListError::Whole(
            "the csv has no column \"label\": the test list of Kinetics has none, and clips without a class can't be packed"
                .to_owned(),
        ));
    }
    let (mut rows, mut faults, mut splits) = (Vec::new(), Vec::new(), Vec::new());
    let mut place = Position::default();
    for record in reader.records() {
        let record = record.map_err(whole)?;
        let line = place.line_of(text, record.position().map_or(0, |position| position.byte() as usize));
        let field = |name: &str| column(name).and_then(|n| record.get(n)).unwrap_or_default();
        let here = field("split");
        if split.is_some_and(|wanted| !same_split(wanted, here)) {
            continue;
        }
        if !splits.iter().any(|known: &String| known == here) {
            splits.push(here.to_owned());
        }
        match row(line, field("label"), (field("youtube_id"), field("time_start"), field("time_end"))) {
            Ok(row) => rows.push(row),
            Err(what) => faults.push((line, what)),
        }
    }
    if splits.len() > 1 {
        return Err(ListError::Whole(format!(
            "the csv lists several splits: choose one by --split ({})",
            splits.join(", ")
        )));
    }
    Ok((rows, faults))
}

/// A byte of the text and the lines before it; only moves on.
#[derive(Default)]
struct Position {
    byte: usize,
    lines: usize,
}

impl Position {
    /// The line of the record that is found from `byte` on: the csv reader counts from before what it jumps over.
    fn line_of(&mut self, text: &str, byte: usize) -> usize {
        let is_jumped = |line: &&str| line.trim().is_empty() || line.starts_with('#');
        let jumped: usize = text[byte..].split_inclusive('\n').take_while(is_jumped).map(str::len).sum();
        let start = byte + jumped;
        self.lines += text[self.byte..start].matches('\n').count();
        self.byte = start;
        self.lines + 1
    }
}

/// `val`, `validate` and `validation` are one.
fn same_split(a: &str, b: &str) -> bool {
    let plain = |split: &str| {
        let split = split.to_ascii_lowercase();
        if split.starts_with("val") { "val".to_owned() } else { split }
    };
    plain(a) == plain(b)
}

fn row(line: usize, label: &str, (id, start, end): (&str, &str, &str)) -> Result<Named, String> {
    if label.is_empty() || id.is_empty() {
        return Err("a row needs a label and a youtube_id".to_owned());
    }
    let seconds = |text: &str| {
        let number = text.parse::<f64>().ok().filter(|s| (0.0..1e6).contains(s));
        number.map(|s| s.round() as u32).ok_or_else(|| format!("{text:?} is no time in seconds"))
    };
    let timed = format!("{id}_{:06}_{:06}", seconds(start)?, seconds(end)?);
    // Whatever folder it is in: results name a clip of Kinetics alike everywhere.
    let key = Some(sanitise_key(&format!("{label}/{timed}")));
    let row = Row { line, name: timed.clone(), label: Label::Name(label.to_owned()), key };
    Ok((row, [timed, id.to_owned()]))
}

/// Finds the file of each row.
pub async fn find(rows: Vec<Named>, root: &Root) -> Result<Vec<(Row, Result<Found, String>)>, ListError> {
    let files: Vec<Found> = root.files().await?.into_iter().filter(|file| is_video(&file.name)).collect();
    let mut by_stem: HashMap<&str, Vec<&Found>> = HashMap::with_capacity(files.len());
    for file in &files {
        by_stem.entry(stem(&file.name)).or_default().push(file);
    }
    let find = |(row, stems): Named| {
        let found = stems.iter().find_map(|stem| by_stem.get(stem.as_str()));
        let found = match found {
            Some(found) => choose(found, &row.label),
            None => Err(format!("there is no file {}.mp4 (nor {}.mp4) below {}", stems[0], stems[1], root.show())),
        };
        (row, found)
    };
    Ok(rows.into_iter().map(find).collect())
}

fn stem(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

/// Of several files of one name the one in the folder of the class.
fn choose(found: &[&Found], label: &Label) -> Result<Found, String> {
    let plain = |text: &str| text.to_lowercase().replace(['_', '-'], " ");
    let is_in_class = |file: &&&Found| {
        let Label::Name(class) = label else { return false };
        file.name.rsplit('/').skip(1).any(|folder| plain(folder) == plain(class))
    };
    match (found, found.iter().find(is_in_class)) {
        ([only], _) => Ok((*only).clone()),
        (_, Some(file)) => Ok((**file).clone()),
        (several, None) => {
            let names: Vec<&str> = several.iter().map(|file| file.name.as_str()).collect();
            Err(format!("several files have its name: {}", names.join(", ")))
        }
    }
}
