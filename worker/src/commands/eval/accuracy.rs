//! How right a network is: clip by clip, and video by video over all its views.

use std::collections::BTreeMap;

use anyhow::ensure;
use serde::Serialize;

use crate::commands::report::Entry;
use crate::compute::Batch;
use crate::device::measure::Look;

/// A video and what was seen in its clips.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its name in the data set.
    pub key: String,
    /// Its class.
    pub label: usize,
    /// One for every view and crop, in order.
    pub looks: Vec<Look>,
}

/// How often a network is right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracy {
    /// Share of the clips, each by itself, whose likeliest class is the right one.
    pub clip1: f64,
    /// The same of the videos, by the mean of their clips' probabilities.
    pub video1: f64,
    /// Share of the videos whose class is among the five likeliest.
    pub video5: f64,
}

/// How often a network is right about one class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassAccuracy {
    /// Videos of the class.
    pub videos: usize,
    /// As in [`Accuracy`].
    #[serde(flatten)]
    pub accuracy: Accuracy,
}

impl Seen {
    /// All classes from the likeliest on, by the sum of the clips' probabilities; the lower number first where two are
    /// as likely.
    pub fn ranking(&self) -> Vec<usize> {
        let classes = self.looks.first().map_or(0, |look| look.probabilities.len());
        let sum = |class: usize| self.looks.iter().map(|look| f64::from(look.probabilities[class])).sum::<f64>();
        let sums: Vec<f64> = (0..classes).map(sum).collect();
        let mut ranking: Vec<usize> = (0..classes).collect();
        ranking.sort_by(|a, b| sums[*b].total_cmp(&sums[*a]));
        ranking
    }
}

impl Seen {
    /// As an end of the list of costs may show it.
    pub fn entry(&self, clip: &Batch) -> Entry {
        Entry {
            key: self.key.clone(),
            label: self.label,
            taken_for: self.ranking().first().copied().unwrap_or(self.label),
            cost: self.looks.iter().map(|look| look.gmacs_all_in).sum::<f64>() / self.looks.len().max(1) as f64,
            clip: clip.clone(),
        }
    }
}

impl Accuracy {
    /// Over these videos; zeros for none.
    pub fn of<'a>(seen: impl Iterator<Item = &'a Seen>) -> Self {
        let (mut videos, mut clips, mut right) = (0_usize, 0_usize, [0_usize; 3]);
        for video in seen {
            videos += 1;
            clips += video.looks.len();
            right[0] += video.looks.iter().filter(|look| look.is_right).count();
            let place = video.ranking().iter().position(|class| *class == video.label);
            right[1] += usize::from(place == Some(0));
            right[2] += usize::from(place.is_some_and(|place| place < 5));
        }
        let share = |right: usize, of: usize| right as f64 / of.max(1) as f64;
        Self { clip1: share(right[0], clips), video1: share(right[1], videos), video5: share(right[2], videos) }
    }
}

/// Class by class; one without videos is left out.
pub fn per_class(seen: &[Seen], classes: &[String]) -> BTreeMap<String, ClassAccuracy> {
    let of_class = |(label, name): (usize, &String)| {
        let own = || seen.iter().filter(move |video| video.label == label);
        let videos = own().count();
        (videos > 0).then(|| (name.clone(), ClassAccuracy { videos, accuracy: Accuracy::of(own()) }))
    };
    classes.iter().enumerate().filter_map(of_class).collect()
}

/// How many videos of each class (row) were taken for each class (column).
pub fn confusion(seen: &[Seen], classes: usize) -> Vec<Vec<u64>> {
    let mut table = vec![vec![0; classes]; classes];
    for video in seen {
        if let Some(taken_for) = video.ranking().first() {
            table[video.label][*taken_for] += 1;
        }
    }
    table
}

/// Every video of a set once: none twice, none of an unknown class, none missing but those that are left out.
pub fn check_each_once(seen: &[Seen], (left_out, asked, classes): (usize, u64, usize)) -> anyhow::Result<()> {
    let mut keys: Vec<&str> = seen.iter().map(|video| video.key.as_str()).collect();
    keys.sort_unstable();
    for pair in keys.windows(2) {
        ensure!(pair[0] != pair[1], "the loader sent the clip {:?} twice: nothing is reported", pair[0]);
    }
    if let Some(video) = seen.iter().find(|video| video.label >= classes) {
        anyhow::bail!("the clip {:?} has label {}, but the network has {classes} classes", video.key, video.label);
    }
    let got = (seen.len() + left_out) as u64;
    ensure!(got == asked, "{asked} videos were asked for, {got} came: nothing is reported");
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A video whose clips gave these probabilities.
    pub fn seen(key: &str, label: usize, clips: &[&[f32]]) -> Seen {
        let look = |probabilities: &&[f32]| {
            let best = probabilities.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("classes").0;
            Look {
                label: label as i64,
                is_right: best == label,
                probabilities: probabilities.to_vec(),
                gmacs_paper: 1.0,
                gmacs_all_in: 1.1,
                gates: Vec::new(),
            }
        };
        Seen { key: key.to_owned(), label, looks: clips.iter().map(look).collect() }
    }

    fn videos() -> Vec<Seen> {
        vec![
            // Two of three clips are wrong, and yet the mean is right.
            seen("a", 0, &[&[0.9, 0.1, 0.0], &[0.4, 0.6, 0.0], &[0.4, 0.6, 0.0]]),
            // The other way round.
            seen("b", 1, &[&[1.0, 0.0, 0.0], &[0.4, 0.6, 0.0], &[0.4, 0.6, 0.0]]),
        ]
    }

    #[test]
    fn a_video_is_judged_by_the_mean_of_its_clips() {
        let videos = videos();
        assert_eq!((videos[0].ranking(), videos[1].ranking()), (vec![0, 1, 2], vec![0, 1, 2]));
        assert_eq!(Accuracy::of(videos.iter()), Accuracy { clip1: 0.5, video1: 0.5, video5: 1.0 });
    }

    #[test]
    fn the_fifth_likeliest_class_counts_and_the_sixth_does_not() {
        let at = |label| Accuracy::of([seen("v", label, &[&[0.3, 0.2, 0.19, 0.18, 0.09, 0.04]])].iter()).video5;
        assert_eq!((at(4), at(5)), (1.0, 0.0));
    }

    #[test]
    fn classes_are_told_apart() {
        let classes = ["x".to_owned(), "y".to_owned(), "unseen".to_owned()];
        let table = per_class(&videos(), &classes);
        assert_eq!(table.keys().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!((table["x"].accuracy.video1, table["y"].accuracy.video1, table["y"].videos), (1.0, 0.0, 1));
        assert_eq!(confusion(&videos(), 3), [[1, 0, 0], [1, 0, 0], [0, 0, 0]]);
    }

    #[test]
    fn a_video_that_comes_twice_or_not_at_all_spoils_the_evaluation() {
        let check = |seen: &[Seen], left_out, asked| check_each_once(seen, (left_out, asked, 3));
        assert!(check(&videos(), 1, 3).is_ok());
        assert!(check(&videos(), 0, 3).expect_err("one is missing").to_string().contains("3 videos were asked for, 2"));
        let twice = [videos(), videos()].concat();
        assert!(check(&twice, 0, 4).expect_err("twice").to_string().contains("\"a\" twice"));
        let odd = [seen("c", 7, &[&[1.0, 0.0, 0.0]])];
        assert!(check(&odd, 0, 1).expect_err("no such class").to_string().contains("label 7"));
    }
}
