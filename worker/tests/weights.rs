//! Weights from a file that torch saved, through import, forward, export and profile, as a user types it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

/// An R(2+1)D of two channels: a legacy checkpoint of half precision, see its `tiny.py`.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../libs/models/tests/golden/tiny_r2plus1d.pth");

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the worker there.
    fn worker(&self, words: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
        command.current_dir(self.0.path()).env("OMP_NUM_THREADS", "1").args(words.split_whitespace());
        command.output().expect("the worker starts")
    }

    /// Runs it, expects success, and gives what it printed.
    fn done(&self, words: &str) -> String {
        let output = self.worker(words);
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs it, expects a refusal, and gives its one line.
    fn refused(&self, words: &str) -> String {
        let output = self.worker(words);
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(78), "{words}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    }

    /// Two clips of 8 × 32²: `clips` as bytes, or the same normalised as R(2+1)D's are.
    fn write_clips(&self, name: &str, normalised: bool) {
        let [n, t, h, w] = [2_usize, 8, 32, 32];
        let byte = |index: usize| (index * 7919 % 251) as u8;
        let bytes: Vec<u8> = (0..n * t * h * w * 3).map(byte).collect();
        if !normalised {
            return self.write(name, (Dtype::U8, vec![n, t, h, w, 3]), &bytes);
        }
        let (mean, std) = ([0.43216_f32, 0.394_666, 0.37645], [0.22803_f32, 0.22145, 0.216_989]);
        let mut floats = Vec::new();
        for clip in 0..n {
            for colour in 0..3 {
                for at in 0..t * h * w {
                    let value = f32::from(bytes[(clip * t * h * w + at) * 3 + colour]) / 255.0;
                    floats.extend(((value - mean[colour]) / std[colour]).to_le_bytes());
                }
            }
        }
        self.write(name, (Dtype::F32, vec![n, 3, t, h, w]), &floats);
    }

    fn write(&self, name: &str, (dtype, shape): (Dtype, Vec<usize>), data: &[u8]) {
        let view = TensorView::new(dtype, shape, data).expect("as many bytes as told");
        let bytes = safetensors::serialize([("clips", view)], None).expect("a good file");
        std::fs::write(self.file(name), bytes).expect("written");
    }

    /// Names, shapes and values of a file's tensors.
    fn read(&self, name: &str) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
        let bytes = std::fs::read(self.file(name)).expect("written");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let values = |view: &TensorView<'_>| {
            let floats = view.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four")));
            (view.shape().to_vec(), floats.collect())
        };
        file.tensors().iter().map(|(name, view)| (name.clone(), values(view))).collect()
    }
}

fn close(a: &[f32], b: &[f32], most: f32) -> bool {
    let largest = b.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= most * largest)
}

#[test]
fn imported_weights_compute_alike_from_bytes_and_floats_and_under_every_policy() {
    let folder = Folder::new();
    let said =
        folder.done(&format!("import {TINY} --output w.safetensors --dynamic --frames 8 --crop 32 --short-side 36"));
    assert!(said.contains("torch.save (before 1.6)") && said.contains("start anew"), "{said}");
    folder.write_clips("bytes.safetensors", false);
    folder.write_clips("floats.safetensors", true);
    let forward = |input: &str, policy: &str, more: &str| {
        folder.done(&format!(
            "forward --weights w.safetensors --input {input}.safetensors --policy {policy} --output out.safetensors {more}"
        ));
        folder.read("out.safetensors")
    };
    let full = forward("bytes", "full", "");
    assert!(close(&forward("floats", "full", "")["logits"].1, &full["logits"].1, 1e-4));
    assert_eq!(full["logits"].0, [2, 4]);
    let (soft, skip) = (forward("bytes", "soft", ""), forward("bytes", "skip", "--features"));
    assert!(close(&skip["logits"].1, &soft["logits"].1, 1e-4));
    // Sixteen layers choose; eighteen and three shortcuts and the head have outputs.
    let count = |start: &str| skip.keys().filter(|name| name.starts_with(start)).count();
    assert_eq!((count("gates."), count("features.")), (32, 22));
    assert_eq!(skip["features.layer2.0.conv1.0.3"].0, [2, 3, 4, 8, 8]);
    assert_eq!(skip["features.fc"].1, skip["logits"].1);
    let halves = r#"{"*":{"time":1,"channel":1}}"#;
    std::fs::write(folder.file("half.json"), halves).expect("written");
    let half = forward("bytes", "half.json", "");
    assert!(!close(&half["logits"].1, &full["logits"].1, 1e-3), "a forced policy changes nothing");
    assert_eq!(forward("bytes", halves, "")["logits"].1, half["logits"].1, "a text does what its file does");
    assert_eq!(half["gates.layer1.0.conv1.0.0.channel"].1, [0.0, 1.0, 0.0, 1.0]);
}

#[test]
fn what_is_exported_is_imported_as_the_same() {
    let folder = Folder::new();
    folder.done(&format!("import {TINY} --output w.safetensors --dynamic --frames 8 --crop 32 --short-side 36"));
    folder.done("export --weights w.safetensors --output all.safetensors");
    assert!(std::fs::read(folder.file("all.safetensors")).ok() == std::fs::read(folder.file("w.safetensors")).ok());
    folder.done("export --weights w.safetensors --output sub/plain.safetensors --backbone-only");
    let plain = folder.read("sub/plain.safetensors");
    assert!(plain.keys().all(|name| !name.starts_with("vared.")) && plain.contains_key("fc.weight"));
    let said = folder.done("import sub/plain.safetensors");
    assert!(said.contains("written to sub/plain.vared.safetensors"), "{said}");
    assert_eq!(folder.read("sub/plain.vared.safetensors"), plain);
    folder.done("export --weights w.safetensors --output program.pt --format torchscript");
    assert!(std::fs::read(folder.file("program.pt")).expect("written").starts_with(b"PK"));
    let refused = folder.refused("export --weights w.safetensors --output p.pt --format torchscript --policy skip");
    assert!(refused.contains("the same for every clip: give full, or a policy file"), "{refused}");
}

#[test]
fn a_profile_adds_up() {
    let folder = Folder::new();
    folder.done(&format!("import {TINY} --output w.safetensors --dynamic --frames 8 --crop 32 --short-side 36"));
    let policy = r#"{"*":{"channel":1}}"#;
    let table = folder
        .done(&format!("profile --weights w.safetensors --policy {policy} --batch 2 --repeats 3 --json profile.json"));
    assert!(table.contains("layer4.0.conv2.0.3") && table.contains("times its speed"), "{table}");
    let json: Value =
        serde_json::from_slice(&std::fs::read(folder.file("profile.json")).expect("written")).expect("JSON");
    let layers = json["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 22);
    let sum = |field: &str| layers.iter().map(|layer| layer[field].as_f64().expect("a number")).sum::<f64>();
    for field in ["macs_paper", "macs_all_in", "activations"] {
        assert_eq!(json["total"][field].as_f64(), Some(sum(field)), "{field}");
    }
    assert_eq!(json["backbone"]["macs_paper"].as_f64(), Some(sum("macs")));
    assert!(sum("macs_paper") < sum("macs") && sum("macs_all_in") > sum("macs_paper"));
    assert!(layers.iter().all(|layer| layer["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0)), "{json}");
    // Norms belong to the network, not to a layer's count.
    assert!(sum("parameters") + sum("added_parameters") < json["total"]["parameters"].as_f64().expect("a number"));
}

#[test]
fn bad_files_and_words_are_refused_in_one_line() {
    let folder = Folder::new();
    std::fs::write(folder.file("text.pth"), "no weights").expect("written");
    let whole = std::fs::read(TINY).expect("committed");
    std::fs::write(folder.file("cut.pth"), &whole[..whole.len() / 2]).expect("written");
    folder.done(&format!("import {TINY} --output w.safetensors --frames 8 --crop 32 --short-side 36"));
    folder.write("flat.safetensors", (Dtype::U8, vec![2, 3]), &[0; 6]);
    let evil = Path::new(env!("CARGO_MANIFEST_DIR")).join("../libs/tensorfile/tests/fixtures/malicious.pth");
    for (words, told) in [
        ("import none.pth".to_owned(), "can't read none.pth"),
        ("import text.pth".to_owned(), "can't import text.pth: neither PyTorch's torch.save"),
        ("import cut.pth".to_owned(), "can't import cut.pth: the file is damaged"),
        (format!("import {}", evil.display()), "asks for Python's `posix.system`"),
        (format!("import {TINY} --model x3d_m"), "missing"),
        (
            format!("import {TINY} --classes 7"),
            "head is for 4 classes, 7 are asked for: let it start anew with --head new",
        ),
        (format!("import {TINY} --classes none.txt"), "--classes: a number or a file is wanted; can't read none.txt"),
        (format!("import {TINY} --crop 4000"), "`height` is 4000: it must be from 8 to 2048"),
        ("forward --input flat.safetensors --output o".to_owned(), "give either a file, or a run with --run"),
        ("profile --weights none.safetensors".to_owned(), "can't read none.safetensors"),
        ("profile --weights flat.safetensors".to_owned(), "can't use flat.safetensors: these weights have no card"),
        ("profile --weights w.safetensors --clip 8x8".to_owned(), "--clip is 8x8"),
        ("profile --model r3d".to_owned(), "no published network \"r3d\"; there are r2plus1d_18,"),
    ] {
        let said = folder.refused(&words);
        assert!(said.contains(told), "{words}: {said}");
    }
    let output = folder.worker("forward --weights w.safetensors --input flat.safetensors --output o.safetensors");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("floats [n, 3, t, h, w] or bytes [n, t, h, w, 3] are wanted, they are Uint8 [2, 3]"),
        "{said}"
    );
    assert!(!folder.file("vared-was-here").exists() && !folder.file("o.safetensors").exists());
}
