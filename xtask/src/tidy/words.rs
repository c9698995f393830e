//! Words that code here does not use, each with its reason and what to write instead.

use super::Finding;
use super::source::Source;

/// Lines on which a rule looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Everywhere.
    All,
    /// In tests.
    Tests,
    /// In shipped code whose path starts with one of these.
    Below(&'static [&'static str]),
    /// In shipped code whose path starts with the first and not with the second.
    BelowBut(&'static str, &'static str),
}

/// A word that is not used, and why.
struct Ban {
    words: &'static [&'static str],
    place: Where,
    why: &'static str,
}

const BANS: [Ban; 6] = [
    Ban {
        words: &["todo!", "unimplemented!"],
        place: Where::All,
        why: "main holds no half-done work; finish it, or leave the function out and open an issue",
    },
    Ban {
        words: &["#[allow", "#![allow"],
        place: Where::All,
        why: "it stays when its cause is gone; write #[expect(…, reason = \"…\")], which warns then",
    },
    Ban {
        words: &["sleep("],
        place: Where::Tests,
        why: "a test that sleeps is slow or flaky, mostly both; wait for the event itself (a message, a line of output, an \
              exit), or step a paused clock with tokio::time::advance",
    },
    Ban {
        words: &["Instant::now", "SystemTime::now", "thread_rng", "rand::rng(", "from_os_rng"],
        place: Where::Below(&["libs/cluster/src/", "libs/clips/src/"]),
        why: "this library decides the same way each time it is asked; take the time or the seed as an argument",
    },
    Ban {
        words: &["std::fs::", "std::net::", "tokio::"],
        place: Where::Below(&["libs/cluster/src/"]),
        why: "this library is pure; return a command, and let an actor of the service execute it",
    },
    Ban {
        words: &["tch::"],
        place: Where::BelowBut("worker/src/", "worker/src/device"),
        why: "device.rs is the only bridge between actors and tensors; give it a job there, and call that",
    },
];

/// Every banned word in the file.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ban in &BANS {
        for (number, line) in source.lines() {
            let word = ban.words.iter().find(|word| holds(line, word));
            if let Some(word) = word.filter(|_| applies(ban.place, source, number)) {
                let what = format!("`{word}`: {}", ban.why);
                findings.push(Finding { file: source.path.clone(), line: number, what });
            }
        }
    }
    findings
}

fn applies(place: Where, source: &Source, line: usize) -> bool {
    let shipped = || !source.is_test_line(line);
    match place {
        Where::All => true,
        Where::Tests => source.is_test_line(line),
        Where::Below(folders) => shipped() && folders.iter().any(|folder| source.path.starts_with(folder)),
        Where::BelowBut(folder, but) => shipped() && source.path.starts_with(folder) && !source.path.starts_with(but),
    }
}

/// Whether `word` stands in `line` and is not the tail of a longer name.
fn holds(line: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| !(word.starts_with(is_name) && line[..at].ends_with(is_name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<usize> {
        check(&Source::new(path, text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn each_ban_has_a_bad_sample_that_it_finds() {
        for (path, text) in [
            ("worker/src/a.rs", "fn a() { todo!() }"),
            ("worker/src/a.rs", "#[allow(dead_code)] fn a() {}"),
            ("worker/src/a.rs", "#![allow(dead_code)]"),
            ("worker/tests/a.rs", "fn a() { std::thread::sleep(x); }"),
            ("libs/cluster/src/a.rs", "let now = Instant::now();"),
            ("libs/cluster/src/a.rs", "let text = std::fs::read(path);"),
            ("worker/src/actors/feed.rs", "use tch::Tensor;"),
        ] {
            assert_eq!(found(path, text), [1], "{text} in {path}");
        }
    }

    #[test]
    fn what_is_allowed_is_not_found() {
        for (path, text) in [
            ("worker/src/a.rs", "// todo! one day\nlet text = \"#[allow\";"),
            ("worker/src/a.rs", "#[expect(dead_code, reason = \"the next commit uses it\")] fn a() {}"),
            ("worker/src/a.rs", "tokio::time::sleep(pause).await;"),
            ("worker/src/device.rs", "use tch::Device;"),
            ("worker/src/device/speed.rs", "use tch::Device;"),
            ("worker/src/a.rs", "let fetch::Fetch { x } = y; watch::channel(0); // no tch"),
            ("libs/runtime/src/a.rs", "let now = Instant::now();"),
            ("libs/cluster/tests/a.rs", "let now = Instant::now();"),
        ] {
            assert_eq!(found(path, text), [0_usize; 0], "{text} in {path}");
        }
    }

    #[test]
    fn a_sleep_is_found_in_tests_only() {
        let text = "fn backs_off() { sleep(x) }\n#[cfg(test)]\nmod tests {\n    fn waits() { sleep(x) }\n}\n";
        assert_eq!(found("libs/runtime/src/retry.rs", text), [4]);
    }
}
