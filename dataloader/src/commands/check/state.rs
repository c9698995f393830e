//! How far a check is, in a file: after any end the same command goes on.
//!
//! Line by line: which data set it is, then `{checked, bad}`, each line with the bad clips since the one before. The
//! last line may be torn by a kill; it is overwritten.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use runtime::exit::{Code, WithCode};

use super::Bad;

/// Work that a kill may cost.
const SAVE_EVERY: Duration = Duration::from_secs(2);

/// Which check it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// Of the data set.
    pub digest: String,
    /// How many it has.
    pub clips: usize,
    /// Whether clips are decoded.
    pub decoded: bool,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Line {
    checked: usize,
    bad: Vec<Bad>,
}

/// What was checked so far.
pub struct State {
    kept: Option<(PathBuf, File)>,
    checked: usize,
    bad: Vec<Bad>,
    /// How many of them are in the file.
    bad_saved: usize,
    saved: Instant,
}

impl State {
    /// Goes on with what the file says, if it is of the same check.
    pub fn open(file: Option<&Path>, head: Head) -> anyhow::Result<Self> {
        let mut state = Self { kept: None, checked: 0, bad: Vec::new(), bad_saved: 0, saved: Instant::now() };
        let Some(path) = file else { return Ok(state) };
        let failed = || format!("can't use the state file {}", path.display());
        let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut open = open.with_context(failed).code(Code::Misconfigured)?;
        let text = std::fs::read_to_string(path).with_context(failed).code(Code::Misconfigured)?;
        let good = state.take(&text, (&head, path))?;
        open.set_len(good as u64).with_context(failed)?;
        open.seek(SeekFrom::End(0)).with_context(failed)?;
        if good == 0 {
            writeln!(open, "{}", serde_json::to_string(&head).with_context(failed)?).with_context(failed)?;
        }
        state.bad_saved = state.bad.len();
        state.kept = Some((path.to_owned(), open));
        Ok(state)
    }

    /// Reads the lines; returns how many bytes of them are whole.
    fn take(&mut self, text: &str, (head, path): (&Head, &Path)) -> anyhow::Result<usize> {
        let mut lines = text.split_inclusive('\n').take_while(|line| line.ends_with('\n'));
        let Some(first) = lines.next() else {
            // A head that was torn, or nothing: but never somebody's own file.
            if text.is_empty() || text.starts_with("{\"digest\"") {
                return Ok(0);
            }
            return Err(anyhow!("{} is no state of a check: name another --state", path.display()))
                .code(Code::Misconfigured);
        };
        if serde_json::from_str::<Head>(first).ok().as_ref() != Some(head) {
            let path = path.display();
            return Err(anyhow!("{path} is the state of another check: remove it, or name another --state"))
                .code(Code::Misconfigured);
        }
        let mut good = first.len();
        for line in lines {
            let Ok(Line { checked, bad }) = serde_json::from_str(line) else { break };
            (self.checked, good) = (checked, good + line.len());
            self.bad.extend(bad);
        }
        Ok(good)
    }

    /// How many clips are done with, from the first one.
    pub fn checked(&self) -> usize {
        self.checked
    }

    /// Whether a later run can go on.
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Notes the next clip.
    pub fn note(&mut self, bad: Option<Bad>) -> anyhow::Result<()> {
        self.checked += 1;
        self.bad.extend(bad);
        if self.saved.elapsed() >= SAVE_EVERY { self.save() } else { Ok(()) }
    }

    /// Writes what is new.
    pub fn save(&mut self) -> anyhow::Result<()> {
        self.saved = Instant::now();
        let Some((path, file)) = &mut self.kept else { return Ok(()) };
        let line = Line { checked: self.checked, bad: self.bad[self.bad_saved..].to_vec() };
        let line = serde_json::to_string(&line).context("can't write the state as JSON")?;
        file.write_all(format!("{line}\n").as_bytes()).with_context(|| format!("can't write {}", path.display()))?;
        self.bad_saved = self.bad.len();
        Ok(())
    }

    /// All bad clips. The file has served: the next check begins anew.
    pub fn finish(self) -> anyhow::Result<Vec<Bad>> {
        if let Some((path, _)) = &self.kept {
            std::fs::remove_file(path).with_context(|| format!("can't remove the state file {}", path.display()))?;
        }
        Ok(self.bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(digest: &str) -> Head {
        Head { digest: digest.to_owned(), clips: 9, decoded: true }
    }

    fn bad(clip: usize) -> Bad {
        Bad { clip, key: "k".into(), object: "o".into(), fault: "store".into(), reason: "gone\nor so".into() }
    }

    #[test]
    fn a_torn_state_goes_on_after_its_last_whole_line() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("state");
        let mut first = State::open(Some(&path), head("a")).expect("opens");
        first.note(Some(bad(0))).expect("writes");
        first.note(None).expect("writes");
        first.save().expect("writes");
        first.note(Some(bad(2))).expect("writes");
        drop(first);
        let whole = std::fs::read_to_string(&path).expect("is there");
        std::fs::write(&path, format!("{whole}{{\"checked\": 7, \"ba")).expect("write");
        let mut second = State::open(Some(&path), head("a")).expect("opens");
        assert_eq!((second.checked(), second.bad.clone()), (2, vec![bad(0)]));
        second.note(Some(bad(2))).expect("writes");
        second.save().expect("writes");
        let third = State::open(Some(&path), head("a")).expect("opens");
        assert_eq!((third.checked(), third.bad.clone()), (3, vec![bad(0), bad(2)]));
        assert_eq!(third.finish().expect("removes").len(), 2);
        assert!(!path.exists());
    }

    #[test]
    fn the_state_of_another_check_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("state");
        State::open(Some(&path), head("a")).expect("opens");
        let refused = |head: Head| State::open(Some(&path), head).err().expect("refused").to_string();
        assert!(refused(head("b")).contains("is the state of another check"));
        std::fs::write(&path, "my notes").expect("write");
        assert!(refused(head("a")).contains("is no state of a check"));
        assert_eq!(std::fs::read(&path).expect("is there"), b"my notes");
    }
}
