//! What is said, and when.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cluster::{
    ids::GenerationNumber,
    report::{Commit, DataSet, Evaluation, Spread, StepReport, StepSeconds},
};

use super::*;

/// Collects what the lines view writes.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().expect("no writer panics"));
        String::from_utf8(bytes).expect("text").lines().map(str::to_owned).collect()
    }
}

fn scene() -> (Dashboard, Page, tempfile::TempDir) {
    let text = crate::recipes::text("demo").expect("embedded");
    let recipe = Recipe::parse(
        &text,
        &["stages=[{name=\"a\",epochs=2},{name=\"b\",epochs=2}]".parse().expect("a form of path=value")],
    )
    .expect("good");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let page = Page::default();
    let view = Box::new(lines::Lines::new(Box::new(page.clone())));
    let mut dashboard = Dashboard::new(&recipe, &Ledger::default(), folder.path(), view).expect("opens");
    let data_set = DataSet { train_clips: 64, val_clips: 8, digest: "d".to_owned(), classes: vec!["x".to_owned(); 8] };
    dashboard.hear(&Notice::Planned { data_set, total_steps: 8 });
    assert_eq!(page.take(), ["data: 64 train and 8 validation clips, 8 classes; 8 steps"]);
    (dashboard, page, folder)
}

fn step(step: u64) -> Notice {
    Notice::Step(StepReport {
        generation: GenerationNumber(1),
        step,
        loss: 2.0,
        top1: 0.25,
        gmacs: 0.5,
        gmacs_backbone: 2.0,
        learning_rate: 0.1,
        clips: 32,
        seconds: StepSeconds::default(),
    })
}

fn evaluated(epoch: u64, top1: f32) -> Notice {
    let spread = Spread { avg: 1.0, min: 0.5, max: 2.0 };
    Notice::Evaluated(Evaluation {
        generation: GenerationNumber(1),
        step: 2 * (epoch + 1),
        epoch,
        clips: 8,
        loss: 1.0,
        top1,
        gmacs_paper: spread,
        gmacs_all_in: spread,
        gmacs_backbone: 2.0,
    })
}

#[tokio::test(start_paused = true)]
async fn figures_come_at_intervals_and_with_the_last_step() {
    let (mut dashboard, page, _folder) = scene();
    for number in 1..=8 {
        dashboard.hear(&step(number));
        tokio::time::advance(Duration::from_secs(2)).await;
    }
    assert_eq!(
        page.take(),
        [
            "step 1/8 · epoch 1/4 a · loss 2.000 · top-1 25.0 % · 0.500 of 2.000 GFLOPs (25 %)",
            "step 4/8 · epoch 2/4 a · 16 clips/s · loss 2.000 · top-1 25.0 % · 0.500 of 2.000 GFLOPs (25 %) · 8s left",
            "step 7/8 · epoch 4/4 b · 16 clips/s · loss 2.000 · top-1 25.0 % · 0.500 of 2.000 GFLOPs (25 %) · 2s left",
            "step 8/8 · epoch 4/4 b · 16 clips/s · loss 2.000 · top-1 25.0 % · 0.500 of 2.000 GFLOPs (25 %) · 0s left"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_pause_for_evaluation_does_not_count_as_slow_steps() {
    let (mut dashboard, page, _folder) = scene();
    for number in 1..=3 {
        dashboard.hear(&step(number));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    dashboard.hear(&evaluated(0, 0.5));
    tokio::time::advance(Duration::from_secs(100)).await;
    dashboard.hear(&step(4));
    tokio::time::advance(Duration::from_secs(1)).await;
    dashboard.hear(&step(5));
    tokio::time::advance(Duration::from_secs(100)).await;
    let said = page.take();
    assert_eq!(
        said[1],
        "epoch 1/4 a · validation: top-1 50.0 % of 8 clips · loss 1.000 · 1.000 of 2.000 GFLOPs (50 %) (0.500 to 2.000)"
    );
    assert!(dashboard.tally.figures().contains("32 clips/s"), "{}", dashboard.tally.figures());
}

#[tokio::test(start_paused = true)]
async fn a_broken_clip_is_said_once_and_counted_always() {
    let (mut dashboard, page, _folder) = scene();
    for _ in 0..3 {
        dashboard.hear(&Notice::Quarantined { key: "a.mp4".to_owned(), reason: "no frames".to_owned() });
    }
    assert_eq!(page.take(), ["clip a.mp4 is broken: no frames"]);
    assert!(dashboard.close().contains("    a.mp4: no frames (met 3×)"));
}

#[tokio::test(start_paused = true)]
async fn the_summary_has_steps_accuracy_compute_and_checkpoint() {
    let (mut dashboard, _page, _folder) = scene();
    for number in 1..=4 {
        dashboard.hear(&step(number));
    }
    dashboard.hear(&evaluated(0, 0.75));
    dashboard.hear(&evaluated(1, 0.5));
    dashboard.hear(&Notice::Committed(Commit {
        step: 4,
        generation: GenerationNumber(1),
        prefix: "runs/demo/checkpoints/00000004-g1".to_owned(),
        manifest_digest: "m".to_owned(),
    }));
    dashboard.hear(&Notice::SetBack { cause: "x".to_owned(), generation: GenerationNumber(1), count: 1, of: 3 });
    tokio::time::advance(Duration::from_secs(75)).await;
    assert_eq!(
        dashboard.close().lines().collect::<Vec<_>>(),
        [
            "  steps       4 of 8; 4 in 1m15s since this start",
            "  top-1       50.0 % after epoch 2; best 75.0 % after epoch 1",
            "  compute     1.000 of 2.000 GFLOPs (50 %), min 0.500, max 2.000; by the paper's count 1.000",
            "  checkpoint  runs/demo/checkpoints/00000004-g1",
            "  set back    once: x; generation 1, about step 4, 0s after this start"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn checkpoints_are_said_only_while_stopping() {
    let (mut dashboard, page, _folder) = scene();
    let commit =
        Commit { step: 4, generation: GenerationNumber(1), prefix: "p".to_owned(), manifest_digest: "m".to_owned() };
    dashboard.hear(&Notice::Committed(commit.clone()));
    assert_eq!(page.take(), Vec::<String>::new());
    dashboard.hear(&Notice::Draining { by: "Ctrl-C".to_owned() });
    dashboard.hear(&Notice::Committed(commit));
    assert_eq!(page.take()[1], "checkpoint of step 4 committed: p");
}
