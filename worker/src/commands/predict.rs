//! `worker predict`: what videos show, and what was computed to see it.

mod answer;
mod inputs;

use std::io::IsTerminal;

use anyhow::{Context, anyhow, bail};
use proto::loader::look::Placement;
use proto::loader::{Look, Uniform, Windows};
use runtime::OwnedThread;
use runtime::exit::{Code, WithCode};
use runtime::progress::Progress;
use runtime::shutdown::Shutdown;
use runtime::telemetry;

use super::loader::{Fault, Looker, OwnLoader, VideoViews, look};
use super::network;
use crate::config::PredictConfig;
use crate::device;
use crate::device::measure::{Layer, Subject};
use answer::{Answer, Tally};
use inputs::Input;

/// Looks at every video in turn; a bad one is told, and the others go on.
pub async fn run(config: PredictConfig, shutdown: Shutdown) -> anyhow::Result<Code> {
    tokio::select! {
        done = predict(config) => done,
        () = shutdown.soon.cancelled() => bail!("interrupted: the videos before this one are answered"),
    }
}

async fn predict(config: PredictConfig) -> anyhow::Result<Code> {
    let inputs = inputs::find(&config.videos).code(Code::Misconfigured)?;
    let mut seer = Seer::start(&config).await?;
    let mut bad = 0;
    for input in &inputs {
        match seer.see(input, config.top).await {
            Ok(answer) if config.json => {
                telemetry::print(serde_json::to_string(&answer).context("can't write an answer as JSON")?);
            }
            Ok(answer) => telemetry::print(answer.text(config.timeline)),
            Err(Fault::Video { reason, .. }) => {
                bad += 1;
                telemetry::print_error(format_args!("{}: {reason}", input.name()));
            }
            Err(Fault::Loader(error)) => return Err(error),
        }
    }
    if bad > 0 {
        return Err(anyhow!("{bad} of {} videos can't be shown, each is named above", inputs.len()));
    }
    Ok(Code::Done)
}

/// A network that looks at videos.
struct Seer {
    look: Look,
    classes: Vec<String>,
    layers: Vec<Layer>,
    gmacs_backbone: f64,
    thread: OwnedThread<Subject>,
    looker: Looker,
    /// Kept alive as long as it is asked.
    _own: Option<OwnLoader>,
}

impl Seer {
    async fn start(config: &PredictConfig) -> anyhow::Result<Self> {
        let weights = network::load(&config.network).await?;
        let look = look(&weights, &config.sampling, placement(config));
        let (choice, policy, crop, classes) =
            (config.device, config.policy.clone(), look.crop, weights.card.classes.clone());
        let build = move || Ok(Subject::load(&weights, (crop, &policy), device::find(choice)?)?);
        let thread = OwnedThread::spawn("device", 2, build).await.code(Code::Misconfigured)?;
        let (layers, gmacs_backbone) = thread.call(|subject| (subject.layers(), subject.gmacs_backbone())).await?;
        let own = match config.loader {
            None => Some(OwnLoader::start(None).await?),
            Some(_) => None,
        };
        let url = config.loader.as_deref().or(own.as_ref().map(|own| own.address.as_str())).unwrap_or_default();
        let looker = Looker::new(url)?;
        Ok(Self { look, classes, layers, gmacs_backbone, thread, looker, _own: own })
    }

    async fn see(&mut self, input: &Input, top: usize) -> Result<Answer, Fault> {
        let mut video = self.open(input).await?;
        // A bar only where somebody sees it, and where there is something to wait for.
        let shows = std::io::stderr().is_terminal() && video.facts.views > 1;
        let mut progress = shows.then(|| Progress::new(&input.name(), video.facts.views.into()));
        let mut tally = Tally::new(&self.layers, &self.classes);
        while let Some(shown) = video.next().await? {
            let crops = shown.crops;
            let infer = move |subject: &mut Subject| {
                let timed = crops.iter().flat_map(|clip| {
                    let (looks, seconds) = subject.timed(clip);
                    looks.into_iter().map(move |look| (look, seconds))
                });
                timed.collect::<Vec<_>>()
            };
            let looks = self.thread.call(infer).await.map_err(|error| Fault::Loader(error.into()))?;
            tally.add(&shown.source_frames, &looks);
            if let Some(progress) = &mut progress {
                progress.add(1);
            }
        }
        Ok(tally.answer(input.name(), &video.facts, (top, self.gmacs_backbone)))
    }

    async fn open(&self, input: &Input) -> Result<VideoViews, Fault> {
        match input {
            Input::Stdin => self.looker.file(self.look.clone(), tokio::io::stdin()).await,
            Input::File(path) => {
                let file = tokio::fs::File::open(path).await;
                let file = file
                    .map_err(|error| Fault::Video { key: String::new(), reason: format!("can't open it: {error}") })?;
                self.looker.file(self.look.clone(), file).await
            }
        }
    }
}

fn placement(config: &PredictConfig) -> Placement {
    match config.sampling.views {
        Some(views) => Placement::Uniform(Uniform { views }),
        None => Placement::Windows(Windows {
            window_seconds: config.window_seconds.unwrap_or_default(),
            hop_seconds: config.hop_seconds.unwrap_or_default(),
        }),
    }
}
