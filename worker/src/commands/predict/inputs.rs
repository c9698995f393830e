//! Which videos a command line names.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// Endings that a folder is searched for; a file that is named itself may have any.
const ENDINGS: [&str; 16] =
    ["3gp", "asf", "avi", "flv", "gif", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ogv", "ts", "webm", "wmv"];

/// One video to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// What comes in on standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Input {
    /// As it is called in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Stdin => "-".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// All videos in the order of the command line; a folder stands for its videos and those of its sub-folders, sorted.
///
/// A file that is not there is not noticed here: it is told in its turn, and the others go on.
pub fn find(named: &[PathBuf]) -> anyhow::Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for path in named {
        if path.as_os_str() == "-" {
            inputs.push(Input::Stdin);
        } else if path.is_dir() {
            let before = inputs.len();
            walk(path, &mut inputs)?;
            anyhow::ensure!(
                inputs.len() > before,
                "no video in {}: it knows *.{}",
                path.display(),
                ENDINGS.join(", *.")
            );
        } else {
            inputs.push(Input::File(path.clone()));
        }
    }
    Ok(inputs)
}

fn walk(folder: &Path, inputs: &mut Vec<Input>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = entries.with_context(|| format!("can't list the folder {}", folder.display()))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // Links are not followed into folders: they may lead in a circle.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, inputs)?;
        } else if is_video(&path) {
            inputs.push(Input::File(path));
        }
    }
    Ok(())
}

fn is_video(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_videos() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        std::fs::create_dir_all(root.join("b/c")).expect("folders");
        for name in ["z.mp4", "b/c/x.MKV", "b/readme.txt", "a.webm"] {
            std::fs::write(root.join(name), "").expect("written");
        }
        let named = [PathBuf::from("-"), root.to_owned(), root.join("b/readme.txt"), PathBuf::from("gone.mp4")];
        let found: Vec<String> = find(&named).expect("found").iter().map(Input::name).collect();
        let below = |name: &str| root.join(name).display().to_string();
        let expected = [
            "-".to_owned(),
            below("a.webm"),
            below("b/c/x.MKV"),
            below("z.mp4"),
            below("b/readme.txt"),
            "gone.mp4".into(),
        ];
        assert_eq!(found, expected);
        let error = find(&[root.join("b/c"), {
            std::fs::remove_file(root.join("b/c/x.MKV")).expect("gone");
            root.join("b/c")
        }]);
        assert!(error.expect_err("nothing there").to_string().starts_with("no video in "));
    }
}
