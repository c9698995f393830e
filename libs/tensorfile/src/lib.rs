//! Tensors in files that others wrote: PyTorch's two formats (`torch.save`) and safetensors.
//!
//! A file from a stranger is read without trust. A `.pth` holds a pickle, which in Python is a program; here a small
//! interpreter knows the few opcodes and the few names that a state dict needs, refuses every other one by name, and has
//! nothing that it could run. Sizes are checked against the bytes that are there before anything is allocated; what is
//! read stays a view of the file until [`Tensor::floats`] is asked for.
//!
//! This crate knows tensors and their names, not networks, and links no libtorch.

mod error;
mod pickle;
mod tensor;
mod torch;

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensors};

pub use error::ReadError;
pub use tensor::{Element, Tensor};

/// Who wrote a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `torch.save` since PyTorch 1.6: a zip archive.
    Torch,
    /// `torch.save` before, as most files of 2019 and 2020 are.
    LegacyTorch,
    /// The safetensors library.
    Safetensors,
}

/// The tensors of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorFile<'a> {
    /// Who wrote it.
    pub format: Format,
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor<'a>>,
}

/// All tensors may be this many times as large as the file: tied weights share their bytes.
const MOST_SHARING: usize = 2;

/// Reads the tensors of a whole file; of a PyTorch checkpoint, those under `model_state` or `state_dict`.
///
/// # Errors
/// If the format is unknown, the file is damaged, asks for anything but tensors, or claims more than it holds.
pub fn read(bytes: &[u8]) -> Result<TensorFile<'_>, ReadError> {
    let (format, tensors) = if bytes.starts_with(b"PK\x03\x04") {
        (Format::Torch, torch::read_zip(bytes)?)
    } else if bytes.starts_with(&torch::LEGACY_START) {
        (Format::LegacyTorch, torch::read_legacy(bytes)?)
    } else if bytes.get(8) == Some(&b'{') {
        (Format::Safetensors, read_safetensors(bytes)?)
    } else {
        return Err(ReadError::Unknown);
    };
    let described = tensors.values().try_fold(0_usize, |sum, tensor| sum.checked_add(tensor.len_bytes()));
    if described.is_none_or(|described| described > bytes.len().saturating_mul(MOST_SHARING)) {
        return Err(ReadError::damaged("its tensors describe more than it holds"));
    }
    Ok(TensorFile { format, tensors })
}

fn read_safetensors(bytes: &[u8]) -> Result<BTreeMap<String, Tensor<'_>>, ReadError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| ReadError::damaged(error.to_string()))?;
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let refused = |problem: String| ReadError::Tensor { name: name.clone(), problem };
        let element = element(view.dtype()).ok_or_else(|| refused(format!("elements of type {}", view.dtype())))?;
        // A view of a file borrows the file, not the header that was read of it.
        let start = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
        let storage = &bytes[start..start + view.data().len()];
        Ok((name.clone(), Tensor::whole(element, storage, view.shape().to_vec()).map_err(refused)?))
    };
    file.tensors().into_iter().map(tensor).collect()
}

fn element(dtype: Dtype) -> Option<Element> {
    Some(match dtype {
        Dtype::F64 => Element::F64,
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::BF16,
        Dtype::I64 => Element::I64,
        Dtype::I32 => Element::I32,
        Dtype::I16 => Element::I16,
        Dtype::I8 => Element::I8,
        Dtype::U8 => Element::U8,
        Dtype::BOOL => Element::Bool,
        _ => return None,
    })
}
