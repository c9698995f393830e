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

/// The classes of all listings together: as named, else those of the first listing. Whatever is wrong with any line is
/// told here, at once.
pub fn classes(listings: &[&Listing], named: Option<Vec<String>>) -> Result<Vec<String>, ListError> {
    let named = named.or_else(|| listings.first().and_then(|listing| listing.classes.clone()));
    let all: Vec<(&Listing, &Entry)> =
        listings.iter().flat_map(|listing| listing.entries.iter().map(move |entry| (*listing, entry))).collect();
    let are_whole = listings.iter().all(|listing| listing.faults.is_empty());
    if are_whole {
        refuse_mixed(&all)?;
    }
    let is_named = named.is_some();
    let highest = all.iter().filter_map(|(_, e)| if let Label::Number(n) = e.label { Some(n) } else { None }).max();
    let classes = match (named, highest) {
        (Some(named), _) => named,
        (None, Some(highest)) => (0..=highest).map(|n| n.to_string()).collect(),
        (None, None) => names_of(listings.first().map_or(&[], |first| &first.entries)),
    };
    let mut faults: Vec<Fault> = Vec::new();
    for listing in listings {
        let mut own = listing.faults.clone();
        // Names that were found in lines are not all known while lines are wrong.
        if is_named || are_whole {
            own.extend(unknown(listing, &classes));
        }
        own.sort_by_key(|fault| fault.line);
        faults.append(&mut own);
    }
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
fn unknown(listing: &Listing, classes: &[String]) -> Vec<Fault> {
    let numbers = numbers(classes);
    let known = |label: &Label| match label {
        Label::Number(number) => (*number as usize) < classes.len(),
        Label::Name(name) => numbers.contains_key(name.as_str()),
    };
    let what = |label: &Label| match label {
        Label::Number(n) => format!("label {n} occurs, but there are only {} class names", classes.len()),
        Label::Name(name) => format!("class {name:?} occurs, but is not among {}", some_of(classes)),
    };
    let wrong = listing.entries.iter().filter(|entry| !known(&entry.label));
    let fault = |entry: &Entry| {
        let (line, listed, what) = (entry.line, listing.listed(entry), what(&entry.label));
        Fault { line, listed, what, passable: false }
    };
    wrong.map(fault).collect()
}

fn some_of(classes: &[String]) -> String {
    let shown = classes.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", ");
    if classes.len() > 10 { format!("{shown} and {} more", classes.len() - 10) } else { shown }
}

/// The numbers of class names.
pub fn numbers(classes: &[String]) -> HashMap<&str, u32> {
    classes.iter().enumerate().map(|(number, name)| (name.as_str(), number as u32)).collect()
}
