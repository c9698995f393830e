//! What is evaluated, on which data, and how it is looked at.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use checkpoint::manifest::Object;
use checkpoint::{Place, Reader, layout};
use cluster::ids::RunName;
use cluster::limits::{DEFAULT_PATIENCE, Limits};
use cluster::report::DataSet;
use proto::coordinator::{DataSet as OpenedSet, Welcome};
use proto::loader::look::Placement;
use proto::loader::{Look, Open, SetClip, Split, Uniform};
use runtime::exit::{Code, WithCode};
use runtime::store;

use super::summary::{Identity, Protocol};
use crate::commands::loader::look;
use crate::commands::network;
use crate::config::{EvalConfig, NetworkChoice, Sampling, Which};
use crate::device::network::Weights;

/// A network and the data that it is evaluated on.
pub struct Evaluated {
    /// The network.
    pub weights: Weights,
    run: Option<RunRecord>,
    /// What the loader reads: the run's recipe, or one that names the data set alone.
    recipe: String,
    /// Relative places in the recipe are below this.
    store: String,
    /// Known from the run's record, or when a loader has opened it.
    set: Option<DataSet>,
    sampling: Sampling,
}

/// What a run's record says of its checkpoint.
struct RunRecord {
    name: RunName,
    step: u64,
    recipe_digest: String,
}

impl Evaluated {
    /// Reads the weights and the record.
    pub async fn load(config: &EvalConfig) -> anyhow::Result<Self> {
        let mut evaluated = match &config.network {
            NetworkChoice::Weights(_) => Self {
                weights: network::load(&config.network).await?,
                run: None,
                recipe: String::new(),
                store: String::new(),
                set: None,
                sampling: config.sampling,
            },
            NetworkChoice::Run { store, run, which } => Self::of_run((store, run, *which), config.sampling).await?,
        };
        if let Some(url) = &config.data {
            evaluated.recipe = data_recipe(url, &evaluated.weights)?;
            evaluated.set = None;
        }
        Ok(evaluated)
    }

    async fn of_run((url, run, which): (&str, &RunName, Which), sampling: Sampling) -> anyhow::Result<Self> {
        let store = store::open_existing(url).code(Code::Misconfigured)?;
        let place = Place::new(Arc::clone(&store.store), store.root.clone());
        let reader = Reader::open(place, run.clone()).await.code(Code::Misconfigured)?;
        let loaded = match which {
            Which::Latest => reader.latest().await?,
            Which::Step(step) => reader.at_step(step).await?,
        };
        let step = loaded.commit.step;
        let (recipe, digest) = reader.ledger().recipe().context("the run's record names no recipe")?;
        let set = reader.ledger().data_set().cloned().context("the run's record names no data set")?;
        tracing::info!("\"{run}\": the checkpoint of step {step}, verified");
        let (model, origin) = (loaded.weights()?.clone(), format!("the run \"{run}\" at step {step}"));
        Ok(Self {
            weights: Weights::from_run(recipe, &set.classes, model, origin).code(Code::Misconfigured)?,
            run: Some(RunRecord { name: run.clone(), step, recipe_digest: digest.to_owned() }),
            recipe: recipe.to_owned(),
            store: store.url.clone(),
            set: Some(set),
            sampling,
        })
    }

    /// What a loader must know to open the data.
    pub fn welcome(&self) -> Welcome {
        let limits = Limits::from_patience(DEFAULT_PATIENCE).expect("the default is within its bounds");
        let millis = |limit: Duration| limit.as_millis() as u64;
        Welcome {
            run: self.open().run,
            recipe: self.recipe.clone(),
            recipe_digest: String::new(),
            store: self.store.clone(),
            patience_ms: millis(limits.patience),
            beat_ms: millis(limits.beat),
        }
    }

    /// The same for a stream of clips.
    pub fn open(&self) -> Open {
        Open {
            run: self.run.as_ref().map_or_else(|| "eval".to_owned(), |run| run.name.to_string()),
            recipe: self.recipe.clone(),
            store: self.store.clone(),
            digest: self.set.as_ref().map(|set| set.digest.clone()).unwrap_or_default(),
        }
    }

    /// A loader has opened the data: its classes must be the network's.
    pub fn opened(&mut self, opened: OpenedSet) -> anyhow::Result<()> {
        let (own, found) = (&self.weights.card.classes, &opened.classes);
        let count = usize::try_from(self.weights.card.model.classes()).unwrap_or_default();
        ensure!(
            found.len() == count && (own.is_empty() || own == found),
            "{} knows {count} classes ({}), the data set has {} ({}): evaluate on the data that it was made for",
            self.weights.origin,
            few(own),
            found.len(),
            few(found)
        );
        let OpenedSet { train_clips, val_clips, digest, classes } = opened;
        self.set.get_or_insert(DataSet { train_clips, val_clips, digest, classes });
        Ok(())
    }

    /// The data set.
    pub fn data_set(&self) -> anyhow::Result<&DataSet> {
        self.set.as_ref().context("no loader has opened the data set")
    }

    /// Whether the data has clips that the network was trained on, apart from the held-out ones.
    pub fn has_train_clips(&self) -> bool {
        self.run.is_some() && !self.recipe.starts_with(DATA_ONLY)
    }

    /// How clip `index` is looked at, with so many views.
    pub fn look(&self, views: u32, index: u64) -> Look {
        let clip = SetClip { open: Some(self.open()), split: Split::Val.into(), index };
        let placement = Placement::Uniform(Uniform { views });
        Look { clip: Some(clip), ..look(&self.weights, &self.sampling, placement) }
    }

    /// Side of the squares that the network gets, in pixels.
    pub fn crop(&self) -> u32 {
        self.look(1, 0).crop
    }

    /// Everything by which the result can be told from another.
    pub fn identity(&self) -> anyhow::Result<Identity> {
        let (run, weights) = (self.run.as_ref(), &self.weights);
        let (view, look) = (weights.card.view, self.look(self.sampling.views.unwrap_or(1), 0));
        let is_uniform = self.sampling.views.is_some();
        Ok(Identity {
            run: run.map(|run| run.name.to_string()),
            step: run.map(|run| run.step),
            weights: run.is_none().then(|| weights.origin.clone()),
            recipe_digest: run.map(|run| run.recipe_digest.clone()),
            weights_digest: Object::of(layout::MODEL, &weights.bytes).blake3,
            data_digest: self.data_set()?.digest.clone(),
            protocol: Protocol {
                placement: if is_uniform { "uniform" } else { "centre" }.to_owned(),
                views: self.sampling.views.unwrap_or(1),
                crops: if is_uniform { look.crops } else { 1 },
                frames: view.frames,
                stride: view.stride,
                target_fps: self.sampling.target_fps,
                short_side: if is_uniform { look.short_side } else { view.short_side },
                crop: look.crop,
            },
        })
    }
}

/// How a recipe begins that names a data set and nothing else.
const DATA_ONLY: &str = "name = \"eval\"\n";

/// A recipe that names the data set alone.
fn data_recipe(url: &str, weights: &Weights) -> anyhow::Result<String> {
    let place = match url.contains("://") {
        true => url.to_owned(),
        false => std::path::absolute(url).with_context(|| format!("--data {url} is no place"))?.display().to_string(),
    };
    let (place, view, pixels) = (toml::Value::String(place), weights.card.view, weights.card.pixels);
    Ok(format!(
        "{DATA_ONLY}[run]\nseed = 0\n[data]\ntrain = {place}\nval = {place}\nframes = {}\nstride = {}\n\
         short_side = [{short}, {short}]\ncrop = {}\nmean = {:?}\nstd = {:?}\n",
        view.frames,
        view.stride,
        view.crop,
        pixels.mean,
        pixels.std,
        short = view.short_side
    ))
}

/// The first few names.
fn few(names: &[String]) -> String {
    let shown = names.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "without names".to_owned(),
        1..=4 => shown,
        _ => format!("{shown}, …"),
    }
}
