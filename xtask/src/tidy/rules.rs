//! Sizes and names.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::source::Source;

/// Lines a file may have without its tests.
const FILE_LINES: usize = 400;
/// Lines a function may have.
const FUNCTION_LINES: usize = 60;
/// Modules that one folder of sources may hold; `plan.rs`, `plan/` and `plan_tests.rs` are one.
const FOLDER_ENTRIES: usize = 12;
/// Levels of folders below `src`.
const FOLDER_DEPTH: usize = 2;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = ["common", "utils", "util", "helpers", "helper", "manager", "core", "base"];

/// A file too long to read in one go.
pub fn file_length(source: &Source) -> Option<Finding> {
    let lines = source.shipped_lines();
    (lines > FILE_LINES).then(|| Finding {
        file: source.path.clone(),
        line: 0,
        what: format!(
            "{lines} lines without tests, the house has {FILE_LINES}: a file is one concept that fits a reader's head; \
             move a type with its functions to a file of its own"
        ),
    })
}

/// Functions too long to see at once.
pub fn function_lengths(source: &Source) -> Vec<Finding> {
    let long = source.functions().into_iter().filter(|f| f.lines.clone().count() > FUNCTION_LINES);
    long.map(|function| Finding {
        file: source.path.clone(),
        line: *function.lines.start(),
        what: format!(
            "function `{}` has {} lines, the house has {FUNCTION_LINES}: a reader must see it at once; name its steps \
             and make each a function",
            function.name,
            function.lines.clone().count()
        ),
    })
    .collect()
}

/// Modules named after nothing. Crates are checked with the layers.
pub fn names(path: &str) -> Option<Finding> {
    let parts = path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
    let name = parts.rev().find(|part| EMPTY_NAMES.contains(part))?;
    Some(Finding { file: path.to_owned(), line: 0, what: empty_name(name) })
}

/// Whether a crate's name says nothing.
pub fn is_empty_name(name: &str) -> bool {
    EMPTY_NAMES.contains(&name)
}

/// What is wrong with the name.
pub fn empty_name(name: &str) -> String {
    format!(
        "the name `{name}` says nothing, so anything ends up inside; name it after the one concept that it holds, or \
         move its parts to where they are used"
    )
}

/// Folders of sources with too many entries, or too deep.
pub fn folders<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<Finding> {
    let mut entries: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in paths {
        let parts: Vec<_> = path.split('/').collect();
        let Some(src) = parts.iter().position(|part| *part == "src") else { continue };
        for depth in src..parts.len() - 1 {
            entries.entry(parts[..=depth].join("/")).or_default().insert(module(parts[depth + 1]).to_owned());
        }
    }
    entries.iter().filter_map(|(folder, entries)| folder_finding(folder, entries.len())).collect()
}

fn module(entry: &str) -> &str {
    let name = entry.strip_suffix(".rs").unwrap_or(entry);
    name.strip_suffix("_tests").unwrap_or(name)
}

fn folder_finding(folder: &str, entries: usize) -> Option<Finding> {
    let depth = folder.split('/').rev().position(|part| part == "src").unwrap_or(0);
    let what = if entries > FOLDER_ENTRIES {
        format!(
            "{entries} modules, the house has {FOLDER_ENTRIES}: a listing is read at a glance; group those that belong \
             together in a folder"
        )
    } else if depth > FOLDER_DEPTH {
        format!(
            "{depth} folders below src, the house has {FOLDER_DEPTH}: paths are names that people type; move it up, or \
             make it a crate if its dependencies differ"
        )
    } else {
        return None;
    };
    Some(Finding { file: folder.to_owned(), line: 0, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_have_400_lines_beside_its_tests() {
        let lines = |n: usize| "//\n".repeat(n);
        let with_tests = lines(400) + "#[cfg(test)]\nmod tests {\n" + &lines(300) + "}\n";
        assert_eq!(file_length(&Source::new("a.rs", &with_tests)), None);
        let finding = file_length(&Source::new("a.rs", &lines(401))).expect("one line too many");
        assert!(finding.to_string().starts_with("a.rs: 401 lines without tests, the house has 400: "), "{finding}");
        assert_eq!(file_length(&Source::new("libs/x/tests/a.rs", &lines(900))), None);
    }

    #[test]
    fn a_function_may_have_60_lines() {
        let function = |n: usize| format!("\nfn long() {{\n{}}}\n", "    step();\n".repeat(n - 2));
        assert_eq!(function_lengths(&Source::new("a.rs", &function(60))), []);
        let findings = function_lengths(&Source::new("a.rs", &function(61)));
        assert!(findings[0].to_string().starts_with("a.rs:2: function `long` has 61 lines"), "{}", findings[0]);
    }

    #[test]
    fn modules_are_named_after_concepts() {
        for bad in ["libs/clips/src/utils.rs", "worker/src/common/mod.rs", "worker/tests/helpers.rs"] {
            assert!(names(bad).is_some(), "{bad}");
        }
        for good in ["libs/clips/src/decode.rs", "libs/nn/src/conv_unit.rs", "libs/nn/src/score.rs"] {
            assert_eq!(names(good), None);
        }
    }

    #[test]
    fn a_folder_holds_12_modules_and_src_two_levels() {
        let files = |n: usize| (0..n).map(|i| format!("libs/x/src/f{i}.rs")).collect::<Vec<_>>();
        assert_eq!(folders(files(12).iter().map(String::as_str)), []);
        let found = folders(files(13).iter().map(String::as_str));
        assert!(found[0].to_string().starts_with("libs/x/src: 13 modules, the house has 12"), "{}", found[0]);
        let one = ["x/src/plan.rs", "x/src/plan/a.rs", "x/src/plan_tests.rs"];
        assert_eq!(folders(files(11).iter().map(String::as_str).chain(one)), []);
        assert_eq!(folders(["w/src/a/b/c.rs"].into_iter()), []);
        let found = folders(["w/src/a/b/c/d.rs"].into_iter());
        assert!(found[0].to_string().starts_with("w/src/a/b/c: 3 folders below src"), "{}", found[0]);
    }
}
