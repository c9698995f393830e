//! The cheapest and the dearest videos, with their frames.

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jpeg_encoder::{ColorType, Encoder};

use crate::compute::Batch;

/// Videos at either end.
const EACH: usize = 4;
/// Frames that are shown of one.
const FRAMES: usize = 6;
/// Of 100.
const JPEG_QUALITY: u8 = 80;

/// A video as an end of the list of costs.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name in the data set.
    pub key: String,
    /// Its class.
    pub label: usize,
    /// What it was taken for.
    pub taken_for: usize,
    /// GMAC a clip, all-in, mean over its clips.
    pub cost: f64,
    /// One of its clips.
    pub clip: Batch,
}

/// The ends of the list, kept while videos pass.
#[derive(Debug, Default)]
pub struct Extremes {
    /// The cheapest first.
    pub cheapest: Vec<Entry>,
    /// The dearest first.
    pub dearest: Vec<Entry>,
}

impl Extremes {
    /// One more video. Of two that cost the same the earlier one stays.
    pub fn offer(&mut self, entry: &Entry) {
        keep(&mut self.cheapest, entry, |other| other.cost <= entry.cost);
        keep(&mut self.dearest, entry, |other| other.cost >= entry.cost);
    }
}

fn keep(list: &mut Vec<Entry>, entry: &Entry, comes_before: impl Fn(&Entry) -> bool) {
    let place = list.partition_point(comes_before);
    if place < EACH {
        list.insert(place, entry.clone());
        list.truncate(EACH);
    }
}

/// Some frames of a clip as addresses that hold the pictures themselves.
pub fn pictures(clip: &Batch) -> anyhow::Result<Vec<String>> {
    let [_, frames, height, width, _] = clip.shape;
    let picture_bytes = height * width * 3;
    let shown = FRAMES.min(frames);
    let picture = |n: usize| {
        let pixels = &clip.pixels_nthwc[n * frames / shown * picture_bytes..][..picture_bytes];
        let sides = (u16::try_from(width), u16::try_from(height));
        let (Ok(width), Ok(height)) = sides else { anyhow::bail!("frames of {width} × {height} are too large") };
        let mut jpeg = Vec::new();
        Encoder::new(&mut jpeg, JPEG_QUALITY)
            .encode(pixels, width, height, ColorType::Rgb)
            .context("can't encode a frame")?;
        Ok(format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg)))
    };
    (0..shown).map(picture).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, cost: f64) -> Entry {
        let clip = Batch {
            pixels_nthwc: vec![90; 8 * 16 * 16 * 3].into(),
            shape: [1, 8, 16, 16, 3],
            labels: vec![0],
            keys: vec![key.to_owned()],
        };
        Entry { key: key.to_owned(), label: 0, taken_for: 0, cost, clip }
    }

    #[test]
    fn only_the_ends_are_kept_in_order() {
        let mut extremes = Extremes::default();
        for (key, cost) in [("a", 3.0), ("b", 1.0), ("c", 2.0), ("d", 1.0), ("e", 9.0), ("f", 5.0), ("g", 9.0)] {
            extremes.offer(&entry(key, cost));
        }
        let keys = |list: &[Entry]| list.iter().map(|entry| entry.key.clone()).collect::<String>();
        assert_eq!((keys(&extremes.cheapest), keys(&extremes.dearest)), ("bdca".to_owned(), "egfa".to_owned()));
    }

    #[test]
    fn frames_become_pictures() {
        let pictures = pictures(&entry("a", 1.0).clip).expect("encodes");
        assert_eq!(pictures.len(), FRAMES);
        // A JPEG begins with ff d8 ff.
        assert!(pictures.iter().all(|picture| picture.starts_with("data:image/jpeg;base64,/9j/")));
    }
}
