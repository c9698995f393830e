//! What the coordinator says, parsed: `Welcome` into a [`Briefing`], `Generation` into an [`Order`].

use std::sync::Arc;
use std::time::Duration;

use checkpoint::Place;
use cluster::ids::RunName;
use cluster::limits::Limits;
use cluster::recipe::Recipe;
use proto::coordinator as wire;
use runtime::store::{self, Store};

use crate::compute::{DataFacts, Seat};
use crate::error::{WorkerError, in_one_line};
use crate::itinerary::Course;

/// What a worker knows of the run before it starts anything.
#[derive(Debug, Clone)]
pub struct Briefing {
    /// The run.
    pub run: RunName,
    /// Its recipe.
    pub recipe: Recipe,
    /// Where its checkpoints are.
    pub store: Store,
    /// Its time limits.
    pub limits: Limits,
}

/// What a worker has to do in one generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Its place.
    pub seat: Seat,
    /// The data.
    pub data: DataFacts,
    /// Where the state comes from.
    pub origin: Origin,
    /// The loaders to ask.
    pub loaders: Vec<String>,
    /// What there is to do.
    pub course: Course,
}

/// Where a generation's state comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The run's seed.
    Seed,
    /// The checkpoint with this prefix.
    Checkpoint(String),
    /// The worker of this rank.
    Survivor(u32),
}

impl Briefing {
    /// Parses and checks a `Welcome`, and opens the store.
    pub fn parse(welcome: &wire::Welcome) -> Result<Self, WorkerError> {
        let recipe = Recipe::parse(&welcome.recipe, &[]).map_err(configuration)?;
        if recipe.digest() != welcome.recipe_digest {
            return Err(WorkerError::Configuration(format!(
                "the recipe's digest is {}, the coordinator says {}: worker and coordinator are of different versions",
                recipe.digest(),
                welcome.recipe_digest
            )));
        }
        Ok(Self {
            run: welcome.run.parse().map_err(configuration)?,
            store: store::open_existing(&welcome.store).map_err(configuration)?,
            limits: Limits::from_patience(Duration::from_millis(welcome.patience_ms)).map_err(configuration)?,
            recipe,
        })
    }

    /// The store as checkpoints want it.
    pub fn place(&self) -> Place {
        Place::new(Arc::clone(&self.store.store), self.store.root.clone())
    }

    /// Parses and checks a `Generation`.
    pub fn order(&self, generation: wire::Generation) -> Result<Order, WorkerError> {
        let data = generation.data_set.ok_or_else(|| malformed("it names no data set"))?;
        let end =
            generation.first_lane.checked_add(generation.lane_count).filter(|end| *end <= self.recipe.run().lanes);
        let end = end.ok_or_else(|| malformed("its lanes are not the recipe's"))?;
        if generation.rank >= generation.world || generation.lane_count == 0 {
            return Err(malformed("its rank or its lanes are out of bounds"));
        }
        let origin = match (generation.source, generation.restore) {
            (Some(source), _) if source >= generation.world => {
                return Err(malformed("its source is none of its ranks"));
            }
            (Some(source), _) => Origin::Survivor(source),
            (None, prefix) if prefix.is_empty() => Origin::Seed,
            (None, prefix) => Origin::Checkpoint(prefix),
        };
        let course = Course {
            plan: self.recipe.plan(data.train_clips).map_err(configuration)?,
            epochs: self.recipe.epochs(),
            val_clips: data.val_clips,
            checkpoint_every_steps: self.recipe.run().checkpoint_every_steps,
            precise_bn_batches: self.recipe.run().precise_bn_batches,
        };
        Ok(Order {
            seat: Seat {
                generation: generation.number,
                rank: generation.rank,
                world: generation.world,
                lanes: generation.first_lane..end,
                workers: generation.workers,
            },
            data: DataFacts {
                train_clips: data.train_clips,
                val_clips: data.val_clips,
                digest: data.digest,
                classes: data.classes,
            },
            origin,
            loaders: generation.loaders,
            course,
        })
    }
}

fn configuration(error: impl Into<anyhow::Error>) -> WorkerError {
    WorkerError::Configuration(in_one_line(error))
}

fn malformed(what: &str) -> WorkerError {
    WorkerError::Configuration(format!(
        "the coordinator's Generation can't be understood: {what}; are all processes of one version?"
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    pub(crate) const RECIPE: &str = r#"
name = "test"
[run]
seed = 1
lanes = 2
batch_clips = 4
checkpoint_every_steps = 4
threads = 1
[data]
[model]
[optim]
[[stages]]
name = "accuracy"
epochs = 3
"#;

    pub(crate) fn welcome() -> wire::Welcome {
        let recipe = Recipe::parse(RECIPE, &[]).expect("a good recipe");
        wire::Welcome {
            run: "test".to_owned(),
            recipe: recipe.text().to_owned(),
            recipe_digest: recipe.digest().to_owned(),
            store: "memory://".to_owned(),
            patience_ms: 10_000,
            beat_ms: 1_000,
        }
    }

    pub(crate) fn generation() -> wire::Generation {
        wire::Generation {
            number: 1,
            rank: 0,
            world: 1,
            first_lane: 0,
            lane_count: 2,
            restore: String::new(),
            loaders: Vec::new(),
            data_set: Some(wire::DataSet {
                train_clips: 10,
                val_clips: 5,
                digest: "d".to_owned(),
                classes: vec!["still".to_owned()],
            }),
            workers: vec!["worker-0".to_owned()],
            source: None,
        }
    }

    #[test]
    fn a_welcome_and_a_generation_are_understood() {
        let briefing = Briefing::parse(&welcome()).expect("good");
        let order = briefing.order(generation()).expect("good");
        assert_eq!((order.seat.lanes.clone(), order.origin.clone()), (0..2, Origin::Seed));
        assert_eq!(order.course.total_steps(), 8);
    }

    #[test]
    fn another_digest_is_a_configuration_fault_that_names_both() {
        let error =
            Briefing::parse(&wire::Welcome { recipe_digest: "other".to_owned(), ..welcome() }).expect_err("differs");
        assert!(matches!(&error, WorkerError::Configuration(text) if text.contains("other")), "{error}");
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let briefing = Briefing::parse(&welcome()).expect("good");
        let spoilt: BTreeMap<&str, wire::Generation> = BTreeMap::from([
            ("data set", wire::Generation { data_set: None, ..generation() }),
            ("lanes", wire::Generation { first_lane: 1, ..generation() }),
            ("source", wire::Generation { source: Some(1), ..generation() }),
            ("rank", wire::Generation { rank: 1, ..generation() }),
        ]);
        for (word, generation) in spoilt {
            let error = briefing.order(generation).expect_err("refused").to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_store_that_is_not_there_is_a_configuration_fault() {
        let error = Briefing::parse(&wire::Welcome { store: "file:///no/such/store".to_owned(), ..welcome() });
        assert!(matches!(error, Err(WorkerError::Configuration(text)) if text.contains("/no/such/store")));
    }
}
