//! Which videos the demo's clips are cut from: known real ones, any videos in a folder, or rendered ones.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::sources::{is_video, sorted};

/// One source of clips.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// For file names; sources are used in the order of their names.
    pub name: String,
    /// The video, or how to render it.
    pub content: Content,
    /// Where the action is, as a share of width and height.
    pub centre: (f64, f64),
    /// Whether it moves enough that six times its speed looks fast.
    pub lively: bool,
}

/// What ffmpeg reads.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A file.
    File(PathBuf),
    /// A graph of ffmpeg's own sources.
    Rendered(String),
}

/// Sources of the training and of the held-out clips; none is in both.
#[derive(Debug, Clone, PartialEq)]
pub struct Footage {
    /// For training.
    pub train: Vec<Source>,
    /// Held out.
    pub val: Vec<Source>,
    /// Where it comes from, for people.
    pub origin: String,
}

/// A video that is known to suit: the end of its path, and what its path holds as well.
struct Known {
    name: &'static str,
    ends: &'static str,
    holds: &'static str,
    val: bool,
    centre: (f64, f64),
    lively: bool,
}

const fn known(name: &'static str, (holds, ends): (&'static str, &'static str), val: bool) -> Known {
    Known { name, ends, holds, val, centre: (0.5, 0.5), lively: true }
}

/// Real videos in the packages that `cargo xtask demo` fetches. Passed over in them: copies, screen recordings, and a
/// montage full of cuts. The earth turns so slowly that six times its speed looks still.
const KNOWN: [Known; 12] = [
    known("multi1", ("demo_multiperson", "cam01.mp4"), false),
    known("multi2", ("demo_multiperson", "cam02.mp4"), false),
    known("multi3", ("demo_multiperson", "cam03.mp4"), false),
    known("multi4", ("demo_multiperson", "cam04.mp4"), false),
    known("single1", ("demo_singleperson", "cam01.mp4"), false),
    known("single2", ("demo_singleperson", "cam02.mp4"), false),
    Known { centre: (0.45, 0.5), ..known("car", ("", "carphone_pristine.mp4"), false) },
    known("bunny", ("", "bigbuckbunny.mp4"), false),
    Known { lively: false, ..known("earth", ("videos", "world.mp4"), false) },
    known("single3", ("demo_singleperson", "cam03.mp4"), true),
    known("single4", ("demo_singleperson", "cam04.mp4"), true),
    known("sports", ("sports2d", "demo.mp4"), true),
];

/// Videos in a folder and its sub-folders: the known ones where there are some for both splits, else all of them,
/// every fourth held out.
pub fn find(folder: &Path) -> anyhow::Result<Footage> {
    let mut files = Vec::new();
    walk(folder, &mut files)?;
    if let Some(footage) = find_known(folder, &files) {
        return Ok(footage);
    }
    if files.len() < 2 {
        let (folder, found) = (folder.display(), files.len());
        bail!("{folder} holds {found} videos: at least two are needed, so that train and held-out clips differ");
    }
    let mut footage = Footage {
        train: Vec::new(),
        val: Vec::new(),
        origin: format!("{} videos in {}", files.len(), folder.display()),
    };
    for (n, path) in files.into_iter().enumerate() {
        let source =
            Source { name: format!("video{n:04}"), content: Content::File(path), centre: (0.5, 0.5), lively: true };
        if n % 4 == 1 { footage.val.push(source) } else { footage.train.push(source) }
    }
    Ok(footage)
}

fn find_known(folder: &Path, files: &[PathBuf]) -> Option<Footage> {
    let mut footage = Footage { train: Vec::new(), val: Vec::new(), origin: String::new() };
    for known in &KNOWN {
        let fits = |path: &&PathBuf| {
            let below = path.strip_prefix(folder).unwrap_or(path).to_string_lossy().to_ascii_lowercase();
            below.ends_with(known.ends) && below.contains(known.holds)
        };
        let Some(path) = files.iter().find(fits) else { continue };
        let source = Source {
            name: known.name.to_owned(),
            content: Content::File(path.clone()),
            centre: known.centre,
            lively: known.lively,
        };
        if known.val { footage.val.push(source) } else { footage.train.push(source) }
    }
    footage.train.sort_by(|a, b| a.name.cmp(&b.name));
    footage.val.sort_by(|a, b| a.name.cmp(&b.name));
    footage.origin = format!("{} real videos in {}", footage.train.len() + footage.val.len(), folder.display());
    (footage.train.iter().any(|source| source.lively) && !footage.val.is_empty()).then_some(footage)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for path in sorted(folder)? {
        if path.is_dir() {
            walk(&path, files)?;
        } else if is_video(&path.to_string_lossy()) {
            files.push(path);
        }
    }
    Ok(())
}

/// Footage without any file: coloured things that wander over a fractal landscape, nine for training, three held out.
pub fn render() -> Footage {
    let source = |n: u32| Source {
        name: format!("rendered{n:02}"),
        content: Content::Rendered(graph(n)),
        centre: (0.5, 0.5),
        lively: true,
    };
    let origin = "footage rendered by ffmpeg (real videos: --footage DIR)".to_owned();
    Footage { train: (0..9).map(source).collect(), val: (9..12).map(source).collect(), origin }
}

/// Frames of a rendered source.
const RENDERED_FRAMES: u32 = 240;

/// Places in the Mandelbrot set with structure at every scale: x, y, width.
const LANDSCAPES: [(f64, f64, f64); 12] = [
    (-0.743_6, 0.131_8, 0.03),
    (-0.101_1, 0.956_3, 0.10),
    (-1.250_6, 0.020_1, 0.04),
    (-0.748_0, 0.100_0, 0.02),
    (0.275_0, 0.006_0, 0.03),
    (-0.088_0, 0.654_0, 0.05),
    (-1.768_8, 0.001_7, 0.03),
    (-0.160_7, 1.037_6, 0.06),
    (0.360_2, -0.641_3, 0.05),
    (-0.235_1, 0.827_2, 0.04),
    (-1.401_1, 0.000_1, 0.05),
    (-0.563_0, 0.643_0, 0.05),
];

/// Things on the landscape: three rows of four, so near each other that every window shows some.
const THINGS: u32 = 12;

/// A still landscape, and things on closed paths over it, each at its own pace.
fn graph(n: u32) -> String {
    let (x, y, width) = LANDSCAPES[n as usize % LANDSCAPES.len()];
    let land = format!(
        "mandelbrot=s=384x288:maxiter=300:start_scale={width}:end_scale={width}:start_x={x}:start_y={y}:rate=30,\
         trim=end_frame=1,loop=loop={}:size=1:start=0,setpts=N/30/TB,hue=h={}:s=0.9,eq=brightness=0.12,format=yuv420p[w0]",
        RENDERED_FRAMES - 1,
        37 * n
    );
    let things = (0..THINGS).map(|k| {
        let (side, colour) = (22 + (n * 7 + k * 13) % 24, COLOURS[((n * 3 + k * 5) % 8) as usize]);
        let (pace_x, pace_y) = (0.8 + 0.13 * f64::from((n + 2 * k) % 7), 0.7 + 0.17 * f64::from((2 * n + k) % 5));
        let (left, top, phase) = (k % 4 * 96 + 30, k / 4 * 96 + 30, k + n);
        format!(
            ";color={colour}:s={side}x{side}:r=30,drawgrid=w=11:h=11:t=3:c=white@0.7[t{k}];\
             [w{k}][t{k}]overlay=x='{left}+40*sin({pace_x:.2}*t+{phase})':y='{top}+35*cos({pace_y:.2}*t+{phase})':\
             eval=frame:shortest=0[w{}]",
            k + 1
        )
    });
    format!("{land}{};[w{THINGS}]trim=end_frame={RENDERED_FRAMES}", things.collect::<String>())
}

const COLOURS: [&str; 8] = ["red", "teal", "orange", "navy", "olive", "purple", "sienna", "black"];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("temporary folder");
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("has a folder")).expect("create");
            std::fs::write(path, b"x").expect("write");
        }
        folder
    }

    fn names(sources: &[Source]) -> Vec<&str> {
        sources.iter().map(|source| source.name.as_str()).collect()
    }

    #[test]
    fn known_videos_are_found_in_any_layout() {
        let unpacked = folder(&[
            "Pose2Sim/Demo_SinglePerson/videos/cam01.mp4",
            "Pose2Sim/Demo_SinglePerson/videos/cam03.mp4",
            "Pose2Sim/Demo_Batch/Trial_1/videos/cam01.mp4",
            "gradio/media_assets/videos/world.mp4",
            "gradio/media_assets/videos/a.mp4",
        ]);
        let footage = find(unpacked.path()).expect("finds");
        assert_eq!((names(&footage.train), names(&footage.val)), (vec!["earth", "single1"], vec!["single3"]));
        let flat = folder(&["pose2sim__Demo_MultiPerson_videos_cam02.mp4", "sports2d__Demo_demo.mp4"]);
        let footage = find(flat.path()).expect("finds");
        assert_eq!((names(&footage.train), names(&footage.val)), (vec!["multi2"], vec!["sports"]));
    }

    #[test]
    fn any_two_videos_will_do_and_none_is_in_both_splits() {
        let own = folder(&["a.mp4", "b/c.mov", "d.webm", "notes.txt"]);
        let footage = find(own.path()).expect("finds");
        assert_eq!((footage.train.len(), footage.val.len()), (2, 1));
        let content = |sources: &[Source]| sources.iter().map(|s| format!("{:?}", s.content)).collect::<HashSet<_>>();
        assert!(content(&footage.train).is_disjoint(&content(&footage.val)));
        let one = folder(&["a.mp4"]);
        assert!(find(one.path()).expect_err("one").to_string().contains("holds 1 videos: at least two"));
    }

    #[test]
    fn rendered_sources_differ() {
        let footage = render();
        let all = footage.train.iter().chain(&footage.val);
        let graphs: HashSet<String> = all.map(|source| format!("{:?}", source.content)).collect();
        assert_eq!(graphs.len(), 12);
    }
}
