//! A network for others: its weights, or a program that computes it.

use std::path::Path;

use models::{Mode, ModelError};
use tch::{CModule, Kind, Tensor};

use crate::config::PolicyChoice;
use crate::device::network::{Deciding, Weights};
use crate::error::{WorkerError, in_one_line};

/// A safetensors file of everything, or of the plain backbone.
pub fn safetensors(weights: &Weights, backbone_only: bool) -> Result<Vec<u8>, WorkerError> {
    let network = weights.network(tch::Device::Cpu)?;
    let written = if backbone_only {
        network.backbone_to_safetensors_with(&weights.card)
    } else {
        network.to_safetensors_with(&weights.card)
    };
    written.map_err(|error| refused("write the weights of", weights, error))
}

/// Writes a TorchScript program to `output`: what the network computes under one policy for every clip.
pub fn torchscript(weights: &Weights, choice: &PolicyChoice, output: &Path) -> Result<(), WorkerError> {
    if matches!(choice, PolicyChoice::Soft | PolicyChoice::Skip) {
        return Err(WorkerError::Configuration(
            "--policy: a program computes the same for every clip: give full, or a policy file".to_owned(),
        ));
    }
    let network = weights.network(tch::Device::Cpu)?;
    let deciding = Deciding::new(choice, network.costs())?;
    for param in network.params().trained() {
        // A trace takes the parameters as constants, and those have no gradients.
        let _ = param.tensor.set_requires_grad(false);
    }
    let clip = weights.card.view.clip();
    let clips = Tensor::zeros([1, 3, clip.frames, clip.height, clip.width], (Kind::Float, tch::Device::Cpu));
    let mut forward =
        |inputs: &[Tensor]| vec![network.forward(&inputs[0], Mode { train: false }, &deciding.policy()).logits_nk];
    let traced = CModule::create_by_tracing("vared", "forward", &[clips], &mut forward);
    let saved = traced.and_then(|program| program.save(output));
    let doing = format!("writing {} as TorchScript", output.display());
    saved.map_err(|source| refused("trace", weights, ModelError::Torch { doing, source }))
}

fn refused(doing: &str, weights: &Weights, error: ModelError) -> WorkerError {
    WorkerError::Compute(format!("can't {doing} {}: {}", weights.origin, in_one_line(error)))
}
