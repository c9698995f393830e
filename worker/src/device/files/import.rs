//! Weights of others become a file with a card.

pub use models::{Classes, Import, ViewChange};

use crate::error::{WorkerError, in_one_line};

/// What is to be written and said.
#[derive(Debug)]
pub struct Done {
    /// A safetensors file with a card.
    pub bytes: Vec<u8>,
    /// What was found and done, a sentence each.
    pub notes: Vec<String>,
}

/// Reads the weights `bytes` of `file`, which is for messages.
pub fn import(bytes: &[u8], wanted: &Import, file: &str) -> Result<Done, WorkerError> {
    let convert = || {
        let imported = wanted.read(bytes)?;
        let bytes = imported.network.to_safetensors_with(&imported.card)?;
        Ok(Done { bytes, notes: imported.notes })
    };
    convert().map_err(|error: models::ModelError| {
        WorkerError::Configuration(format!("can't import {file}: {}", in_one_line(error)))
    })
}
