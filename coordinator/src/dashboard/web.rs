//! What a cluster's own tools ask by plain HTTP, on the port of the services: `/healthz` and `/metrics`.
//!
//! Health means that this process serves, not that a run goes on: a probe that waited for workers would keep them from
//! ever joining.

use std::{
    fmt::{Display, Write},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use cluster::{command::Notice, ledger::Ledger, report::StepReport};
use tonic::service::Routes;

/// The media type of Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The run in figures, as `/metrics` tells it. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Figures(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    total_steps: u64,
    generation: u64,
    workers: usize,
    loaders: usize,
    is_training: bool,
    step: Option<StepReport>,
    clips: u64,
    committed: Option<(u64, f64)>,
    held_out_top1: Option<f32>,
    set_backs: u64,
    quarantined: u64,
}

impl Figures {
    /// What the run's record says before anything happens. When a checkpoint was committed it does not say: to be gone on
    /// with is as good as new.
    pub fn of(ledger: &Ledger) -> Self {
        let committed = ledger.last_commit().map(|commit| (commit.step, now()));
        let total_steps = ledger.total_steps().unwrap_or_default();
        Self(Arc::new(Mutex::new(Known { total_steps, committed, ..Known::default() })))
    }

    /// Takes one notice in.
    pub fn hear(&self, notice: &Notice) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match notice {
            Notice::Planned { total_steps, .. } => known.total_steps = *total_steps,
            Notice::Generation { assembly, .. } => {
                known.generation = assembly.generation.0;
                known.workers = assembly.workers.len();
                known.loaders = assembly.loaders.len();
            }
            Notice::Formed { .. } => known.is_training = true,
            Notice::Step(report) => {
                known.clips += u64::from(report.clips);
                known.step = Some(report.clone());
            }
            Notice::Evaluated(evaluation) => known.held_out_top1 = Some(evaluation.top1),
            Notice::Committed(commit) => known.committed = Some((commit.step, now())),
            Notice::Quarantined { .. } => known.quarantined += 1,
            Notice::SetBack { .. } => {
                known.set_backs += 1;
                known.is_training = false;
            }
            Notice::Waiting { .. } | Notice::Draining { .. } => known.is_training = false,
            Notice::Dropped(_) | Notice::Warning(_) => {}
        }
    }

    /// All that is known, in Prometheus' text format. What no step has told yet is left out.
    pub fn text(&self) -> String {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = Page::default();
        page.gauge("vared_steps_planned", "Steps of the whole run.", known.total_steps);
        page.gauge("vared_generation", "Number of the present generation.", known.generation);
        page.gauge("vared_workers", "Workers in the present generation.", known.workers);
        page.gauge("vared_loaders", "Loaders in the present generation.", known.loaders);
        page.gauge("vared_training", "Whether a generation steps: 1 or 0.", u8::from(known.is_training));
        page.counter("vared_clips_total", "Clips trained on since this start.", known.clips);
        page.counter("vared_set_backs_total", "Generations that failed since this start.", known.set_backs);
        page.counter("vared_quarantined_clips_total", "Broken clips found since this start.", known.quarantined);
        if let Some(step) = &known.step {
            page.steps(step);
        }
        if let Some((step, time)) = known.committed {
            page.gauge("vared_committed_step", "Steps in the last checkpoint.", step);
            page.gauge("vared_commit_timestamp_seconds", "When it was committed, in seconds since 1970.", time);
        }
        if let Some(top1) = known.held_out_top1 {
            page.gauge("vared_held_out_top1", "Share classified correctly at the last evaluation.", top1);
        }
        page.0
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, "gauge", help, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, "counter", help, value);
    }

    fn metric(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        let text = format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n").to_string();
        self.0.push_str(&text);
    }

    fn steps(&mut self, step: &StepReport) {
        let seconds = step.seconds;
        let all = seconds.data_wait + seconds.compute + seconds.reduce;
        self.gauge("vared_step", "Steps applied.", step.step);
        self.gauge("vared_loss", "Mean loss of the last step.", step.loss);
        self.gauge("vared_top1", "Share classified correctly in the last step.", step.top1);
        self.gauge("vared_gmacs", "GMACs a clip that skipping inference would compute, all in.", step.gmacs);
        self.gauge("vared_gmacs_backbone", "GMACs a clip of the backbone.", step.gmacs_backbone);
        self.gauge("vared_learning_rate", "Learning rate of the last step.", step.learning_rate);
        self.gauge(
            "vared_data_wait_ratio",
            "Share of the last step that its workers waited for clips: above 0.1, add loaders.",
            if all > 0.0 { seconds.data_wait / all } else { 0.0 },
        );
        self.0
            .push_str("# HELP vared_step_seconds Where the last step's time went.\n# TYPE vared_step_seconds gauge\n");
        for (part, value) in
            [("data_wait", seconds.data_wait), ("compute", seconds.compute), ("reduce", seconds.reduce)]
        {
            writeln!(self.0, "vared_step_seconds{{part=\"{part}\"}} {value}").expect("a string takes all");
        }
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The services and beside them the two pages.
pub fn beside(services: Routes, figures: Figures) -> Routes {
    let metrics = move || async move { ([(CONTENT_TYPE, TEXT)], figures.text()) };
    let pages = Router::new().route("/healthz", get(|| async { "ok\n" })).route("/metrics", get(metrics));
    Routes::from(services.into_axum_router().merge(pages))
}

#[cfg(test)]
mod tests {
    use cluster::{
        ids::GenerationNumber,
        ledger::Entry,
        report::{Commit, DataSet, StepSeconds},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };
    use tokio_stream::wrappers::TcpListenerStream;

    use super::*;

    fn step(seconds: StepSeconds) -> Notice {
        Notice::Step(StepReport {
            generation: GenerationNumber(2),
            step: 7,
            loss: 1.25,
            top1: 0.5,
            gmacs: 0.5,
            gmacs_backbone: 1.0,
            learning_rate: 0.05,
            clips: 32,
            seconds,
        })
    }

    #[test]
    fn steps_are_counted_and_the_wait_for_data_is_a_share() {
        let figures = Figures::default();
        assert!(!figures.text().contains("vared_loss"), "no step has told it yet");
        for _ in 0..2 {
            figures.hear(&step(StepSeconds { data_wait: 1.0, compute: 2.0, reduce: 1.0 }));
        }
        let text = figures.text();
        for line in ["vared_step 7", "vared_clips_total 64", "vared_data_wait_ratio 0.25", "vared_loss 1.25"] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(text.contains("vared_step_seconds{part=\"compute\"} 2\n"), "{text}");
    }

    #[test]
    fn a_set_back_ends_training_until_the_next_generation_is_formed() {
        let figures = Figures::default();
        let training = || figures.text().contains("vared_training 1");
        figures.hear(&Notice::Formed { generation: GenerationNumber(1), step: 0 });
        assert!(training());
        figures.hear(&Notice::SetBack {
            cause: "worker-1 is gone".to_owned(),
            generation: GenerationNumber(1),
            count: 1,
            of: 3,
        });
        assert!(!training() && figures.text().contains("vared_set_backs_total 1"));
    }

    #[test]
    fn a_run_that_is_gone_on_with_knows_its_length_and_its_checkpoint() {
        let data_set = DataSet { train_clips: 8, val_clips: 1, digest: "d".to_owned(), classes: vec!["a".to_owned()] };
        let commit = Commit {
            step: 20,
            generation: GenerationNumber(1),
            prefix: "p".to_owned(),
            manifest_digest: "m".to_owned(),
        };
        let generation =
            Entry::Generation { number: GenerationNumber(1), workers: Vec::new(), restore: None, source: None };
        let (run, opened) = ("r".parse().expect("a good name"), Entry::Opened { coordinator: "c".to_owned() });
        let created = Entry::Created { run, recipe: "text".to_owned(), recipe_digest: "t".to_owned() };
        let entries =
            [created, opened, Entry::Planned { data_set, total_steps: 90 }, generation, Entry::Committed(commit)];
        let ledger = Ledger::replay(&entries).expect("in order");
        let text = Figures::of(&ledger).text();
        assert!(text.contains("vared_steps_planned 90\n") && text.contains("vared_committed_step 20\n"), "{text}");
    }

    async fn ask(path: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = proto::connect::server(std::time::Duration::from_secs(5)).accept_http1(true);
        let routes = beside(Routes::default(), Figures::default());
        let incoming = TcpListenerStream::new(listener);
        let server = tokio::spawn(async move { server.clone().add_routes(routes).serve_with_incoming(incoming).await });
        let mut stream = TcpStream::connect(address).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("reads");
        server.abort();
        answer
    }

    #[tokio::test]
    async fn both_pages_are_served_by_plain_http() {
        let health = ask("/healthz").await;
        assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("ok\n"), "{health}");
        let metrics = ask("/metrics").await;
        assert!(metrics.contains(TEXT) && metrics.contains("# TYPE vared_generation gauge"), "{metrics}");
    }
}
