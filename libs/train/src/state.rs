//! The state of a training run as bytes: what a checkpoint holds, and the way back.

use std::borrow::Cow;
use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::TrainError;
use crate::config::OptimKind;
use crate::optim::{Entry, FlatParams};

const FORMAT: u32 = 1;

/// Everything that a later trainer needs to go on bit for bit.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Steps done.
    pub step: u64,
    /// safetensors: parameters and running statistics, the backbone's under their published names.
    pub model: Vec<u8>,
    /// safetensors: the averaged weights and statistics under the same names, if the recipe wants them.
    pub average: Option<Vec<u8>>,
    /// safetensors: what the optimiser remembers, under the names of the parameters. SGD and LARS: `NAME`, the momentum;
    /// AdamW: `NAME.exp_avg` and `NAME.exp_avg_sq`.
    pub optimizer: Vec<u8>,
    /// What else is needed: step, seed, lanes.
    pub progress: serde_json::Value,
}

impl Snapshot {
    /// As [`crate::Trainer::restore`] takes it.
    pub fn saved(&self) -> Saved<'_> {
        Saved {
            model: &self.model,
            average: self.average.as_deref(),
            optimizer: &self.optimizer,
            progress: &self.progress,
        }
    }
}

/// A snapshot as it comes back from wherever it was kept.
#[derive(Debug, Clone, Copy)]
pub struct Saved<'a> {
    /// [`Snapshot::model`].
    pub model: &'a [u8],
    /// [`Snapshot::average`].
    pub average: Option<&'a [u8]>,
    /// [`Snapshot::optimizer`].
    pub optimizer: &'a [u8],
    /// [`Snapshot::progress`].
    pub progress: &'a serde_json::Value,
}

impl<'a> Saved<'a> {
    /// The averaged weights for a run that has some, or has none.
    pub(crate) fn average_for(&self, wanted: bool) -> Result<Option<&'a [u8]>, TrainError> {
        match (self.average, wanted) {
            (None, true) => Err(restore("it holds no averaged weights, but optim.ema_decay asks for them".to_owned())),
            (Some(_), false) => Err(restore("it holds averaged weights, but optim.ema_decay is 0".to_owned())),
            (average, _) => Ok(average),
        }
    }
}

/// The part of the state that is not tensors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    pub(crate) format: u32,
    pub(crate) step: u64,
    pub(crate) seed: u64,
    pub(crate) lanes: u32,
    pub(crate) batch_clips: u64,
    /// `optim.kind`. Checkpoints that do not say it are older than the others.
    #[serde(default = "Progress::oldest_optimizer")]
    pub(crate) optimizer: String,
}

impl Progress {
    pub(crate) fn new(step: u64, config: &crate::TrainConfig) -> Self {
        Self {
            format: FORMAT,
            step,
            seed: config.seed,
            lanes: config.lanes,
            batch_clips: config.batch_clips,
            optimizer: config.optim.kind.name().to_owned(),
        }
    }

    fn oldest_optimizer() -> String {
        OptimKind::Sgd.name().to_owned()
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("plain numbers are JSON")
    }

    /// Reads it back, refusing what belongs to another run than `own` does.
    pub(crate) fn from_json(json: &serde_json::Value, own: &Self) -> Result<Self, TrainError> {
        let found = Self::deserialize(json).map_err(|e| restore(format!("its progress record {json}: {e}")))?;
        let fields = [
            ("format", u64::from(found.format), u64::from(own.format)),
            ("seed", found.seed, own.seed),
            ("lanes", found.lanes.into(), own.lanes.into()),
            ("batch_clips", found.batch_clips, own.batch_clips),
        ];
        match fields.into_iter().find(|(_, found, own)| found != own) {
            None if found.optimizer != own.optimizer => Err(restore(format!(
                "its optimizer is {}, this run's is {}: what one remembers is nothing to the other",
                found.optimizer, own.optimizer
            ))),
            None => Ok(found),
            Some((field, found, own)) => {
                Err(restore(format!("its {field} is {found}, this run's is {own}: it is a checkpoint of another run")))
            }
        }
    }
}

fn restore(problem: String) -> TrainError {
    TrainError::Restore { problem }
}

/// One parameter's piece of a vector as a tensor of a safetensors file.
struct Piece<'a> {
    shape: Vec<usize>,
    data: &'a [u8],
}

impl View for Piece<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.data)
    }
    fn data_len(&self) -> usize {
        self.data.len()
    }
}

const F32_BYTES: usize = size_of::<f32>();

fn bytes_of(entry: &Entry) -> std::ops::Range<usize> {
    entry.range.start as usize * F32_BYTES..entry.range.end as usize * F32_BYTES
}

fn shape(entry: &Entry) -> Vec<usize> {
    entry.tensor.size().iter().map(|size| *size as usize).collect()
}

/// An optimiser's vectors as safetensors, each under its suffix.
pub(crate) fn optimizer_bytes(state: &[(&'static str, &Tensor)], params: &FlatParams) -> Result<Vec<u8>, TrainError> {
    let refused =
        |what: &dyn std::fmt::Display| TrainError::Snapshot { problem: format!("copy the optimiser's state: {what}") };
    let host = |vector: &Tensor| {
        let host = vector.to_device(Device::Cpu);
        let mut bytes = vec![0; host.numel() * F32_BYTES];
        host.f_copy_data_u8(&mut bytes, host.numel()).map_err(|e| refused(&e))?;
        Ok(bytes)
    };
    let vectors: Vec<Vec<u8>> = state.iter().map(|(_, vector)| host(vector)).collect::<Result<_, TrainError>>()?;
    let mut pieces: BTreeMap<String, Piece> = BTreeMap::new();
    for ((suffix, _), bytes) in state.iter().zip(&vectors) {
        let piece = |entry: &Entry| Piece { shape: shape(entry), data: &bytes[bytes_of(entry)] };
        pieces.extend(params.entries.iter().map(|entry| (format!("{}{suffix}", entry.name), piece(entry))));
    }
    safetensors::serialize(pieces, None).map_err(|e| refused(&e))
}

/// The vectors that `bytes` holds under these suffixes, laid out as the parameters are. Names, shapes and types must be theirs.
pub(crate) fn read_optimizer(bytes: &[u8], suffixes: &[&str], params: &FlatParams) -> Result<Vec<Tensor>, TrainError> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| restore(format!("the optimiser's file is no safetensors file ({e}): it is damaged")))?;
    let vectors: Vec<_> =
        suffixes.iter().map(|suffix| read_vector(&file, suffix, params)).collect::<Result<_, TrainError>>()?;
    let is_known = |name: &str| {
        let mut pieces = suffixes.iter().filter_map(|suffix| name.strip_suffix(suffix));
        pieces.any(|name| params.entries.iter().any(|entry| entry.name == name))
    };
    match file.names().into_iter().find(|name| !is_known(name)) {
        Some(name) => Err(restore(format!("the optimiser's file has {name}, which the network does not train"))),
        None => Ok(vectors),
    }
}

fn read_vector(file: &SafeTensors, suffix: &str, params: &FlatParams) -> Result<Tensor, TrainError> {
    let mut flat = vec![0; params.len() as usize * F32_BYTES];
    for entry in &params.entries {
        let name = format!("{}{suffix}", entry.name);
        let found = file.tensor(&name).map_err(|_| restore(format!("the optimiser's file has no {name}")))?;
        if found.shape() != shape(entry) || found.dtype() != Dtype::F32 {
            let (kind, is) = (found.dtype(), found.shape());
            return Err(restore(format!(
                "the optimiser's {name} is {kind:?} {is:?}, but must be F32 {:?}",
                shape(entry)
            )));
        }
        flat[bytes_of(entry)].copy_from_slice(found.data());
    }
    Ok(Tensor::from_data_size(&flat, &[params.len()], Kind::Float).to_device(params.values.device()))
}
