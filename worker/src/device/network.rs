//! Weights that know what they are for, and the network that they make.

use bytes::Bytes;
use models::{Card, CostModel, ModelError, Network, Policy, PolicyFile, PolicyPlan};

use super::recipe::Sections;
use crate::config::PolicyChoice;
use crate::error::{WorkerError, in_one_line};

/// The weights of a network with everything that is needed to use them.
#[derive(Debug, Clone)]
pub struct Weights {
    /// Network, clips and classes.
    pub card: Card,
    /// A safetensors file.
    pub bytes: Bytes,
    /// Where they come from, for messages: a file, or a run and its step.
    pub origin: String,
}

impl Weights {
    /// A file that holds its card.
    pub fn from_file(bytes: Bytes, origin: String) -> Result<Self, WorkerError> {
        let card = Card::of(&bytes).map_err(|error| refused(&origin, error))?;
        Ok(Self { card, bytes, origin })
    }

    /// The model of a run's checkpoint, whose card is in the recipe.
    pub fn from_run(recipe: &str, classes: &[String], model: Bytes, origin: String) -> Result<Self, WorkerError> {
        let card = Sections::parse(recipe)?.card(classes.to_vec());
        card.validate().map_err(|error| refused(&origin, error))?;
        Ok(Self { card, bytes: model, origin })
    }

    /// The network, filled.
    pub fn network(&self, device: tch::Device) -> Result<Network, WorkerError> {
        let build = || {
            let network = Network::build(&self.card.model, self.card.view.clip(), 0, device)?;
            network.load_safetensors(&self.bytes)?;
            Ok(network)
        };
        build().map_err(|error| refused(&self.origin, error))
    }
}

/// How dynamic layers decide, with the weights that a forced policy needs.
#[derive(Debug)]
pub enum Deciding {
    /// Everything in full.
    Full,
    /// By the gates, everything computed.
    Soft,
    /// By the gates, as little computed as they allow.
    Skip,
    /// The same for every clip.
    Forced(PolicyPlan),
}

impl Deciding {
    /// What was chosen, for a network of these costs.
    pub fn new(choice: &PolicyChoice, costs: &CostModel) -> Result<Self, WorkerError> {
        Ok(match choice {
            PolicyChoice::Full => Self::Full,
            PolicyChoice::Soft => Self::Soft,
            PolicyChoice::Skip => Self::Skip,
            PolicyChoice::Forced(text) => {
                let plan = PolicyFile::parse(text).and_then(|file| file.plan(costs));
                let refused =
                    |error: ModelError| WorkerError::Configuration(format!("--policy: {}", in_one_line(error)));
                Self::Forced(plan.map_err(refused)?)
            }
        })
    }

    /// As the network wants it.
    pub fn policy(&self) -> Policy<'_> {
        match self {
            Self::Full => Policy::Full,
            Self::Soft => Policy::Soft,
            Self::Skip => Policy::Skip,
            Self::Forced(plan) => Policy::Fixed(plan),
        }
    }
}

/// The user named weights that can't be used.
fn refused(origin: &str, error: ModelError) -> WorkerError {
    WorkerError::Configuration(format!("can't use {origin}: {}", in_one_line(error)))
}
