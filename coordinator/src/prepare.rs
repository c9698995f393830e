//! Everything between the command line and the first actor: store, run record, recipe, demo data.

use std::sync::Arc;

use anyhow::Context;
use checkpoint::{Journal, Place};
use cluster::{
    ledger::{Entry, Ledger},
    recipe::{Recipe, changes},
};
use object_store::ObjectStoreExt;
use runtime::{
    exit::{Code, WithCode},
    retry::Backoff,
    store::{Store, StoreError},
    telemetry,
};

use crate::{
    actors::{keeper, launcher::die_with_parent},
    config::Config,
    error::ConfigError,
};

/// A run that is ready to be gone on with.
pub struct Prepared {
    /// Where everything is.
    pub store: Store,
    /// The run record, taken over from whoever had it.
    pub journal: Journal<Entry>,
    /// What it says.
    pub ledger: Ledger,
    /// The recipe that the run was created with.
    pub recipe: Recipe,
}

/// What the run record says before anything is done.
pub enum Found {
    /// There is something to train.
    Unfinished(Box<Prepared>),
    /// All steps are done.
    Finished(Box<Prepared>),
}

/// Opens store and run record, checks the recipe against them, and takes the run over.
pub async fn prepare(config: &Config) -> anyhow::Result<Found> {
    let store = open_store(&config.store).await?;
    let place = Place::new(Arc::clone(&store.store), store.root.clone());
    let (journal, entries) = Journal::<Entry>::open(place, config.run.clone()).await?;
    let ledger = Ledger::replay(&entries).with_context(|| format!("can't go on with the run `{}`", config.run))?;
    let recipe = match ledger.recipe() {
        Some((text, _)) => agreed_recipe(config, &ledger, text)?,
        None => config.new_recipe().code(Code::Misconfigured)?,
    };
    let mut prepared = Prepared { store, journal, ledger, recipe };
    if prepared.ledger.finished().is_some() {
        return Ok(Found::Finished(Box::new(prepared)));
    }
    config.policy(&prepared.recipe).code(Code::Misconfigured)?;
    prepared.take_over(config).await?;
    Ok(Found::Unfinished(Box::new(prepared)))
}

async fn open_store(url: &str) -> anyhow::Result<Store> {
    let store = runtime::store::open(url).code(Code::Misconfigured)?;
    match store.probe().await {
        Ok(()) => Ok(store),
        Err(error @ (StoreError::NoConditionalPut { .. } | StoreError::RacyConditionalPut { .. })) => {
            Err(error).code(Code::Misconfigured)
        }
        Err(error) => Err(error).context(format!("the store {url} can't be used")),
    }
}

/// The recipe of an existing run. Another one is refused, field by field, unless nothing has been trained yet: then the
/// run starts over with it.
fn agreed_recipe(config: &Config, ledger: &Ledger, stored: &str) -> anyhow::Result<Recipe> {
    let asked = config.recipe_for(stored, ledger.last_commit().is_some()).code(Code::Misconfigured)?;
    let changes = changes(stored, asked.text()).context("the recipe in the run record can't be read")?;
    if changes.is_empty() {
        // Formatting may have changed with the program; the text that was digested is the stored one.
        return Recipe::parse(stored, &[]).context("the recipe in the run record can't be read");
    }
    let changes = changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if ledger.last_commit().is_some() {
        return Err(ConfigError::OtherRecipe { run: config.run.clone(), changes }).code(Code::Misconfigured);
    }
    telemetry::print_error(format_args!(
        "the run `{}` has no checkpoint yet: it starts over with a changed recipe ({changes})",
        config.run
    ));
    Ok(asked)
}

impl Prepared {
    /// Creates the run if it is new or starts over, and fences whoever had it.
    async fn take_over(&mut self, config: &Config) -> anyhow::Result<()> {
        if self.ledger.recipe().map(|(text, _)| text) != Some(self.recipe.text()) {
            let (recipe, recipe_digest) = (self.recipe.text().to_owned(), self.recipe.digest().to_owned());
            self.record(config, Entry::Created { run: config.run.clone(), recipe, recipe_digest }).await?;
        }
        self.record(config, Entry::Opened { coordinator: uuid::Uuid::new_v4().to_string() }).await
    }

    async fn record(&mut self, config: &Config, entry: Entry) -> anyhow::Result<()> {
        let patience = config.limits.patience;
        let backoff = Backoff { first: patience / 50, most: patience / 5, budget: patience };
        keeper::append(&mut self.journal, &entry, backoff).await.code(Code::ComeBack)?;
        self.ledger.apply(&entry)?;
        Ok(())
    }
}

/// What the demo's data set must have.
const DEMO_INDEX: &str = "data/demo/train/index.parquet";

/// Makes the demo's clips if the demo is to run here and they are missing. The other program's output is shown.
pub async fn make_demo_data(config: &Config, prepared: &Prepared) -> anyhow::Result<()> {
    let Some(programs) = &config.programs else { return Ok(()) };
    let store = &prepared.store;
    if prepared.recipe.name().as_str() != "demo" {
        return Ok(());
    }
    match store.store.head(&store.path(DEMO_INDEX)).await {
        Ok(_) => return Ok(()),
        Err(object_store::Error::NotFound { .. }) => {}
        Err(error) => return Err(error).with_context(|| format!("can't look for {DEMO_INDEX} in {}", store.url)),
    }
    let to = format!("{}/data/demo", store.url);
    telemetry::print_error(format_args!("the demo's clips are not in the store yet: making them ({to})"));
    let mut command = tokio::process::Command::new(&programs.dataloader);
    command.args(["demo", "--to", &to]).kill_on_drop(true);
    die_with_parent(&mut command);
    let status = command.status().await.with_context(|| format!("can't run {}", programs.dataloader.display()))?;
    if !status.success() {
        anyhow::bail!("`dataloader demo --to {to}` failed ({status}); its message is above");
    }
    Ok(())
}
