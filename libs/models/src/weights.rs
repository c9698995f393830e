//! Weights as safetensors bytes, under published names, checked before anything is overwritten.

mod card;
mod exchange;
mod families;
mod import;
mod names;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use nn::{Param, Params};
use safetensors::tensor::{self, Dtype, SafeTensors, TensorView};
use tch::{Device, Kind, Tensor};

use crate::ModelError;
use crate::network::Network;

pub use card::{Card, Pixels, View};
pub use exchange::{read_tensor, write_tensors};
pub use import::{Classes, Import, Imported, ViewChange};

/// Names of what the method adds to a backbone begin so.
const ADDED: &str = "vared.";

impl Network {
    /// All parameters and buffers. The backbone's have their published names: PyTorch loads them unchanged.
    ///
    /// # Errors
    /// [`ModelError::Torch`] if a tensor cannot be brought to host memory.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ModelError> {
        self.write(None, |_| true)
    }

    /// [`Network::to_safetensors`] with a card: a file that can be used by itself.
    ///
    /// # Errors
    /// [`ModelError::Torch`] if a tensor cannot be brought to host memory.
    pub fn to_safetensors_with(&self, card: &Card) -> Result<Vec<u8>, ModelError> {
        self.write(Some(card), |_| true)
    }

    /// Only the backbone, with the card of a plain network: a file for anybody who does not know the method.
    ///
    /// # Errors
    /// [`ModelError::Torch`] if a tensor cannot be brought to host memory.
    pub fn backbone_to_safetensors_with(&self, card: &Card) -> Result<Vec<u8>, ModelError> {
        self.write(Some(&card.plain()), |name| !name.starts_with(ADDED))
    }

    /// Overwrites what the file has of the network: everything, or only the backbone if the file holds nothing else or the
    /// network is plain.
    ///
    /// # Errors
    /// If the backbone, or what is added to it, is there and does not fit; then nothing has been overwritten.
    pub fn load_any_safetensors(&self, bytes: &[u8]) -> Result<(), ModelError> {
        let file = SafeTensors::deserialize(bytes).map_err(ModelError::NotSafetensors)?;
        let has_added = file.names().iter().any(|name| name.starts_with(ADDED));
        let wants_added = self.params.all().iter().any(|param| param.name.starts_with(ADDED));
        load(&self.params, bytes, |name| (has_added && wants_added) || !name.starts_with(ADDED))
    }

    fn write(&self, card: Option<&Card>, wanted: impl Fn(&str) -> bool) -> Result<Vec<u8>, ModelError> {
        let mut named = BTreeMap::new();
        for param in self.params.all().iter().filter(|param| wanted(&param.name)) {
            named.insert(param.name.as_str(), host_bytes(&param.name, &param.tensor)?);
        }
        let views = named.iter().map(|(name, bytes)| (*name, bytes));
        safetensors::serialize(views, card.map(Card::metadata)).map_err(ModelError::NotSafetensors)
    }

    /// Overwrites all parameters and buffers. Names, shapes and element types must be the network's own.
    ///
    /// # Errors
    /// If anything does not fit; then nothing has been overwritten.
    pub fn load_safetensors(&self, bytes: &[u8]) -> Result<(), ModelError> {
        load(&self.params, bytes, |_| true)
    }

    /// Overwrites the backbone and leaves gates and cheap kernels as they are; the file may hold theirs too.
    ///
    /// # Errors
    /// If anything of the backbone does not fit; then nothing has been overwritten.
    pub fn load_backbone_safetensors(&self, bytes: &[u8]) -> Result<(), ModelError> {
        load(&self.params, bytes, |name| !name.starts_with(ADDED))
    }
}

/// A tensor's bytes on the host.
struct Bytes {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl tensor::View for &Bytes {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }
    fn data_len(&self) -> usize {
        self.data.len()
    }
}

fn host_bytes(name: &str, tensor: &Tensor) -> Result<Bytes, ModelError> {
    let refused = |source| ModelError::Torch { doing: format!("copying {name} to host memory"), source };
    let tensor = tensor.detach().f_to_device(Device::Cpu).and_then(|t| t.f_contiguous()).map_err(refused)?;
    let shape = tensor.size().iter().map(|size| *size as usize).collect();
    let mut data = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut data, tensor.numel()).map_err(refused)?;
    Ok(Bytes { dtype: dtype(tensor.kind()), shape, data })
}

/// The element types that networks have.
fn dtype(kind: Kind) -> Dtype {
    match kind {
        Kind::Double => Dtype::F64,
        Kind::Int64 => Dtype::I64,
        _ => Dtype::F32,
    }
}

fn load(params: &Params, bytes: &[u8], wanted: impl Fn(&str) -> bool) -> Result<(), ModelError> {
    let file = SafeTensors::deserialize(bytes).map_err(ModelError::NotSafetensors)?;
    let params: Vec<&Param> = params.all().iter().filter(|param| wanted(&param.name)).collect();
    let found: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().filter(|(name, _)| wanted(name)).collect();
    check_names(&params, &found.keys().map(String::as_str).collect())?;
    for param in &params {
        check(param, &found[&param.name])?;
    }
    tch::no_grad(|| params.iter().try_for_each(|param| fill(param, &found[&param.name])))
}

/// Refuses weights whose names are not the network's.
fn check_names(params: &[&Param], found: &BTreeSet<&str>) -> Result<(), ModelError> {
    let expected: BTreeSet<&str> = params.iter().map(|param| param.name.as_str()).collect();
    if &expected == found {
        return Ok(());
    }
    let only = |own: &BTreeSet<&str>, other| own.difference(other).map(|name| (*name).to_owned()).collect();
    Err(ModelError::Names { missing: only(&expected, found), unexpected: only(found, &expected) })
}

fn check_shape(param: &Param, found: &[usize]) -> Result<(), ModelError> {
    let expected: Vec<usize> = param.tensor.size().iter().map(|size| *size as usize).collect();
    if found == expected {
        return Ok(());
    }
    let is_middle = param.name.contains(".conv2.0.");
    let hint = "; is `midplanes` the file's (shared: torchvision, per_conv: VMZ, ig65m)?";
    let hint = if is_middle { hint } else { "" };
    Err(ModelError::Shape { name: param.name.clone(), found: found.to_vec(), expected, hint })
}

fn check(param: &Param, view: &TensorView<'_>) -> Result<(), ModelError> {
    check_shape(param, view.shape())?;
    if view.dtype() != dtype(param.tensor.kind()) {
        return Err(ModelError::ElementType {
            name: param.name.clone(),
            found: format!("{:?}", view.dtype()),
            expected: format!("{:?}", dtype(param.tensor.kind())),
        });
    }
    Ok(())
}

fn fill(param: &Param, view: &TensorView<'_>) -> Result<(), ModelError> {
    let refused = |source| ModelError::Torch { doing: format!("filling {}", param.name), source };
    let size = param.tensor.size();
    let value = Tensor::f_from_data_size(view.data(), &size, param.tensor.kind()).map_err(refused)?;
    param.tensor.shallow_clone().f_copy_(&value.to_device(param.tensor.device())).map_err(refused)
}
