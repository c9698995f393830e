//! The recipe: one TOML document that says everything about what is trained, and its digest.
//!
//! Each process reads its own sections. This module owns `[run]` and the stages' epochs, knows the names of all sections
//! (a misspelt one is refused, not ignored), applies `--set` and writes the canonical text that is hashed, stored with
//! the run and sent to every member.

mod assignment;
mod changes;
mod explain;

use serde::Deserialize;
use thiserror::Error;

pub use assignment::{Assignment, AssignmentError};
pub use changes::{Change, changes};
pub use explain::explain;

use crate::{
    ids::RunName,
    plan::{MAX_BATCH_CLIPS, MAX_EPOCHS, Plan, PlanError},
};

/// The sections that a recipe must have, beside its `name`.
pub const SECTIONS: [&str; 5] = ["run", "data", "model", "optim", "stages"];
/// Those that it may have.
pub const OPTIONAL_SECTIONS: [&str; 1] = ["init"];
/// Most lanes of a run.
pub const MAX_LANES: u32 = 1024;
/// Most CPU threads a worker computes with.
pub const MAX_THREADS: u32 = 1024;
/// Most batches for precise batch norm.
pub const MAX_PRECISE_BN_BATCHES: u64 = 10_000;
/// A lane's batch norm sees only the lane's clips; with fewer than this its statistics are noise.
pub const RECOMMENDED_LANE_CLIPS: u64 = 8;

/// A validated recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    name: RunName,
    run: RunSection,
    stages: Vec<Stage>,
    text: String,
    digest: String,
}

/// The section `[run]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSection {
    /// Where every random stream of the run starts.
    pub seed: u64,
    /// Lanes that each batch is cut into.
    pub lanes: u32,
    /// Clips in the batch of a step, over all lanes.
    pub batch_clips: u64,
    /// Steps between two checkpoints (there is one more at the end of each epoch, at a drain and at the end).
    pub checkpoint_every_steps: u64,
    /// CPU threads that a worker computes with.
    pub threads: u32,
    /// Batches of training clips over which batch-norm statistics are estimated anew at the end of each epoch; 0: never.
    #[serde(default)]
    pub precise_bn_batches: u64,
}

/// What the deciding side reads of `[[stages]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Stage {
    /// Its name, for messages.
    pub name: String,
    /// Epochs that it lasts.
    pub epochs: u64,
}

/// Why a recipe is refused.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum RecipeError {
    /// Not TOML, or a field of the wrong type.
    #[error("the recipe can't be read: {0}")]
    Syntax(String),
    /// A top-level key that nobody reads.
    #[error("the recipe has an unknown section `{section}`; known are name, {}, {}", SECTIONS.join(", "), OPTIONAL_SECTIONS.join(", "))]
    UnknownSection {
        /// Its name.
        section: String,
    },
    /// A top-level key that is missing.
    #[error("the recipe has no `{section}`")]
    MissingSection {
        /// Its name.
        section: &'static str,
    },
    /// A field's value is out of bounds.
    #[error("{field} is {value}; it must be {bound}")]
    Field {
        /// Its path in the document.
        field: String,
        /// The value found.
        value: String,
        /// What would be accepted.
        bound: String,
    },
    /// A `--set` can't be applied.
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
}

impl Recipe {
    /// Reads a recipe, with assignments (`--set`) applied in order.
    pub fn parse(text: &str, assignments: &[Assignment]) -> Result<Self, RecipeError> {
        let mut document: toml::Table = text.parse().map_err(syntax)?;
        for assignment in assignments {
            assignment.apply(&mut document)?;
        }
        check_sections(&document)?;
        let recipe = Self::from_document(&document)?;
        recipe.check()?;
        Ok(recipe)
    }

    fn from_document(document: &toml::Table) -> Result<Self, RecipeError> {
        let section = |name: &str| document.get(name).cloned().ok_or_else(|| syntax(format!("no `{name}`")));
        let name: String = section("name")?.try_into().map_err(|e| in_section("name", &e))?;
        let text = canonical(document);
        Ok(Self {
            name: name.parse().map_err(|e| field("name", &name, e))?,
            run: section("run")?.try_into().map_err(|e| in_section("run", &e))?,
            stages: section("stages")?.try_into().map_err(|e| in_section("stages", &e))?,
            digest: blake3::hash(text.as_bytes()).to_hex().to_string(),
            text,
        })
    }

    fn check(&self) -> Result<(), RecipeError> {
        let RunSection { lanes, batch_clips, checkpoint_every_steps, threads, precise_bn_batches, .. } = self.run;
        within("run.lanes", lanes.into(), 1, MAX_LANES.into())?;
        within("run.batch_clips", batch_clips, 1, MAX_BATCH_CLIPS)?;
        if !batch_clips.is_multiple_of(lanes.into()) {
            return Err(field("run.batch_clips", batch_clips, format!("a multiple of run.lanes ({lanes})")));
        }
        within("run.checkpoint_every_steps", checkpoint_every_steps, 1, u64::from(u32::MAX))?;
        within("run.threads", threads.into(), 1, MAX_THREADS.into())?;
        within("run.precise_bn_batches", precise_bn_batches, 0, MAX_PRECISE_BN_BATCHES)?;
        if self.stages.is_empty() {
            return Err(field("stages", "empty", "one stage or more"));
        }
        for (i, stage) in self.stages.iter().enumerate() {
            within(&format!("stages.{i}.epochs"), stage.epochs, 1, MAX_EPOCHS)?;
        }
        within("the sum of all stages' epochs", self.epochs(), 1, MAX_EPOCHS)
    }

    /// What is legal but unwise, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let lane_clips = self.run.batch_clips / u64::from(self.run.lanes);
        if lane_clips >= RECOMMENDED_LANE_CLIPS {
            return Vec::new();
        }
        vec![format!(
            "a lane holds {lane_clips} clips (run.batch_clips / run.lanes); with fewer than {RECOMMENDED_LANE_CLIPS} \
             its batch-norm statistics are noisy"
        )]
    }

    /// The recipe's name; a run is called after it unless it gets a name of its own.
    pub fn name(&self) -> &RunName {
        &self.name
    }

    /// The section `[run]`.
    pub fn run(&self) -> &RunSection {
        &self.run
    }

    /// The stages in order.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// Epochs of the whole run.
    pub fn epochs(&self) -> u64 {
        self.stages.iter().fold(0, |sum, stage| sum.saturating_add(stage.epochs))
    }

    /// The stage that an epoch belongs to; the last one for all epochs after the end.
    pub fn stage_of_epoch(&self, epoch: u64) -> &Stage {
        let mut end = 0;
        let found = self.stages.iter().find(|stage| {
            end += stage.epochs;
            epoch < end
        });
        found.unwrap_or_else(|| self.stages.last().expect("a recipe without stages is refused by `parse`"))
    }

    /// The canonical text: assignments applied, keys sorted, comments gone.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// blake3 of [`Recipe::text`], hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The data plan for a train set of `clips` clips.
    pub fn plan(&self, clips: u64) -> Result<Plan, PlanError> {
        Plan::new(self.run.seed, clips, self.run.batch_clips, self.run.lanes)
    }
}

fn check_sections(document: &toml::Table) -> Result<(), RecipeError> {
    let known = |key: &str| key == "name" || SECTIONS.contains(&key) || OPTIONAL_SECTIONS.contains(&key);
    if let Some(section) = document.keys().find(|key| !known(key)) {
        return Err(RecipeError::UnknownSection { section: section.clone() });
    }
    match std::iter::once("name").chain(SECTIONS).find(|section| !document.contains_key(*section)) {
        Some(section) => Err(RecipeError::MissingSection { section }),
        None => Ok(()),
    }
}

/// The document with its keys in one order, so that equal recipes have equal digests.
fn canonical(document: &toml::Table) -> String {
    let sorted = toml::Value::Table(document.clone());
    toml::to_string(&sorted).expect("a parsed TOML document can be written")
}

fn within(name: &str, value: u64, low: u64, high: u64) -> Result<(), RecipeError> {
    if (low..=high).contains(&value) { Ok(()) } else { Err(field(name, value, format!("{low} to {high}"))) }
}

fn field(name: &str, value: impl ToString, bound: impl ToString) -> RecipeError {
    RecipeError::Field { field: name.to_owned(), value: value.to_string(), bound: bound.to_string() }
}

fn syntax(error: impl ToString) -> RecipeError {
    RecipeError::Syntax(error.to_string().trim_end().to_owned())
}

fn in_section(section: &str, error: &toml::de::Error) -> RecipeError {
    syntax(format!("section `{section}`: {}", error.message()))
}

#[cfg(test)]
mod tests;
