//! Every path that a run uses, below the store's root. Nothing else in the system spells one.

use cluster::ids::{GenerationNumber, RunName};

/// The weights, with the published backbone's keys.
pub const MODEL: &str = "model.safetensors";
/// The averaged weights with the same keys, of a run whose recipe asks for an average: what is evaluated and handed on.
pub const AVERAGE: &str = "average.safetensors";
/// The optimiser's state.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// Progress and whatever else the trainer needs to go on.
pub const RUN: &str = "run.json";
/// Length and digest of the others; written last.
pub const MANIFEST: &str = "manifest.json";

/// The folder of a run's journal.
pub fn journal(run: &RunName) -> String {
    format!("runs/{run}/journal")
}

/// One entry of a run's journal; entries count from 1.
pub fn journal_entry(run: &RunName, number: u64) -> String {
    format!("{}/{number:08}.json", journal(run))
}

/// The number of a journal entry, from its object's name.
pub fn journal_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    (digits.len() >= 8).then(|| digits.parse().ok()).flatten()
}

/// The folder of a run's checkpoints.
pub fn checkpoints(run: &RunName) -> String {
    format!("runs/{run}/checkpoints")
}

/// The folder of one checkpoint. A name is used once: one generation stores a step at most once.
pub fn checkpoint(run: &RunName, step: u64, generation: GenerationNumber) -> String {
    format!("{}/{step:08}-g{generation}", checkpoints(run))
}

/// One object of a checkpoint.
pub fn object(prefix: &str, name: &str) -> String {
    format!("{prefix}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_the_guide_says() {
        let run: RunName = "demo".parse().expect("a good name");
        assert_eq!(journal_entry(&run, 7), "runs/demo/journal/00000007.json");
        assert_eq!(checkpoint(&run, 150, GenerationNumber(2)), "runs/demo/checkpoints/00000150-g2");
        assert_eq!(
            object("runs/demo/checkpoints/00000150-g2", MODEL),
            "runs/demo/checkpoints/00000150-g2/model.safetensors"
        );
    }

    #[test]
    fn journal_numbers_sort_and_come_back() {
        for number in [1, 99_999_999, 100_000_000] {
            let run: RunName = "demo".parse().expect("a good name");
            let path = journal_entry(&run, number);
            assert_eq!(journal_number(path.rsplit('/').next().expect("a name")), Some(number));
        }
        for other in ["manifest.json", "1.json", "0000000x.json", "00000001.json.tmp"] {
            assert_eq!(journal_number(other), None, "{other}");
        }
    }
}
