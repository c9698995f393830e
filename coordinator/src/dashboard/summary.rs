//! The last words about a run.

use super::{
    Tally,
    tally::{clock, compute},
};

/// Broken clips that are listed by name.
const LISTED: usize = 10;

impl Tally {
    /// Steps, time, accuracy, compute, checkpoint and broken clips, a line each.
    pub fn summary(&self) -> String {
        let mut lines = vec![("steps", self.steps_line())];
        if let Some(top1) = self.top1_line() {
            lines.push(("top-1", top1));
        }
        if let Some(last) = self.evaluations.values().last() {
            let (paper, all_in) = (last.gmacs_paper, last.gmacs_all_in);
            let spread = format!("min {:.3}, max {:.3}; by the paper's count {:.3}", all_in.min, all_in.max, paper.avg);
            lines.push(("compute", format!("{}, {spread}", compute(all_in.avg, last.gmacs_backbone))));
        }
        let prefix = self.commit.as_ref().map_or("none yet", |commit| commit.prefix.as_str());
        lines.push(("checkpoint", prefix.to_owned()));
        if let Some(first) = self.setbacks.first() {
            let more = self.setbacks.len() - 1;
            let times = if more == 0 { "once: ".to_owned() } else { format!("{} times, first: ", more + 1) };
            lines.push(("set back", format!("{times}{first}")));
        }
        let mut text: Vec<String> = lines.into_iter().map(|(name, line)| format!("  {name:<12}{line}")).collect();
        text.extend(self.broken_clips());
        text.join("\n")
    }

    fn steps_line(&self) -> String {
        let total = self.total_steps.map_or_else(String::new, |total| format!(" of {total}"));
        let elapsed = self.started_at.elapsed();
        format!("{}{total}; {} in {} since this start", self.step, self.steps_here, clock(elapsed))
    }

    fn top1_line(&self) -> Option<String> {
        let last = self.evaluations.values().last()?;
        let best = self.evaluations.values().max_by(|a, b| a.top1.total_cmp(&b.top1))?;
        let of = |epoch: u64| format!("epoch {}", epoch + 1);
        Some(format!(
            "{:.1} % after {}; best {:.1} % after {}",
            last.top1 * 100.0,
            of(last.epoch),
            best.top1 * 100.0,
            of(best.epoch)
        ))
    }

    fn broken_clips(&self) -> Vec<String> {
        let count = self.quarantined.len();
        if count == 0 {
            return Vec::new();
        }
        let mut lines = vec![format!(
            "  {:<12}broken clips, replaced in training and left out of validation: {count}",
            "quarantined"
        )];
        for (key, (reason, times)) in self.quarantined.iter().take(LISTED) {
            lines.push(format!("    {key}: {reason} (met {times}×)"));
        }
        if count > LISTED {
            lines.push(format!("    and {} more; metrics.jsonl has them all", count - LISTED));
        }
        lines
    }
}
