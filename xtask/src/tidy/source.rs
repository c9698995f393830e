//! A Rust file as the rules see it: code without comments and texts, its functions, and which lines are tests.
//!
//! A scanner of a few states rather than a parser: the rules need braces and words only, and xtask stays quick to build.

use std::ops::RangeInclusive;

/// One Rust file.
pub struct Source {
    /// Path relative to the checkout, with `/`.
    pub path: String,
    /// The file with every comment, text and character literal blanked out, line for line.
    pub code: String,
    /// Lines, from 1, that belong to tests inside the file.
    pub tests: Vec<RangeInclusive<usize>>,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// From the line of its name to that of its closing brace.
    pub lines: RangeInclusive<usize>,
}

impl Source {
    /// Scans `text`.
    pub fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let tests = test_items(&code);
        Self { path: path.to_owned(), code, tests }
    }

    /// Whether the whole file is tests: below `tests/`, or a `tests.rs`.
    pub fn is_test_file(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// Whether line `line`, from 1, belongs to tests.
    pub fn is_test_line(&self, line: usize) -> bool {
        self.is_test_file() || self.tests.iter().any(|range| range.contains(&line))
    }

    /// Number of lines that are not tests.
    pub fn shipped_lines(&self) -> usize {
        (1..=self.code.lines().count()).filter(|line| !self.is_test_line(*line)).count()
    }

    /// The lines of code with their numbers from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Every function that has a body, nested ones included.
    pub fn functions(&self) -> Vec<Function> {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let mut functions = Vec::new();
        for (at, _) in self.code.match_indices("fn ") {
            let starts_a_word = !self.code[..at].ends_with(is_name);
            let name: String = self.code[at + 3..].trim_start().chars().take_while(|c| is_name(*c)).collect();
            if !starts_a_word || name.is_empty() {
                continue;
            }
            if let Some(end) = body(&self.code, at) {
                functions.push(Function { name, lines: line_of(&self.code, at)..=line_of(&self.code, end) });
            }
        }
        functions
    }
}

/// The line, from 1, of the byte at `at`.
fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Where the block ends that belongs to the item which starts at `from`; nothing where `;` ends the item first.
fn body(code: &str, from: usize) -> Option<usize> {
    let (mut brackets, mut braces) = (0, 0);
    for (at, c) in code[from..].char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if brackets == 0 && braces == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces == 0 && brackets == 0 {
                    return Some(from + at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Lines of the items under `#[cfg(test)]`, from the attribute to the closing brace.
fn test_items(code: &str) -> Vec<RangeInclusive<usize>> {
    let starts = code.match_indices("#[cfg(test)]").map(|(at, text)| (at, at + text.len()));
    starts.filter_map(|(at, after)| Some(line_of(code, at)..=line_of(code, body(code, after)?))).collect()
}

/// `text` with the inside of comments, texts and character literals as spaces; line ends stay.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word_before = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = literal(rest, word_before).unwrap_or(0);
        if length == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let (inside, after) = rest.split_at(length);
        code.extend(inside.chars().map(|c| if c == '\n' { c } else { ' ' }));
        rest = after;
    }
    code
}

/// Bytes of the comment or literal at the start of `rest`, if one starts there.
fn literal(rest: &str, word_before: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    let prefix = if word_before {
        ""
    } else {
        ["br", "cr", "b", "c", "r"].iter().find(|p| rest.starts_with(**p)).copied().unwrap_or("")
    };
    let opening = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = opening.len() - opening.trim_start_matches('#').len();
        let inside = opening[hashes..].strip_prefix('"')?;
        let closing = format!("\"{}", "#".repeat(hashes));
        let start = rest.len() - inside.len();
        return Some(inside.find(&closing).map_or(rest.len(), |end| start + end + closing.len()));
    }
    opening.strip_prefix('"').map(|inside| rest.len() - inside.len() + until_unescaped(inside, '"'))
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// A character literal, or nothing where the quote starts a lifetime.
fn character(rest: &str) -> Option<usize> {
    let inside = &rest[1..];
    if inside.starts_with('\\') {
        return Some(1 + until_unescaped(inside, '\''));
    }
    let c = inside.chars().next()?;
    inside[c.len_utf8()..].starts_with('\'').then_some(c.len_utf8() + 2)
}

/// Bytes to the end of the first `quote` that no backslash escapes.
fn until_unescaped(inside: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    inside.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_blank_and_lines_stay() {
        let text = "let a = \"x { y\"; // fn b() {\nlet c = r#\"\"{\"#; /* { /* } */ { */ let d = '{';\nlet e: &'a str = b\"\\\"{\";";
        let code = blank(text);
        assert_eq!(code.lines().count(), 3);
        assert!(!code.contains(['{', '}', '"']), "{code}");
        assert!(code.contains("let d =") && code.contains("let e: &'a str ="), "{code}");
    }

    #[test]
    fn a_lifetime_is_no_literal_and_a_name_that_ends_in_r_starts_none() {
        assert_eq!(blank("fn f<'a>(x: &'a str) { for 'b' {} }"), "fn f<'a>(x: &'a str) { for     {} }");
        assert_eq!(blank("println!(ptr\"x\")"), "println!(ptr   )");
        assert_eq!(blank(r"'\'' + '\u{1F600}' + '\\'"), "     +             +     ");
    }

    #[test]
    fn functions_are_found_with_their_lines() {
        let source = Source::new(
            "a.rs",
            "trait T {\n    fn declared(&self, x: [u8; 4]);\n    fn given(&self) -> [u8; 2]\n    where\n        Self: Sized,\n    {\n        fn inner() {}\n        [0; 2]\n    }\n}\ntype F = fn(u8) -> u8;\n",
        );
        let found: Vec<_> = source.functions().into_iter().map(|f| (f.name, f.lines)).collect();
        assert_eq!(found, [("given".to_owned(), 3..=9), ("inner".to_owned(), 7..=7)]);
    }

    #[test]
    fn tests_inside_the_file_do_not_count() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        let source = Source::new("libs/x/src/a.rs", text);
        assert_eq!(source.tests, [3..=6]);
        assert_eq!(source.shipped_lines(), 2);
        assert_eq!(Source::new("libs/x/src/a.rs", "#[cfg(test)]\nmod tests;\nfn a() {}\n").shipped_lines(), 3);
        assert_eq!(Source::new("libs/x/src/a/tests.rs", text).shipped_lines(), 0);
    }
}
