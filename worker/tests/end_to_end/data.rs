//! Clips to train on, made by the ffmpeg program and packed by the loader's own command; and a recipe for them.

use std::{fs, path::Path, process::Command};

use crate::run::program;

/// Training clips of each class. With [`RECIPE`]'s batches an epoch is ten steps.
const TRAIN_CLIPS: usize = 80;
/// Different videos of each class; the other clips are copies of them.
const VIDEOS: usize = 4;

/// The smallest network, for seconds: three epochs, a checkpoint after each.
const RECIPE: &str = r#"
name = "small"
[run]
seed = 3
lanes = 2
batch_clips = 16
checkpoint_every_steps = 1000
threads = 1
precise_bn_batches = 2
[data]
train = "data/train"
val = "data/val"
frames = 4
stride = 2
short_side = [34, 40]
crop = 32
flip = false
mean = [0.45, 0.45, 0.45]
std = [0.25, 0.25, 0.25]
[model]
backbone = "r2plus1d"
blocks = [1, 1, 1, 1]
widths = [8, 8, 8, 8]
midplanes = "shared"
stem = 4
classes = 2
dropout = 0.2
dynamic = "all"
axes = "both"
search_space = 2
[model.gate]
hidden = 8
full_bias = 1.5
other_bias = 0.5
[optim]
momentum = 0.9
nesterov = true
weight_decay = 5e-4
gate_lr_scale = 0.1
label_smoothing = 0.1
clip_norm = 5.0
ema_decay = 0.9
[optim.mix]
mixup = 0.8
cutmix = 1.0
probability = 0.5
[[stages]]
name = "accuracy"
epochs = 2
lr = 0.05
warmup_epochs = 1.0
lambda = 0.0
[[stages]]
name = "redundancy"
epochs = 1
lr = 0.03
lambda = [0.0, 2.0]
"#;

/// Puts `small.toml` and a store with the data set into the folder.
pub fn make(folder: &Path) {
    fs::write(folder.join("small.toml"), RECIPE).expect("the recipe is written");
    for (class, source) in [("bars", "testsrc2=size=64x48:rate=15"), ("zoom", "mandelbrot=size=64x48:rate=15")] {
        for split in ["train", "val"] {
            fs::create_dir_all(folder.join("videos").join(split).join(class)).expect("a folder");
        }
        let videos: Vec<_> = (0..VIDEOS).map(|i| video(&folder.join(format!("{class}-{i}.mp4")), source, i)).collect();
        for (i, video) in (0..TRAIN_CLIPS).zip(videos.iter().cycle()) {
            fs::write(folder.join(format!("videos/train/{class}/{i}.mp4")), video).expect("a clip is written");
        }
        fs::write(folder.join(format!("videos/val/{class}/0.mp4")), &videos[0]).expect("a clip is written");
    }
    let packed = Command::new(program("dataloader"))
        .args(["pack", "--from", "videos/train", "--to", "store/data/train"])
        .args(["--val-from", "videos/val", "--val-to", "store/data/val"])
        .current_dir(folder)
        .output()
        .expect("the loader's program runs");
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
}

fn video(path: &Path, source: &str, turn: usize) -> Vec<u8> {
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-t", "0.8", "-i", source])
        .args(["-vf", &format!("hue=h={}", turn * 40), "-c:v", "libx264", "-preset", "ultrafast", "-threads", "1"])
        .args(["-pix_fmt", "yuv420p"])
        .arg(path)
        .output()
        .expect("the ffmpeg program is installed: cargo xtask setup");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::read(path).expect("ffmpeg wrote it")
}

/// Damages the first training clip inside its shard, after packing, and says its name.
pub fn break_a_clip(folder: &Path) -> String {
    let set = folder.join("store/data/train");
    let files = fs::read_dir(&set).expect("packed").map(|file| file.expect("listed").path());
    let shard = files.filter(|path| path.extension().is_some_and(|e| e == "tar")).min().expect("there is a shard");
    let mut bytes = fs::read(&shard).expect("the shard is there");
    // A tar file begins with a block that holds its first member's name, and its length in octal digits.
    let text =
        |range: std::ops::Range<usize>| String::from_utf8_lossy(&bytes[range]).trim_matches(['\0', ' ']).to_owned();
    let (name, length) = (text(0..100), usize::from_str_radix(&text(124..136), 8).expect("a length"));
    bytes[512..][..length].fill(0);
    fs::write(&shard, bytes).expect("the shard is written");
    name.rsplit_once('.').expect("an extension").0.to_owned()
}
