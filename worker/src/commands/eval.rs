//! `worker eval`: a run's checkpoint on the held-out clips, beside its baseline and two controls.
//!
//! All figures come from skipping inference: what a policy leaves out is not computed, and the time is measured.

mod clips;
mod controls;
mod own_loader;
mod summary;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use checkpoint::{Loaded, Place, Reader, layout};
use cluster::ids::RunName;
use cluster::limits::{DEFAULT_PATIENCE, Limits};
use cluster::report::DataSet;
use proto::coordinator::Welcome;
use proto::loader::Open;
use runtime::OwnedThread;
use runtime::exit::{Code, WithCode};
use runtime::shutdown::Shutdown;
use runtime::store::{self, Store};
use runtime::telemetry;

use crate::compute::Batch;
use crate::config::{EvalConfig, Which};
use crate::device;
use crate::device::measure::{Look, Subject};
use crate::itinerary::Split;
use clips::{ClipReader, singles, spread};
use controls::{Habits, affordable, cycle};
use own_loader::OwnLoader;
use summary::{Control, Controls, Figures, Summary, shares, top1};

/// Clips inferred before the clock counts.
const WARM_UP: usize = 16;
/// Times that every clip is timed; the median pass counts.
const PASSES: usize = 3;
/// Training clips whose gates tell the fixed policies.
const TRAIN_CLIPS: u64 = 512;
/// Fixed policies tried on the held-out clips, the most expensive affordable ones.
const CANDIDATES: usize = 24;
/// How much more than the network's own policy a fixed one may cost.
const SLACK: f64 = 1.02;
/// Which clip gets whose gates.
const SHUFFLE_SEED: u64 = 1;

/// A run's checkpoint with what is needed to use it.
struct Trained {
    recipe: String,
    recipe_digest: String,
    data_set: DataSet,
    loaded: Loaded,
}

/// The networks, on the device's thread.
struct Bench {
    dynamic: Subject,
    baseline: Option<Subject>,
}

/// Evaluates, prints the table, writes the JSON.
pub async fn run(config: EvalConfig, shutdown: Shutdown) -> anyhow::Result<Code> {
    tokio::select! {
        done = evaluate(config) => done,
        () = shutdown.soon.cancelled() => bail!("the evaluation was interrupted; nothing is written"),
    }
}

async fn evaluate(config: EvalConfig) -> anyhow::Result<Code> {
    let store = store::open_existing(&config.store).code(Code::Misconfigured)?;
    let trained = Trained::load(&store, &config.run, config.which).await?;
    let baseline = match &config.baseline {
        Some(run) => Some(Trained::load(&store, run, Which::Latest).await?),
        None => None,
    };
    let thread = bench(&config, &trained, baseline.as_ref()).await?;
    let summary = measure(&config, &store, &trained, thread).await?;
    telemetry::print(summary.table());
    if let Some(path) = &config.json {
        let text = serde_json::to_string_pretty(&summary).context("can't write the summary as JSON")?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("can't create the folder {}", folder.display()))?;
        }
        std::fs::write(path, text + "\n").with_context(|| format!("can't write {}", path.display()))?;
        telemetry::print(format_args!("written to {}", path.display()));
    }
    Ok(Code::Done)
}

impl Trained {
    async fn load(store: &Store, run: &RunName, which: Which) -> anyhow::Result<Self> {
        let place = Place::new(Arc::clone(&store.store), store.root.clone());
        let reader = Reader::open(place, run.clone()).await.code(Code::Misconfigured)?;
        let loaded = match which {
            Which::Latest => reader.latest().await?,
            Which::Step(step) => reader.at_step(step).await?,
        };
        let (recipe, digest) = reader.ledger().recipe().context("the run's record names no recipe")?;
        let data_set = reader.ledger().data_set().cloned().context("the run's record names no data set")?;
        tracing::info!("\"{run}\": the checkpoint of step {}, verified", loaded.commit.step);
        Ok(Self { recipe: recipe.to_owned(), recipe_digest: digest.to_owned(), data_set, loaded })
    }

    /// What a loader must know of the run.
    fn welcome(&self, run: &RunName, store: &Store) -> Welcome {
        let limits = Limits::from_patience(DEFAULT_PATIENCE).expect("the default is within its bounds");
        let millis = |limit: Duration| limit.as_millis() as u64;
        Welcome {
            run: run.to_string(),
            recipe: self.recipe.clone(),
            recipe_digest: self.recipe_digest.clone(),
            store: store.url.clone(),
            patience_ms: millis(limits.patience),
            beat_ms: millis(limits.beat),
        }
    }
}

async fn bench(
    config: &EvalConfig,
    trained: &Trained,
    baseline: Option<&Trained>,
) -> anyhow::Result<Arc<OwnedThread<Bench>>> {
    let choice = config.device;
    let parts = |trained: &Trained| anyhow::Ok((trained.recipe.clone(), trained.loaded.object(layout::MODEL)?.clone()));
    let (own, other) = (parts(trained)?, baseline.map(parts).transpose()?);
    let build = move || {
        let device = device::find(choice)?;
        let dynamic = Subject::load(&own.0, &own.1, device)?;
        let baseline = other.map(|(recipe, model)| Subject::load(&recipe, &model, device)).transpose()?;
        Ok(Bench { dynamic, baseline })
    };
    Ok(Arc::new(OwnedThread::spawn("device", 2, build).await.code(Code::Misconfigured)?))
}

async fn measure(
    config: &EvalConfig,
    store: &Store,
    trained: &Trained,
    thread: Arc<OwnedThread<Bench>>,
) -> anyhow::Result<Summary> {
    let own = match &config.loader {
        None => Some(OwnLoader::start(trained.welcome(&config.run, store)).await?),
        Some(_) => None,
    };
    let url = config.loader.as_deref().or(own.as_ref().map(|own| own.address.as_str())).unwrap_or_default();
    let open = Open {
        run: config.run.to_string(),
        recipe: trained.recipe.clone(),
        store: store.url.clone(),
        digest: trained.data_set.digest.clone(),
    };
    let mut reader = ClipReader::open(url, open).await?;
    let (val_clips, train_clips) = (trained.data_set.val_clips, trained.data_set.train_clips);
    let val = reader.read(&spread(Split::Val, config.clips.unwrap_or(val_clips), val_clips)).await?;
    if val.batches.is_empty() {
        bail!("none of the held-out clips of \"{}\" can be read", config.run);
    }
    // The first positions of the plan: a random draw without repeats.
    let first = TRAIN_CLIPS.min(train_clips);
    let train = reader.read(&spread(Split::Train, first, first)).await?;
    tracing::info!("evaluates on {} held-out clips", val_clips.min(config.clips.unwrap_or(val_clips)));
    drop(own);
    let facts = Facts {
        run: config.run.to_string(),
        step: trained.loaded.commit.step,
        recipe_digest: trained.recipe_digest.clone(),
        classes: trained.data_set.classes.clone(),
        left_out: val.left_out,
    };
    Ok(thread.call(move |bench| bench.summary(&facts, &val.batches, &train.batches)).await?)
}

/// What a summary says beside its figures.
struct Facts {
    run: String,
    step: u64,
    recipe_digest: String,
    classes: Vec<String>,
    left_out: u64,
}

impl Bench {
    fn summary(&self, facts: &Facts, val: &[Batch], train: &[Batch]) -> Summary {
        let clips: Vec<Batch> = val.iter().flat_map(singles).collect();
        let looks: Vec<Look> = clips.iter().flat_map(|clip| self.dynamic.look(clip)).collect();
        let (own_speed, other_speed) = self.speeds(&clips);
        let layers = self.dynamic.layers();
        let controls = (!layers.is_empty())
            .then(|| Controls { shuffled: self.shuffled(&clips, &looks), fixed: self.fixed(val, train, &looks) });
        let backbone = self.baseline.as_ref().map(|baseline| {
            let looks: Vec<Look> = clips.iter().flat_map(|clip| baseline.look(clip)).collect();
            Figures::of(&looks, other_speed)
        });
        Summary {
            run: facts.run.clone(),
            step: facts.step,
            recipe_digest: facts.recipe_digest.clone(),
            clips: clips.len(),
            clips_left_out: facts.left_out,
            dynamic: Figures::of(&looks, own_speed),
            backbone,
            share: shares(&looks, &layers, &facts.classes),
            controls,
            notes: notes(),
        }
    }

    /// Clips a second of both networks: every clip through one, then through the other, in turn who is first.
    fn speeds(&self, clips: &[Batch]) -> (f64, f64) {
        let time = |subject: Option<&Subject>, clip| subject.map_or(0.0, |subject| subject.seconds(clip));
        for clip in clips.iter().cycle().take(WARM_UP) {
            time(Some(&self.dynamic), clip);
            time(self.baseline.as_ref(), clip);
        }
        let mut passes: [Vec<f64>; 2] = Default::default();
        for pass in 0..PASSES {
            let mut seconds = [0.0; 2];
            for (index, clip) in clips.iter().enumerate() {
                for turn in [index + pass, index + pass + 1] {
                    let which = turn % 2;
                    let subject = if which == 0 { Some(&self.dynamic) } else { self.baseline.as_ref() };
                    seconds[which] += time(subject, clip);
                }
            }
            passes[0].push(seconds[0]);
            passes[1].push(seconds[1]);
        }
        let [own, other] = passes.map(|mut seconds| {
            seconds.sort_by(f64::total_cmp);
            clips.len() as f64 / seconds[PASSES / 2]
        });
        (own, other)
    }

    fn shuffled(&self, clips: &[Batch], looks: &[Look]) -> Control {
        let order = cycle(clips.len(), SHUFFLE_SEED);
        let forced =
            |(clip, from): (&Batch, usize)| self.dynamic.forced(clip, std::slice::from_ref(&looks[from].gates));
        let shuffled: Vec<Look> = clips.iter().zip(order).flat_map(forced).collect();
        Control::of(
            &shuffled,
            looks,
            format!("each clip under the gate values of another (one cycle, seed {SHUFFLE_SEED})"),
        )
    }

    fn fixed(&self, val: &[Batch], train: &[Batch], looks: &[Look]) -> Control {
        let mut habits = Habits::default();
        let mut count = 0;
        for look in train.iter().flat_map(|batch| self.dynamic.look(batch)) {
            habits.add(&look.gates);
            count += 1;
        }
        let own = looks.iter().map(|look| look.gmacs_all_in).sum::<f64>() / looks.len() as f64;
        let filled = habits.filled(own * SLACK, |gates| self.dynamic.forced_gmacs(gates));
        let priced = habits.candidates().into_iter().chain(filled).map(|gates| {
            let cost = self.dynamic.forced_gmacs(&gates);
            (gates, cost)
        });
        let tried = affordable(priced.collect(), own * SLACK, CANDIDATES);
        let results = tried.iter().map(|(gates, _)| {
            let one = std::slice::from_ref(gates);
            val.iter().flat_map(|batch| self.dynamic.forced(batch, one)).collect::<Vec<Look>>()
        });
        let best = results.max_by(|a, b| top1(a).total_cmp(&top1(b))).unwrap_or_default();
        let note = format!(
            "options live where they are live in a share ≥ q of {count} training clips, at their mean weight: q swept, and \
             the budget filled from the most frequently live option on; the best held-out top-1 of the {} most expensive \
             candidates whose all-in cost is at most {SLACK} × the dynamic average",
            tried.len()
        );
        Control::of(&best, looks, note)
    }
}

fn notes() -> Vec<String> {
    vec![
        "gmacs are 10^9 multiply-adds of convolutions and linear layers a clip at the real crop; paper: r/R of each dynamic \
         layer; all_in: with gates and cheap operations"
            .to_owned(),
        format!(
            "clips_per_second: batch 1, one thread, the network alone, {WARM_UP} clips of warm-up, the median of {PASSES} \
             passes, both networks in turn on every clip"
        ),
        "share: of the frames (temporal, 1/R), of the channels (channel, r) and of both that is computed, mean over the \
         dynamic layers weighted by their multiply-adds"
            .to_owned(),
    ]
}
