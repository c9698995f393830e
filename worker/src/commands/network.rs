//! Finds the weights that a command line names.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use checkpoint::{Place, Reader};
use cluster::ids::RunName;
use runtime::OwnedThread;
use runtime::exit::{Code, WithCode};
use runtime::store;

use crate::config::{NetworkChoice, Which};
use crate::device::network::Weights;
use crate::error::WorkerError;

/// Most bytes that a weights file may have: far above any video network, and below what would fill a machine.
const MOST_BYTES: u64 = 8 << 30;

/// Reads the weights and what they say about themselves; nothing is built yet.
pub async fn load(choice: &NetworkChoice) -> anyhow::Result<Weights> {
    match choice {
        NetworkChoice::Weights(path) => {
            let bytes = read(path).code(Code::Misconfigured)?;
            Weights::from_file(bytes.into(), path.display().to_string()).code(Code::Misconfigured)
        }
        NetworkChoice::Run { store, run, which } => from_run(store, run, *which).await,
    }
}

/// A whole file from the disk.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("can't read {shown}"))?.len();
    anyhow::ensure!(size <= MOST_BYTES, "{shown} has {size} bytes: no weights of a video network are that large");
    std::fs::read(path).with_context(|| format!("can't read {shown}"))
}

/// Writes a whole file, and the folders that it needs.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("can't create the folder {}", folder.display()))?;
    }
    std::fs::write(path, bytes).with_context(|| format!("can't write {}", path.display()))
}

/// Runs a job on a thread of its own, where it may block; a panic of libtorch comes back as an error.
pub async fn on_the_device<R: Send + 'static>(
    job: impl FnOnce() -> Result<R, WorkerError> + Send + 'static,
) -> anyhow::Result<R> {
    let thread = OwnedThread::spawn("device", 1, || Ok(())).await?;
    let done = thread.call(move |()| job()).await?;
    let code = match &done {
        Err(WorkerError::Configuration(_)) => Code::Misconfigured,
        _ => Code::Failed,
    };
    done.code(code)
}

async fn from_run(url: &str, run: &RunName, which: Which) -> anyhow::Result<Weights> {
    let store = store::open_existing(url).code(Code::Misconfigured)?;
    let place = Place::new(Arc::clone(&store.store), store.root.clone());
    let reader = Reader::open(place, run.clone()).await.code(Code::Misconfigured)?;
    let loaded = match which {
        Which::Latest => reader.latest().await?,
        Which::Step(step) => reader.at_step(step).await?,
    };
    let (recipe, _) = reader.ledger().recipe().context("the run's record names no recipe")?;
    let data_set = reader.ledger().data_set().context("the run's record names no data set")?;
    let origin = format!("the run \"{run}\" at step {}", loaded.commit.step);
    let model = loaded.weights()?.clone();
    Weights::from_run(recipe, &data_set.classes, model, origin).code(Code::Misconfigured)
}
