//! One forward pass over given clips, with everything that can be looked at.

use models::{ClipShape, Mode, ModelError, Observer, read_tensor, write_tensors};
use tch::{Kind, Tensor};

use super::find;
use super::network::{Deciding, Weights};
use crate::config::{DeviceChoice, PolicyChoice};
use crate::error::{WorkerError, in_one_line};

/// What is wanted of a forward pass.
#[derive(Debug)]
pub struct Forward {
    /// How dynamic layers decide.
    pub policy: PolicyChoice,
    /// The output of every layer, too.
    pub features: bool,
    /// Where to compute.
    pub device: DeviceChoice,
    /// The file of the clips, for messages.
    pub input: String,
}

/// What came of it.
#[derive(Debug)]
pub struct Done {
    /// Safetensors of logits, gates and features.
    pub bytes: Vec<u8>,
    /// In a few words.
    pub note: String,
}

/// Passes the tensor `clips` of the safetensors `input` through the network.
pub fn forward(weights: &Weights, input: &[u8], wanted: &Forward) -> Result<Done, WorkerError> {
    let device = find(wanted.device)?;
    let clips = read_tensor(input, "clips").map_err(|error| refused(wanted, error))?;
    let clips = clips_of(&clips, weights)
        .map_err(|problem| WorkerError::Data(format!("can't use the clips of {}: {problem}", wanted.input)))?;
    let clips = clips.to_device(device);
    let network = weights.network(device)?;
    let deciding = Deciding::new(&wanted.policy, network.costs())?;
    let mut features = Features::default();
    let (mode, policy) = (Mode { train: false }, deciding.policy());
    let pass = tch::no_grad(|| match wanted.features {
        true => network.forward_observed(&clips, (mode, &policy), &mut features),
        false => network.forward(&clips, mode, &policy),
    });
    let mut named = features.outputs;
    for (layer, gates) in network.costs().dynamic_layers().iter().zip(&pass.gates) {
        named.push((format!("gates.{}.time", layer.name), gates.v_time_no.shallow_clone()));
        named.push((format!("gates.{}.channel", layer.name), gates.v_channel_no.shallow_clone()));
    }
    let note = format!(
        "{} clips, {} classes, {} dynamic layers, {} features",
        clips.size()[0],
        pass.logits_nk.size()[1],
        pass.gates.len(),
        named.len() - 2 * pass.gates.len(),
    );
    named.push(("logits".to_owned(), pass.logits_nk));
    let bytes = write_tensors(&named).map_err(|error| refused(wanted, error))?;
    Ok(Done { bytes, note })
}

/// Normalised clips `[n, 3, t, h, w]`.
fn clips_of(clips: &Tensor, weights: &Weights) -> Result<Tensor, String> {
    let (clips, shape) = match (clips.kind(), clips.size().as_slice()) {
        (Kind::Float, &[n, 3, t, h, w]) => (clips.shallow_clone(), [n, t, h, w]),
        (Kind::Uint8, &[n, t, h, w, 3]) => (weights.card.pixels.normalise(clips), [n, t, h, w]),
        (kind, shape) => {
            return Err(format!(
                "floats [n, 3, t, h, w] or bytes [n, t, h, w, 3] are wanted, they are {kind:?} {shape:?}"
            ));
        }
    };
    let [n, frames, height, width] = shape;
    ClipShape { frames, height, width }.validate().map_err(|error| error.to_string())?;
    if n == 0 { Err("there are none".to_owned()) } else { Ok(clips) }
}

fn refused(wanted: &Forward, error: ModelError) -> WorkerError {
    WorkerError::Data(format!("can't compute on {}: {}", wanted.input, in_one_line(error)))
}

/// Keeps a copy of every layer's output.
#[derive(Debug, Default)]
struct Features {
    outputs: Vec<(String, Tensor)>,
}

impl Observer for Features {
    fn begin(&mut self) {}

    fn end(&mut self, layer: &str, output: &Tensor) {
        self.outputs.push((format!("features.{layer}"), output.copy()));
    }
}
