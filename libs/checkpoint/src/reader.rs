//! Finds, verifies and loads committed checkpoints.
//!
//! The journal says which are committed and what each manifest's digest is; the manifest says the same of every object.
//! So one flipped byte anywhere is found and named. A damaged checkpoint is passed over, loudly, for the one committed
//! before it; a store that does not answer is an error instead, because waiting may help.

use std::collections::BTreeMap;

use bytes::Bytes;
use cluster::ids::RunName;
use cluster::ledger::{Entry, Ledger, LedgerError};
use cluster::report::Commit;

use crate::journal::{Journal, JournalError};
use crate::layout;
use crate::manifest::{self, Difference, Manifest};
use crate::place::Place;

/// Why nothing was loaded.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal contradicts itself.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The run's name is wrong, or it never started.
    #[error("there is no run \"{run}\" in this store: check the name and the store's URL")]
    NoRun {
        /// As asked for.
        run: RunName,
    },
    /// The run has none yet.
    #[error("the run \"{run}\" has no committed checkpoint yet")]
    NoCheckpoint {
        /// As asked for.
        run: RunName,
    },
    /// No commit record names it.
    #[error("the run \"{run}\" has no committed checkpoint {wanted}; it has those of steps {steps}")]
    NotCommitted {
        /// The run.
        run: RunName,
        /// As asked for.
        wanted: String,
        /// What there is.
        steps: String,
    },
    /// A request failed; the object may be well.
    #[error("can't read {path}")]
    Get {
        /// The object.
        path: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// An object is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// Neither the checkpoint nor any before it is whole.
    #[error("no whole checkpoint is left of the run \"{run}\": {damages}")]
    NoneWhole {
        /// The run.
        run: RunName,
        /// What is wrong with each.
        damages: String,
    },
}

/// A damaged object, by name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} {difference}")]
pub struct Damage {
    /// The object.
    pub path: String,
    /// What is wrong with it.
    pub difference: Difference,
}

/// A checkpoint whose every byte is what was written.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its commit record.
    pub commit: Commit,
    /// Its objects by name.
    pub objects: BTreeMap<String, Bytes>,
    /// The newer ones that were passed over.
    pub passed_over: Vec<Damage>,
}

impl Loaded {
    /// An object by name.
    pub fn object(&self, name: &str) -> Result<&Bytes, Damage> {
        let path = || layout::object(&self.commit.prefix, name);
        self.objects.get(name).ok_or_else(|| Damage { path: path(), difference: Difference::Missing })
    }

    /// The weights that are evaluated and handed on: the averaged ones where the run has some, else those that it trains.
    pub fn weights(&self) -> Result<&Bytes, Damage> {
        self.objects.get(layout::AVERAGE).map_or_else(|| self.object(layout::MODEL), Ok)
    }
}

/// Reads the checkpoints of one run.
#[derive(Debug, Clone)]
pub struct Reader {
    place: Place,
    run: RunName,
    ledger: Ledger,
}

impl Reader {
    /// Reads the run's journal, as it is now.
    pub async fn open(place: Place, run: RunName) -> Result<Self, ReadError> {
        let (_, entries) = Journal::<Entry>::open(place.clone(), run.clone()).await?;
        if entries.is_empty() {
            return Err(ReadError::NoRun { run });
        }
        let ledger = Ledger::replay(&entries)?;
        Ok(Self { place, run, ledger })
    }

    /// The run's record.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The newest whole checkpoint.
    pub async fn latest(&self) -> Result<Loaded, ReadError> {
        let newest = self.ledger.commits().len();
        if newest == 0 {
            return Err(ReadError::NoCheckpoint { run: self.run.clone() });
        }
        self.newest_whole(newest).await
    }

    /// The committed checkpoint in the folder `prefix`, or the newest whole one before it.
    pub async fn at_prefix(&self, prefix: &str) -> Result<Loaded, ReadError> {
        let found = self.ledger.commits().iter().position(|commit| commit.prefix == prefix);
        self.newest_whole(found.ok_or_else(|| self.not_committed(prefix))? + 1).await
    }

    /// The commit of exactly `step`.
    pub fn commit_of(&self, step: u64) -> Result<&Commit, ReadError> {
        let found = self.ledger.commits().iter().rev().find(|commit| commit.step == step);
        found.ok_or_else(|| self.not_committed(&format!("of step {step}")))
    }

    /// The committed checkpoint of exactly `step`; a damaged one is an error, because another step was not asked for.
    pub async fn at_step(&self, step: u64) -> Result<Loaded, ReadError> {
        self.load(self.commit_of(step)?).await
    }

    /// Reads every object of a checkpoint and compares it with what was written.
    pub async fn load(&self, commit: &Commit) -> Result<Loaded, ReadError> {
        let manifest = manifest_of(&self.place, commit).await?;
        let mut objects = BTreeMap::new();
        for object in &manifest.objects {
            let path = layout::object(&commit.prefix, &object.name);
            let bytes = self.place.read(&path).await.map_err(|source| failed_read(&path, source))?;
            if let Some(difference) = object.difference(&bytes) {
                return Err(Damage { path, difference }.into());
            }
            objects.insert(object.name.clone(), bytes);
        }
        Ok(Loaded { commit: commit.clone(), objects, passed_over: Vec::new() })
    }

    async fn newest_whole(&self, count: usize) -> Result<Loaded, ReadError> {
        let mut passed_over: Vec<Damage> = Vec::new();
        for commit in self.ledger.commits()[..count].iter().rev() {
            match self.load(commit).await {
                Ok(loaded) => return Ok(Loaded { passed_over, ..loaded }),
                Err(ReadError::Damaged(damage)) => {
                    tracing::error!("checkpoint of step {} is damaged: {damage}; using the one before it", commit.step);
                    passed_over.push(damage);
                }
                Err(other) => return Err(other),
            }
        }
        let damages = passed_over.iter().map(Damage::to_string).collect::<Vec<_>>().join("; ");
        Err(ReadError::NoneWhole { run: self.run.clone(), damages })
    }

    fn not_committed(&self, wanted: &str) -> ReadError {
        let steps: Vec<String> = self.ledger.commits().iter().map(|commit| commit.step.to_string()).collect();
        let steps = if steps.is_empty() { "none".to_owned() } else { steps.join(", ") };
        ReadError::NotCommitted { run: self.run.clone(), wanted: wanted.to_owned(), steps }
    }
}

/// Reads every object of a committed checkpoint, one piece at a time, and says of each what is wrong with it.
pub async fn inspect(place: &Place, commit: &Commit) -> Result<Vec<Damage>, ReadError> {
    let manifest = match manifest_of(place, commit).await {
        Ok(manifest) => manifest,
        Err(ReadError::Damaged(damage)) => return Ok(vec![damage]),
        Err(other) => return Err(other),
    };
    let mut damages = Vec::new();
    for object in &manifest.objects {
        let path = layout::object(&commit.prefix, &object.name);
        let difference = match place.measure(&path, &object.name).await.map_err(|source| failed_read(&path, source)) {
            Ok(found) => object.difference_from(&found),
            Err(ReadError::Damaged(damage)) => Some(damage.difference),
            Err(other) => return Err(other),
        };
        damages.extend(difference.map(|difference| Damage { path, difference }));
    }
    Ok(damages)
}

async fn manifest_of(place: &Place, commit: &Commit) -> Result<Manifest, ReadError> {
    let path = layout::object(&commit.prefix, layout::MANIFEST);
    let bytes = place.read(&path).await.map_err(|source| failed_read(&path, source))?;
    let found = manifest::digest(&bytes);
    if found != commit.manifest_digest {
        let written = commit.manifest_digest.clone();
        return Err(Damage { path, difference: Difference::Digest { found, written } }.into());
    }
    Ok(Manifest::from_bytes(&bytes).map_err(|difference| Damage { path, difference })?)
}

/// An object that is not there is damage; one that can't be had now is not.
fn failed_read(path: &str, source: object_store::Error) -> ReadError {
    let path = path.to_owned();
    match source {
        object_store::Error::NotFound { .. } => Damage { path, difference: Difference::Missing }.into(),
        source => ReadError::Get { path, source },
    }
}
