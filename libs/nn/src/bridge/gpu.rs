//! Layers on an Nvidia GPU: kernels of our own (`cuda/`) for what libtorch does in many passes over memory, and the layout in
//! which its own convolutions are fastest.
//!
//! The kernels are a shared object that is loaded at run time ([`load`]), so one program serves machines with and without a GPU.
//! Without it layers on a GPU compute by libtorch's operations, as on any device: slower, and the oracle of the kernels' tests.
//!
//! Between layers features lie channels last, in single precision or bfloat16 ([`Precision`]), and their channels are filled up to
//! a multiple of eight with zeros that no layer reads: 230 channels are as fast as 232, not four times as slow.

mod kernels;

use std::ffi::c_int;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

pub(crate) use self::kernels::{FillCall, Kernels};
use super::{raw, records_gradients};

/// In what kind of number features are kept. Parameters, statistics, gates, heads and losses are in single precision always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    Fp32,
    /// bfloat16: half the memory, and what matrix units are made for.
    Bf16,
}

/// How libtorch's own operations compute on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switches {
    /// Products of single precision round their factors to TF32: faster, 10 bits of mantissa.
    pub tf32: bool,
    /// One order of additions, so that the same input gives the same bits; else for each shape the fastest algorithm, found by trying.
    pub deterministic: bool,
}

/// Bytes of a GPU's memory that tensors hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub now: u64,
    /// At most, since it was last asked for with `reset`.
    pub peak: u64,
}

/// Why the kernels can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// libtorch's CUDA half or the kernels are not to be had.
    #[error(transparent)]
    Load(#[from] ::cuda::CudaError),
    /// The kernels lack something.
    #[error("the CUDA kernels have no {name}: {cause}; build them and the program from one checkout")]
    Lacks {
        /// Which function.
        name: String,
        /// What the dynamic linker said.
        cause: String,
    },
    /// They are of another build than this program.
    #[error("the CUDA kernels are of version {found}, this program's are {wanted}: build both from one checkout")]
    Version {
        /// Theirs.
        found: c_int,
        /// This program's.
        wanted: c_int,
    },
    /// libtorch refused.
    #[error("{doing}: {cause}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        cause: String,
    },
}

static KERNELS: OnceLock<Kernels> = OnceLock::new();

/// Loads libtorch's CUDA half and the kernels for the whole process; later calls do nothing. To be called before the first tensor
/// on a GPU.
///
/// # Errors
/// [`CudaError::Load`] says where it looked; [`CudaError::Version`] and [`CudaError::Lacks`] if what it found is not this program's.
pub fn load() -> Result<(), CudaError> {
    if KERNELS.get().is_none() {
        let kernels = Kernels::of(::cuda::object("libvared_kernels.so")?)?;
        // Whoever was first has loaded the same.
        let _ = KERNELS.set(kernels);
    }
    Ok(())
}

/// Whether layers on a GPU compute with our kernels.
pub fn is_loaded() -> bool {
    KERNELS.get().is_some()
}

/// Sets what is the whole process's. Does nothing without the kernels.
///
/// # Errors
/// [`CudaError::Refused`].
pub fn configure(switches: Switches) -> Result<(), CudaError> {
    let Some(kernels) = KERNELS.get() else { return Ok(()) };
    // SAFETY: takes two flags.
    let status = unsafe { (kernels.configure)(switches.tf32.into(), switches.deterministic.into()) };
    kernels.checked(status, "set libtorch's switches")
}

/// Memory of GPU `device`; `reset` begins the peak anew. Nothing without the kernels.
///
/// # Errors
/// [`CudaError::Refused`].
pub fn memory(device: usize, reset: bool) -> Result<Option<Memory>, CudaError> {
    let Some(kernels) = KERNELS.get() else { return Ok(None) };
    let (mut now, mut peak) = (0_i64, 0_i64);
    let device = c_int::try_from(device).unwrap_or(c_int::MAX);
    // SAFETY: both numbers are ours.
    let status = unsafe { (kernels.memory)(device, reset.into(), &mut now, &mut peak) };
    kernels.checked(status, "ask for the GPU's memory")?;
    Ok(Some(Memory { now: now as u64, peak: peak as u64 }))
}

/// The kernels, for features of their layout on a GPU.
pub(crate) fn of(x_ncthw: &Tensor) -> Option<&'static Kernels> {
    let fits = || {
        let Device::Cuda(_) = x_ncthw.device() else { return false };
        let size = x_ncthw.size();
        size.len() == 5 && size[1] % 8 == 0 && matches!(x_ncthw.kind(), Kind::Float | Kind::BFloat16)
    };
    KERNELS.get().filter(|_| fits())
}

/// A tensor of the host on `device`, beside what the device computes: for a thread that brings data while another computes. The
/// other one calls [`adopt`] before it computes with it.
pub fn stage(host: &Tensor, device: Device) -> Tensor {
    match (KERNELS.get(), device) {
        (Some(kernels), Device::Cuda(number)) => {
            // SAFETY: the tensor lives until the call returns.
            let moved = unsafe { (kernels.stage)(raw(host), c_int::try_from(number).unwrap_or(c_int::MAX)) };
            // SAFETY: the call gave a new tensor.
            unsafe { kernels.owned(moved, "bringing data to the GPU") }
        }
        _ => host.to_device(device),
    }
}

/// Says that this thread computes with what [`stage`] gave: its memory is kept until that is done.
pub fn adopt(staged: &Tensor) {
    if let (Some(kernels), Device::Cuda(_)) = (KERNELS.get(), staged.device()) {
        // SAFETY: the tensor lives until the call returns.
        let status = unsafe { (kernels.adopt)(raw(staged)) };
        kernels.checked(status, "take staged data over").unwrap_or_else(|error| panic!("{error}"));
    }
}

/// True if layers may prepare their weights for many passes: such features, and no gradients wanted.
pub(crate) fn infers(x_ncthw: &Tensor) -> bool {
    of(x_ncthw).is_some() && !records_gradients()
}

/// A tensor of the host on `device`, without waiting for what the device still computes.
pub fn upload(host: &Tensor, device: Device) -> Tensor {
    match (KERNELS.get(), device) {
        (Some(kernels), Device::Cuda(number)) => {
            // SAFETY: the tensor lives until the call returns.
            let moved = unsafe { (kernels.upload)(raw(host), c_int::try_from(number).unwrap_or(c_int::MAX)) };
            // SAFETY: the call gave a new tensor.
            unsafe { kernels.owned(moved, "bringing data to the GPU") }
        }
        _ => host.to_device(device),
    }
}

/// Clips as the first layer wants them: as they are on a CPU, on a GPU in the kind of number and the layout of features.
pub fn enter(x_ncthw: &Tensor, precision: Precision) -> Tensor {
    let bf16 = precision == Precision::Bf16;
    match (KERNELS.get(), x_ncthw.device()) {
        // SAFETY: the tensor lives until the call returns.
        (Some(kernels), Device::Cuda(_)) => unsafe {
            kernels.owned((kernels.features)(raw(x_ncthw), bf16.into()), "laying clips out")
        },
        _ if bf16 => x_ncthw.to_kind(Kind::BFloat16),
        _ => x_ncthw.shallow_clone(),
    }
}

/// The first `channels` of features, which may be filled up.
pub(crate) fn own_channels(x: &Tensor, channels: i64) -> Tensor {
    if x.size()[1] == channels { x.shallow_clone() } else { x.narrow(1, 0, channels) }
}

/// Features with their channels filled up.
pub(crate) fn filled(x: &Tensor) -> Tensor {
    match x.size()[1].rem_euclid(8) {
        0 => x.shallow_clone(),
        over => x.constant_pad_nd([0, 0, 0, 0, 0, 0, 0, 8 - over]),
    }
}
