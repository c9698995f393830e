//! From labels as they are written to numbers.

use std::collections::{BTreeSet, HashMap};

use super::{Entry, Fault, Label, ListError, Listing, Opened, open};

/// Reads class names, one a line.
pub async fn read_classes(file: &str) -> Result<Vec<String>, ListError> {
    let Opened::File(root, name) = open(file).await? else {
        return Err(ListError::Whole(format!("{file} is no file of class names")));
    };
    let text = root.text(&name).await?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let unique: BTreeSet<&String> = names.iter().collect();
    if names.is_empty() || unique.len() < names.len() {
        return Err(ListError::Whole(format!("{file}: class names must be there, and each only once")));
    }
    Ok(names)
}

/// The classes of all listings together: as named, else those of the first listing.
pub fn classes(listings: &[&Listing], named: Option<Vec<String>>) -> Result<Vec<String>, ListError> {
    let named = named.or_else(|| listings.first().and_then(|listing| listing.classes.clone()));
    let all: Vec<(&Listing, &Entry)> =
        listings.iter().flat_map(|listing| listing.entries.iter().map(move |entry| (*listing, entry))).collect();
    refuse_mixed(&all)?;
    let highest = all.iter().filter_map(|(_, e)| if let Label::Number(n) = e.label { Some(n) } else { None }).max();
    let classes = match (named, highest) {
        (Some(named), _) => named,
        (None, Some(highest)) => (0..=highest).map(|n| n.to_string()).collect(),
        (None, None) => names_of(listings.first().map_or(&[], |first| &first.entries)),
    };
    let faults: Vec<Fault> = unknown(&all, &classes);
    if faults.is_empty() { Ok(classes) } else { Err(ListError::Faults(faults)) }
}

fn refuse_mixed(all: &[(&Listing, &Entry)]) -> Result<(), ListError> {
    let number =
        all.iter().find_map(|(l, e)| matches!(e.label, Label::Number(_)).then(|| (l.listed(e), show(&e.label))));
    let name = all.iter().find_map(|(l, e)| matches!(e.label, Label::Name(_)).then(|| (l.listed(e), show(&e.label))));
    let (Some((at, number)), Some((there, name))) = (number, name) else { return Ok(()) };
    Err(ListError::Whole(format!(
        "some labels are numbers ({number} in {at}), some are names ({name} in {there}): use one of the two"
    )))
}

fn show(label: &Label) -> String {
    match label {
        Label::Number(number) => number.to_string(),
        Label::Name(name) => format!("{name:?}"),
    }
}

fn names_of(entries: &[Entry]) -> Vec<String> {
    let name = |entry: &Entry| if let Label::Name(name) = &entry.label { Some(name.clone()) } else { None };
    entries.iter().filter_map(name).collect::<BTreeSet<String>>().into_iter().collect()
}

/// Labels that no class has.
fn unknown(all: &[(&Listing, &Entry)], classes: &[String]) -> Vec<Fault> {
    let numbers = numbers(classes);
    let known = |label: &Label| match label {
        Label::Number(number) => (*number as usize) < classes.len(),
        Label::Name(name) => numbers.contains_key(name.as_str()),
    };
    let what = |label: &Label| match label {
        Label::Number(n) => format!("label {n} occurs, but there are only {} class names", classes.len()),
        Label::Name(name) => format!("class {name:?} occurs, but is not among {}", some_of(classes)),
    };
    let wrong = all.iter().filter(|(_, entry)| !known(&entry.label));
    wrong.map(|(l, e)| Fault { listed: l.listed(e), what: what(&e.label), passable: false }).collect()
}

fn some_of(classes: &[String]) -> String {
    let shown = classes.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", ");
    if classes.len() > 10 { format!("{shown} and {} more", classes.len() - 10) } else { shown }
}

/// The numbers of class names.
pub fn numbers(classes: &[String]) -> HashMap<&str, u32> {
    classes.iter().enumerate().map(|(number, name)| (name.as_str(), number as u32)).collect()
}
