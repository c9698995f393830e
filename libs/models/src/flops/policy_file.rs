//! A forced policy as a document: what each dynamic layer computes.
//!
//! ```json
//! {
//!   "layer1.0.conv1.0.0": { "time": 1, "channel": [0.9, 0.3] },
//!   "*": { "channel": 1 }
//! }
//! ```
//!
//! A layer's axes are `time` (its frames) and `channel`. An axis is the number of one option, which then has weight 1 —
//! 0 is the full computation, 1 a half, 2 a quarter — or the weights of all its options, from the full one on. An axis
//! that is not named is computed in full. `*` stands for every dynamic layer that has no entry of its own; without it all
//! must have one.

use std::collections::BTreeMap;

use nn::{ForcedGates, PolicyPlan};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{CostModel, DynamicLayer};
use crate::ModelError;

/// The entry for all layers that have none of their own.
const OTHERS: &str = "*";

/// A forced policy, by the names of the dynamic layers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyFile {
    /// What each layer computes; `*` is for all others.
    pub layers: BTreeMap<String, LayerPolicy>,
}

/// What a layer computes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LayerPolicy {
    /// Of its frames.
    pub time: AxisPolicy,
    /// Of its channels.
    pub channel: AxisPolicy,
}

/// What a layer computes along one axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AxisPolicy {
    /// This option with weight 1: 0 is the full computation. A layer with fewer options takes its cheapest.
    Option(usize),
    /// These weights of all options, each from 0 to 1, from the full computation on.
    Weights(Vec<f32>),
}

impl Default for AxisPolicy {
    fn default() -> Self {
        Self::Option(0)
    }
}

impl PolicyFile {
    /// Reads the document.
    ///
    /// # Errors
    /// [`ModelError::PolicyFile`] if it is not one.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        serde_json::from_str(text).map_err(|error| ModelError::PolicyFile { problem: error.to_string() })
    }

    /// The weights for a network with these dynamic layers.
    ///
    /// # Errors
    /// If a layer is unknown or has no entry, or if weights do not fit its options.
    pub fn plan(&self, costs: &CostModel) -> Result<PolicyPlan, ModelError> {
        let layers = costs.dynamic_layers();
        for name in self.layers.keys().filter(|name| *name != OTHERS) {
            if !layers.iter().any(|layer| layer.name == *name) {
                let some: Vec<&str> = layers.iter().take(3).map(|layer| layer.name.as_str()).collect();
                let problem =
                    format!("the network has no such dynamic layer; it has {}, … ({})", some.join(", "), layers.len());
                return Err(ModelError::Plan { layer: name.clone(), problem });
            }
        }
        let forced = layers.iter().map(|layer| self.layer(layer)).collect::<Result<Vec<_>, _>>()?;
        let plan = PolicyPlan { layers: forced };
        costs.check_plan(&plan)?;
        Ok(plan)
    }

    fn layer(&self, layer: &DynamicLayer) -> Result<ForcedGates, ModelError> {
        let error = |problem: String| ModelError::Plan { layer: layer.name.clone(), problem };
        let entry = self.layers.get(&layer.name).or_else(|| self.layers.get(OTHERS));
        let entry = entry.ok_or_else(|| error(format!("it has no entry, and there is none for `{OTHERS}`")))?;
        Ok(ForcedGates {
            v_time_no: entry.time.weights(layer.time_factors.len()).map_err(error)?,
            v_channel_no: entry.channel.weights(layer.channel_factors.len()).map_err(error)?,
        })
    }
}

impl AxisPolicy {
    /// `[1, options]`.
    fn weights(&self, options: usize) -> Result<Tensor, String> {
        let row = match self {
            Self::Option(option) => {
                let chosen = (*option).min(options.saturating_sub(1));
                (0..options).map(|option| if option == chosen { 1.0 } else { 0.0 }).collect()
            }
            Self::Weights(weights) => weights.clone(),
        };
        match row.iter().find(|weight| !(0.0..=1.0).contains(*weight)) {
            Some(weight) => Err(format!("{weight} is no weight: it must be from 0 to 1")),
            None => Ok(Tensor::from_slice(&row).reshape([1, -1])),
        }
    }
}
