//! What a worker holds between two steps: as the objects of a checkpoint, and on its way to the others of its group.

use std::ops::Range;

use collective::Group;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};
use train::{Saved, Trainer};

use super::{Device, fault};
use crate::compute::{DataFacts, Objects, Seat, Start};
use crate::error::{WorkerError, in_one_line};

/// The state, and what belongs to it. It outlives the generation that it was made in.
pub(super) struct Current {
    pub(super) trainer: Trainer,
    pub(super) lanes: Range<u32>,
    pub(super) data: DataFacts,
    /// Not so before and while it is taken over from another worker.
    pub(super) is_whole: bool,
}

/// The object `run.json` of a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct RunState {
    recipe_digest: String,
    recipe: String,
    data_digest: String,
    classes: Vec<String>,
    progress: serde_json::Value,
}

impl Device {
    /// What this worker brings into a generation that starts there, before it meets the others.
    pub(super) fn prepare(&mut self, seat: &Seat, data: &DataFacts, start: &Start) -> Result<Current, WorkerError> {
        let kept = self.current.take().filter(|_| matches!(start, Start::Survivor(_)));
        if let Some(current) = kept {
            return Ok(Current { lanes: seat.lanes.clone(), ..current });
        }
        let config = self.sections.train_config(&self.recipe, data)?;
        let mut trainer = Trainer::new(config, self.device).map_err(fault)?;
        match start {
            Start::Checkpoint(objects) => restore(&mut trainer, objects)?,
            Start::Seed => {
                if let Some(weights) = self.sections.start()? {
                    trainer.start_from(&weights).map_err(fault)?;
                }
            }
            Start::Survivor(_) => {}
        }
        let is_whole = !matches!(start, Start::Survivor(_));
        Ok(Current { trainer, lanes: seat.lanes.clone(), data: data.clone(), is_whole })
    }

    /// The state as the objects of a checkpoint.
    pub(super) fn objects(&self, current: &Current) -> Result<Objects, WorkerError> {
        let snapshot = current.trainer.snapshot().map_err(fault)?;
        let state = RunState {
            recipe_digest: self.recipe.digest().to_owned(),
            recipe: self.recipe.text().to_owned(),
            data_digest: current.data.digest.clone(),
            classes: current.data.classes.clone(),
            progress: snapshot.progress,
        };
        let state = serde_json::to_vec_pretty(&state).expect("strings and JSON always serialise");
        let average = snapshot.average.map(|average| (checkpoint::layout::AVERAGE.to_owned(), average.into()));
        let objects = [
            (checkpoint::layout::MODEL.to_owned(), snapshot.model.into()),
            (checkpoint::layout::OPTIMIZER.to_owned(), snapshot.optimizer.into()),
            (checkpoint::layout::RUN.to_owned(), state.into()),
        ];
        Ok(objects.into_iter().chain(average).collect())
    }

    /// Gives the state of rank `source` to all: what travels are the objects of a checkpoint, which never reach a store.
    pub(super) fn share(&self, current: &mut Current, group: &mut Group, source: u32) -> Result<(), WorkerError> {
        let is_source = group.rank() == source;
        if is_source && !current.is_whole {
            return Err(WorkerError::Compute(
                "others are to take over this worker's state, but it holds none".to_owned(),
            ));
        }
        if group.world() == 1 {
            return Ok(());
        }
        if is_source {
            send(group, &self.objects(current)?, source)
        } else {
            current.is_whole = false;
            restore(&mut current.trainer, &receive(group, source)?)?;
            current.is_whole = true;
            Ok(())
        }
    }
}

fn restore(trainer: &mut Trainer, objects: &Objects) -> Result<(), WorkerError> {
    let object = |name: &str| {
        let missing =
            || WorkerError::Configuration(format!("the checkpoint holds no {name}: an older version wrote it"));
        objects.get(name).ok_or_else(missing)
    };
    let state: RunState = serde_json::from_slice(object(checkpoint::layout::RUN)?).map_err(|error| {
        WorkerError::Configuration(format!("the checkpoint's {} can't be read: {error}", checkpoint::layout::RUN))
    })?;
    let saved = Saved {
        model: object(checkpoint::layout::MODEL)?,
        average: objects.get(checkpoint::layout::AVERAGE).map(|average| &average[..]),
        optimizer: object(checkpoint::layout::OPTIMIZER)?,
        progress: &state.progress,
    };
    trainer.restore(saved).map_err(fault)
}

/// The list of names and lengths, behind its own length; then every object's bytes.
fn send(group: &mut Group, objects: &Objects, source: u32) -> Result<(), WorkerError> {
    let list: Vec<(&str, usize)> = objects.iter().map(|(name, bytes)| (name.as_str(), bytes.len())).collect();
    let list = serde_json::to_vec(&list).expect("names and numbers always serialise");
    let length = i64::try_from(list.len()).expect("a list of names is short");
    broadcast(group, &Tensor::from_slice(&[length]), source)?;
    std::iter::once(&list[..])
        .chain(objects.values().map(|bytes| &bytes[..]))
        .try_for_each(|bytes| broadcast(group, &Tensor::from_slice(bytes), source))
}

fn receive(group: &mut Group, source: u32) -> Result<Objects, WorkerError> {
    let length = Tensor::zeros([1], (Kind::Int64, tch::Device::Cpu));
    broadcast(group, &length, source)?;
    let list = receive_bytes(group, usize::try_from(length.int64_value(&[0])).unwrap_or_default(), source)?;
    let list: Vec<(String, usize)> = serde_json::from_slice(&list)
        .map_err(|error| WorkerError::Collective(format!("rank {source} sent no list of its state: {error}")))?;
    list.into_iter().map(|(name, length)| Ok((name, receive_bytes(group, length, source)?.into()))).collect()
}

fn receive_bytes(group: &mut Group, length: usize, source: u32) -> Result<Vec<u8>, WorkerError> {
    let size = i64::try_from(length).expect("it fits the memory");
    let tensor = Tensor::zeros([size], (Kind::Uint8, tch::Device::Cpu));
    broadcast(group, &tensor, source)?;
    Ok(Vec::try_from(&tensor).expect("one axis of bytes"))
}

fn broadcast(group: &mut Group, tensor: &Tensor, source: u32) -> Result<(), WorkerError> {
    let failed = |error| WorkerError::Collective(format!("could not take over the state: {}", in_one_line(error)));
    group.broadcast(tensor, source).map_err(failed)
}
