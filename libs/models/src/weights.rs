//! Weights as safetensors bytes, under published names, checked before anything is overwritten.

use std::borrow::Cow;
use std::collections::BTreeMap;

use nn::{Param, Params};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, View};
use tch::{Device, Kind, Tensor};

use crate::ModelError;
use crate::network::Network;

/// Names of what the method adds to a backbone begin so.
const ADDED: &str = "vared.";

impl Network {
    /// All parameters and buffers. The backbone's have their published names: PyTorch loads them unchanged.
    ///
    /// # Errors
    /// [`ModelError::Torch`] if a tensor cannot be brought to host memory.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ModelError> {
        write(self.params.all().iter().map(|param| (param.name.as_str(), &param.tensor)))
    }

    /// Only the backbone: a file for anybody who does not know the method.
    ///
    /// # Errors
    /// [`ModelError::Torch`] if a tensor cannot be brought to host memory.
    pub fn backbone_to_safetensors(&self) -> Result<Vec<u8>, ModelError> {
        let published = self.params.all().iter().filter(|param| !param.name.starts_with(ADDED));
        write(published.map(|param| (param.name.as_str(), &param.tensor)))
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

impl View for &Bytes {
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

fn write<'a>(tensors: impl Iterator<Item = (&'a str, &'a Tensor)>) -> Result<Vec<u8>, ModelError> {
    let mut named = BTreeMap::new();
    for (name, tensor) in tensors {
        named.insert(name, host_bytes(name, tensor)?);
    }
    let views = named.iter().map(|(name, bytes)| (*name, bytes));
    safetensors::serialize(views, None).map_err(ModelError::NotSafetensors)
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
    let mut found: BTreeMap<String, TensorView<'_>> =
        file.tensors().into_iter().filter(|(name, _)| wanted(name)).collect();
    let missing: Vec<String> =
        params.iter().filter(|param| !found.contains_key(&param.name)).map(|param| param.name.clone()).collect();
    let mut pairs = Vec::new();
    for param in params {
        if let Some(view) = found.remove(&param.name) {
            pairs.push((param, view));
        }
    }
    if !missing.is_empty() || !found.is_empty() {
        return Err(ModelError::Names { missing, unexpected: found.into_keys().collect() });
    }
    for (param, view) in &pairs {
        check(param, view)?;
    }
    tch::no_grad(|| pairs.iter().try_for_each(|(param, view)| fill(param, view)))
}

fn check(param: &Param, view: &TensorView<'_>) -> Result<(), ModelError> {
    let expected: Vec<usize> = param.tensor.size().iter().map(|size| *size as usize).collect();
    if view.shape() != expected {
        let other_layout = param.name.contains(".conv2.0.") && view.shape().iter().zip(&expected).any(|(a, b)| a != b);
        return Err(ModelError::Shape {
            name: param.name.clone(),
            found: view.shape().to_vec(),
            expected,
            hint: if other_layout {
                "; is `midplanes` the file's (shared: torchvision, per_conv: VMZ, ig65m)?"
            } else {
                ""
            },
        });
    }
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
