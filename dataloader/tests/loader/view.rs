//! `dataloader view`, as it is typed.

use std::path::Path;
use std::process::{Command, Output};

use crate::footage::File::{self, Video, WebPage};
use crate::footage::{data_set, videos};
use crate::run::recipe;

fn view(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dataloader"));
    command.arg("view").args(arguments).current_dir(folder).output().expect("runs")
}

async fn folder_with(files: &[File]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::create_dir(folder.path().join("set")).expect("a folder");
    data_set(&format!("file://{}/set", folder.path().display()), files).await;
    std::fs::write(folder.path().join("my recipe.toml"), recipe()).expect("write");
    folder
}

/// The colours of a PNG, and how wide it is.
fn read(path: &Path) -> (usize, Vec<u8>) {
    let file = std::io::BufReader::new(std::fs::File::open(path).expect("a file"));
    let mut reader = png::Decoder::new(file).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("small")];
    reader.next_frame(&mut pixels).expect("whole");
    (reader.info().width as usize, pixels)
}

/// A square of it.
fn square((width, pixels): &(usize, Vec<u8>), (left, top): (usize, usize), side: usize) -> Vec<u8> {
    (top..top + side).flat_map(|y| pixels[(y * width + left) * 3..][..side * 3].to_vec()).collect()
}

#[tokio::test]
async fn the_sheet_shows_what_a_model_would_see() {
    let folder = folder_with(&[Video(0), Video(1)]).await;
    let out =
        view(folder.path(), &["set", "clip-001", "--recipe", "my recipe.toml", "--seeds", "3", "--out", "a b.png"]);
    let told = String::from_utf8(out.stdout).expect("text");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "clip-001, label 1 (right): a b.png, 116 x 144 pixels");
    assert_eq!(lines[1], "row 1: the source, frames 7 22 of 30");
    assert_eq!(lines[2], "row 2: as held-out clip: from frame 11, every 2., short side 32");
    assert!(lines[3].starts_with("row 3: in training, seed 0: from frame "), "{told}");
    assert_eq!(lines.len(), 6);

    let sheet = read(&folder.path().join("a b.png"));
    let data = dataloader::data::recipe::parse(&recipe()).expect("valid").data;
    for (row, seed) in [None, Some(0), Some(1), Some(2)].into_iter().enumerate() {
        let clip = clips::render(&data, videos()[1].clone(), seed, &mut clips::Scaler::default()).expect("renders");
        for (column, picture) in clip.chunks(24 * 24 * 3).enumerate() {
            let place = (4 + column * 28, 32 + row * 28);
            assert!(square(&sheet, place, 24) == picture, "row {row}, column {column}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_shown_is_one_line_that_says_why() {
    let folder = folder_with(&[Video(0), WebPage]).await;
    let refusal = |arguments: &[&str]| {
        let out = view(folder.path(), arguments);
        (out.status.code(), String::from_utf8(out.stderr).expect("text"))
    };
    let (code, line) = refusal(&["set", "clip-001"]);
    assert_eq!(code, Some(1));
    assert!(line.starts_with("error: can't show the clip \"clip-001\": the file is a web page"), "{line}");
    assert!(!folder.path().join("clip-001.png").exists());
    let (code, line) = refusal(&["set", "clip-7"]);
    let told = "error: there is no clip \"clip-7\" at set: its 2 clips begin with clip-000, clip-001\n";
    assert_eq!((code, line.as_str()), (Some(78), told));
    let (code, line) = refusal(&["nowhere", "clip-7"]);
    assert_eq!(code, Some(78));
    assert!(line.starts_with("error: ") && line.contains("nowhere") && line.lines().count() == 1, "{line}");
    let (code, line) = refusal(&["set", "clip-000", "--recipe", "none.toml"]);
    assert_eq!(code, Some(78));
    assert!(line.starts_with("error: can't read none.toml: No such file"), "{line}");
    // The default is the key's own name.
    assert_eq!(refusal(&["set", "clip-000"]).0, Some(0));
    assert!(folder.path().join("clip-000.png").exists());
}
