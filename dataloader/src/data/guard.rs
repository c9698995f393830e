//! The judgement over broken clips: a few are replaced, many stop the run at once, with a sentence that says whether
//! the store, the decoder or the files are at fault.

use std::collections::VecDeque;

use crate::error::{ClipFault, Culprit};

/// How many of the most recent clips are looked at.
pub const WINDOW_CLIPS: usize = 64;

/// How many of them may cost their decoder. A video of the wild breaks; it takes its decoder along once in a lifetime.
const MAX_CRASHES: usize = 4;

/// Counts the broken ones among the most recent clips.
#[derive(Debug, Default)]
pub struct Guard {
    recent: VecDeque<Option<Culprit>>,
}

impl Guard {
    /// Notes one clip. Returns the sentence that ends the stream if more than half of the window is broken.
    pub fn saw(&mut self, key: &str, outcome: Result<(), &ClipFault>) -> Option<String> {
        if self.recent.len() == WINDOW_CLIPS {
            self.recent.pop_front();
        }
        self.recent.push_back(outcome.err().map(ClipFault::culprit));
        let fault = outcome.err()?;
        let broken = self.recent.iter().flatten().count();
        let is_too_much = broken > WINDOW_CLIPS / 2 || self.share(Culprit::Crashes) > MAX_CRASHES;
        is_too_much.then(|| self.sentence(broken, key, fault))
    }

    fn share(&self, culprit: Culprit) -> usize {
        self.recent.iter().flatten().filter(|c| **c == culprit).count()
    }

    fn sentence(&self, broken: usize, key: &str, fault: &ClipFault) -> String {
        let all = [Culprit::Store, Culprit::Decoder, Culprit::Files];
        // They are few when they are too many.
        let crashes = (self.share(Culprit::Crashes) > MAX_CRASHES).then_some(Culprit::Crashes);
        let culprit = crashes.or_else(|| all.into_iter().max_by_key(|culprit| self.share(*culprit)));
        let who = match culprit {
            Some(Culprit::Store) => "the store is at fault, it does not give back what was packed",
            Some(Culprit::Decoder) => "the decoder is at fault, this installation of ffmpeg can't read them",
            Some(Culprit::Crashes) => "the decoder is at fault, its processes are lost one after the other",
            Some(Culprit::Files) | None => "the files are at fault",
        };
        let of = self.recent.len();
        format!("{broken} of the last {of} clips are broken: {who}; the latest is {key:?}: {fault}")
    }
}

#[cfg(test)]
mod tests {
    use clips::VideoError;

    use super::*;
    use crate::decoder::Death;

    fn file() -> ClipFault {
        ClipFault::Video(VideoError::Empty)
    }

    #[test]
    fn half_is_borne_and_one_more_is_not() {
        let mut guard = Guard::default();
        for i in 0..2000 {
            let verdict = if i % 2 == 0 { guard.saw("k", Ok(())) } else { guard.saw("k", Err(&file())) };
            assert_eq!(verdict, None, "clip {i}");
        }
        let verdict = guard.saw("worst", Err(&file())).or_else(|| guard.saw("worst", Err(&file())));
        assert_eq!(
            verdict.expect("33 of 64"),
            "33 of the last 64 clips are broken: the files are at fault; the latest is \"worst\": the file is empty"
        );
    }

    #[test]
    fn a_handful_of_crashes_is_too_much() {
        let mut guard = Guard::default();
        let crash = ClipFault::Died(Death::Ended("signal: 11 (SIGSEGV)".into()));
        for _ in 0..MAX_CRASHES {
            assert_eq!(guard.saw("k", Ok(())), None);
            assert_eq!(guard.saw("k", Err(&crash)), None);
        }
        assert_eq!(
            guard.saw("worst", Err(&crash)).expect("5 of 9"),
            "5 of the last 9 clips are broken: the decoder is at fault, its processes are lost one after the other; the \
             latest is \"worst\": the decoder failed on it: its process ended: signal: 11 (SIGSEGV)"
        );
    }

    #[test]
    fn the_most_frequent_culprit_is_named() {
        let mut guard = Guard::default();
        for _ in 0..12 {
            assert_eq!(guard.saw("k", Err(&file())), None);
        }
        let missing = ClipFault::Object { object: "shard-0.tar".into(), reason: "not found".into() };
        let sentence = (0..64).find_map(|_| guard.saw("k", Err(&missing))).expect("too many");
        assert!(sentence.starts_with("33 of the last 33 clips are broken: the store is at fault"), "{sentence}");
        let codec = ClipFault::Video(VideoError::NoDecoder { codec: "av1".into() });
        let mut guard = Guard::default();
        let sentence = (0..64).find_map(|_| guard.saw("k", Err(&codec))).expect("too many");
        assert!(sentence.contains("the decoder is at fault"), "{sentence}");
    }
}
