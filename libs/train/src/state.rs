//! The state of a training run as bytes: what a checkpoint holds, and the way back.

use std::borrow::Cow;
use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::TrainError;
use crate::optim::{Entry, FlatParams, Sgd};

const FORMAT: u32 = 1;

/// Everything that a later trainer needs to go on bit for bit.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Steps done.
    pub step: u64,
    /// safetensors: parameters and running statistics, the backbone's under their published names.
    pub model: Vec<u8>,
    /// safetensors: momentum, under the names of the parameters.
    pub optimizer: Vec<u8>,
    /// What else is needed: step, seed, lanes.
    pub progress: serde_json::Value,
}

/// The part of the state that is not tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    pub(crate) format: u32,
    pub(crate) step: u64,
    pub(crate) seed: u64,
    pub(crate) lanes: u32,
    pub(crate) batch_clips: u64,
}

impl Progress {
    pub(crate) fn new(step: u64, config: &crate::TrainConfig) -> Self {
        Self { format: FORMAT, step, seed: config.seed, lanes: config.lanes, batch_clips: config.batch_clips }
    }

    pub(crate) fn to_json(self) -> serde_json::Value {
        serde_json::to_value(self).expect("plain numbers are JSON")
    }

    /// Reads it back, refusing what belongs to another run than `own` does.
    pub(crate) fn from_json(json: &serde_json::Value, own: Self) -> Result<Self, TrainError> {
        let found = Self::deserialize(json).map_err(|e| restore(format!("its progress record {json}: {e}")))?;
        let fields = [
            ("format", u64::from(found.format), u64::from(own.format)),
            ("seed", found.seed, own.seed),
            ("lanes", found.lanes.into(), own.lanes.into()),
            ("batch_clips", found.batch_clips, own.batch_clips),
        ];
        match fields.into_iter().find(|(_, found, own)| found != own) {
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

/// A piece of the momentum as a tensor of a safetensors file.
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

/// The optimiser's state as safetensors.
pub(crate) fn optimizer_bytes(optimizer: &Sgd, params: &FlatParams) -> Result<Vec<u8>, TrainError> {
    let refused = |what: &dyn std::fmt::Display| TrainError::Snapshot { problem: format!("copy the momentum: {what}") };
    let host = optimizer.momentum.to_device(Device::Cpu);
    let mut bytes = vec![0; host.numel() * F32_BYTES];
    host.f_copy_data_u8(&mut bytes, host.numel()).map_err(|e| refused(&e))?;
    let pieces: BTreeMap<&str, Piece> = params
        .entries
        .iter()
        .map(|entry| (entry.name.as_str(), Piece { shape: shape(entry), data: &bytes[bytes_of(entry)] }))
        .collect();
    safetensors::serialize(pieces, None).map_err(|e| refused(&e))
}

/// The momentum that `bytes` holds, laid out as the parameters are. Names, shapes and types must be theirs.
pub(crate) fn read_momentum(bytes: &[u8], params: &FlatParams) -> Result<Tensor, TrainError> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| restore(format!("the optimiser's file is no safetensors file ({e}): it is damaged")))?;
    let mut flat = vec![0; params.len() as usize * F32_BYTES];
    for entry in &params.entries {
        let name = &entry.name;
        let found = file.tensor(name).map_err(|_| restore(format!("the optimiser's file has no {name}")))?;
        if found.shape() != shape(entry) || found.dtype() != Dtype::F32 {
            let (kind, is) = (found.dtype(), found.shape());
            return Err(restore(format!("momentum of {name} is {kind:?} {is:?}, but must be F32 {:?}", shape(entry))));
        }
        flat[bytes_of(entry)].copy_from_slice(found.data());
    }
    if let Some(name) = file.names().into_iter().find(|name| params.entries.iter().all(|entry| entry.name != **name)) {
        return Err(restore(format!("the optimiser's file has {name}, which the network does not train")));
    }
    let momentum = Tensor::from_data_size(&flat, &[params.len()], Kind::Float);
    Ok(momentum.to_device(params.values.device()))
}
