//! Lists with a line `path label` a clip, as Kinetics and most code bases have them, and mmaction's
//! `path total_frames label`.

use super::{Label, Row, is_video};

/// Labels above this are a mistake in the list.
const MAX_LABEL: u32 = 99_999;

/// Words that stand above the columns.
const HEADINGS: [&str; 17] = [
    "path",
    "file",
    "filename",
    "file_name",
    "video",
    "video_path",
    "name",
    "label",
    "labels",
    "class",
    "class_id",
    "class_name",
    "target",
    "total_frames",
    "num_frames",
    "frames",
    "",
];

/// What a list's lines look like.
#[derive(Clone, Copy)]
struct Shape {
    separator: char,
    /// Whether the number of frames stands between path and label.
    has_frames: bool,
}

/// The rows of a list, and what is wrong with the others.
pub fn parse(text: &str) -> (Vec<Row>, Vec<(usize, String)>) {
    let lines = || text.lines().enumerate().map(|(n, line)| (n + 1, line.trim())).filter(|(_, line)| !ignored(line));
    let separator = separator_of(lines().map(|(_, line)| line));
    let is_heading = |line: &str| {
        let words: Vec<String> = line.split(separator).map(|word| bare(word).to_ascii_lowercase()).collect();
        words.len() > 1 && words.iter().all(|word| HEADINGS.contains(&word.as_str()))
    };
    let skipped = usize::from(lines().next().is_some_and(|(_, line)| is_heading(line)));
    let behind = |line: &str| numbers_behind(line, separator);
    let has_frames = lines().nth(skipped).is_some() && lines().skip(skipped).all(|(_, line)| behind(line) == 2);
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for (number, line) in lines().skip(skipped) {
        match parse_line(line, Shape { separator, has_frames }) {
            Ok((name, label)) => rows.push(Row { line: number, name, label, key: None }),
            Err(what) => faults.push((number, what)),
        }
    }
    (rows, faults)
}

fn ignored(line: &str) -> bool {
    line.is_empty() || line.starts_with('#')
}

/// A tab or a comma where each line has one, else a space: so paths may hold the other ones.
fn separator_of<'a>(lines: impl Iterator<Item = &'a str> + Clone) -> char {
    ['\t', ','].into_iter().find(|sign| lines.clone().all(|line| line.contains(*sign))).unwrap_or(' ')
}

fn bare(word: &str) -> &str {
    word.trim().trim_matches('"').trim()
}

/// How many whole numbers follow a video's path; 0 where what stands before them is not named like a video.
fn numbers_behind(line: &str, separator: char) -> usize {
    let (mut head, mut count) = (line, 0);
    while let Some((before, last)) = head.trim_end().rsplit_once(separator) {
        if is_video(bare(head)) || bare(last).parse::<u64>().is_err() {
            break;
        }
        (head, count) = (before, count + 1);
    }
    if is_video(bare(head)) { count } else { 0 }
}

fn parse_line(line: &str, shape: Shape) -> Result<(String, Label), String> {
    let numbers = numbers_behind(line, shape.separator);
    if numbers > 2 || (numbers == 2 && !shape.has_frames) {
        return Err(format!(
            "{numbers} numbers stand behind the path: lists with several labels a clip (multi-class) can't be packed, a \
             clip has one class"
        ));
    }
    let (path, label) = split(line, shape)?;
    let (path, label) = (bare(path.trim_end_matches(shape.separator)), bare(label));
    if path.is_empty() || label.is_empty() {
        return Err("a line is a path and a label".to_owned());
    }
    Ok((path.to_owned(), parse_label(label)?))
}

/// Path and label; either may be quoted.
fn split(line: &str, Shape { separator, has_frames }: Shape) -> Result<(&str, &str), String> {
    let missing = || "there is no label behind the path".to_owned();
    if let Some((path, rest)) = line.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        let rest = rest.trim_start_matches(separator).trim();
        let label = if has_frames { rest.split_once(separator).ok_or_else(missing)?.1 } else { rest };
        return Ok((path, label));
    }
    if line.ends_with('"') && line.matches('"').count() == 2 {
        return line.split_once('"').ok_or_else(missing);
    }
    let (path, label) = line.trim_end().rsplit_once(separator).ok_or_else(missing)?;
    let path = if has_frames { path.trim_end().rsplit_once(separator).ok_or_else(missing)?.0 } else { path };
    Ok((path, label))
}

/// A class as it is written: a number or a name.
pub fn parse_label(label: &str) -> Result<Label, String> {
    match label.parse::<u32>() {
        Ok(number) if number > MAX_LABEL => Err(format!("label {number} is above {MAX_LABEL}")),
        Ok(number) => Ok(Label::Number(number)),
        Err(_) if label.parse::<f64>().is_ok() => Err(format!("label {label} is not 0, 1, 2, …")),
        Err(_) => Ok(Label::Name(label.to_owned())),
    }
}
