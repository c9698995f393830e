//! Tensors in and out of safetensors, for commands that exchange numbers with other programs.

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use super::host_bytes;
use crate::ModelError;

/// The tensor `name` of a safetensors file: single precision or bytes.
///
/// # Errors
/// If the file is none, has no such tensor, or one of another type.
pub fn read_tensor(bytes: &[u8], name: &str) -> Result<Tensor, ModelError> {
    let file = SafeTensors::deserialize(bytes).map_err(ModelError::NotSafetensors)?;
    let wrong = |problem: String| ModelError::Tensor { name: name.to_owned(), problem };
    let view = file.tensor(name).map_err(|_| wrong(format!("is missing; there are: {}", file.names().join(", "))))?;
    let kind = match view.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::U8 => Kind::Uint8,
        other => return Err(wrong(format!("holds {other:?}; F32 or U8 is wanted"))),
    };
    let size: Vec<i64> = view.shape().iter().map(|size| *size as i64).collect();
    let refused = |source| ModelError::Torch { doing: format!("reading {name}"), source };
    Tensor::f_from_data_size(view.data(), &size, kind).map_err(refused)
}

/// A safetensors file of these tensors.
///
/// # Errors
/// If one cannot be brought to host memory.
pub fn write_tensors(named: &[(String, Tensor)]) -> Result<Vec<u8>, ModelError> {
    let mut all = BTreeMap::new();
    for (name, tensor) in named {
        all.insert(name.as_str(), host_bytes(name, tensor)?);
    }
    safetensors::serialize(all.iter().map(|(name, bytes)| (*name, bytes)), None).map_err(ModelError::NotSafetensors)
}
