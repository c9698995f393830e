//! Layers on an Nvidia GPU: kernels of our own (`cuda/`) for what libtorch does in many passes over memory, and the layout in
//! which its own convolutions are fastest.
//!
//! The kernels are a shared object that is loaded at run time ([`load`]), so one program serves machines with and without a GPU.
//! Without it layers on a GPU compute by libtorch's operations, as on any device: slower, and the oracle of the kernels' tests.
//!
//! Between layers features lie channels last, in single precision or bfloat16 ([`Precision`]), and their channels are filled up to
//! a multiple of eight with zeros that no layer reads: 230 channels are as fast as 232, not four times as slow.

use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;

use ::cuda::{Library, Symbol};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::batch_norm::Running;
use crate::bridge::Raw;
use crate::{Activation, ConvConfig};

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

/// `VARED_CUDA_ABI` of `cuda/abi.h`.
const ABI: c_int = 1;

/// `VaredCudaConv`.
#[repr(C)]
struct ConvCall {
    stride: [i64; 3],
    padding: [i64; 3],
}

/// `VaredCudaPool`.
#[repr(C)]
struct PoolCall {
    kernel: [i64; 3],
    stride: [i64; 3],
    padding: [i64; 3],
    out: [i64; 3],
}

/// `VaredCudaNorm`.
#[repr(C)]
struct NormCall {
    weight: Raw,
    bias: Raw,
    mean: Raw,
    variance: Raw,
    eps: f64,
}

/// `VaredCudaFill`.
#[repr(C)]
pub(crate) struct FillCall {
    pub(crate) computed: Raw,
    pub(crate) time_weights: Raw,
    pub(crate) channel_weights: Raw,
    pub(crate) channel_kernels: *const Raw,
    pub(crate) time_kernels: *const Raw,
    pub(crate) channel_options: i64,
    pub(crate) time_options: i64,
    pub(crate) kept: *const i64,
    pub(crate) factors: *const i64,
    pub(crate) channels: i64,
    pub(crate) frames: i64,
    pub(crate) channel_live: *const u8,
    pub(crate) time_live: *const u8,
    pub(crate) affine: Raw,
    pub(crate) shortcut: Raw,
    pub(crate) activation: c_int,
}

/// The functions of `cuda/abi.h`.
pub(crate) struct Kernels {
    error: unsafe extern "C" fn() -> *const c_char,
    configure: unsafe extern "C" fn(c_int, c_int) -> c_int,
    memory: unsafe extern "C" fn(c_int, c_int, *mut i64, *mut i64) -> c_int,
    upload: unsafe extern "C" fn(Raw, c_int) -> Raw,
    stage: unsafe extern "C" fn(Raw, c_int) -> Raw,
    adopt: unsafe extern "C" fn(Raw) -> c_int,
    features: unsafe extern "C" fn(Raw, c_int) -> Raw,
    conv: unsafe extern "C" fn(Raw, Raw, *const ConvCall) -> Raw,
    pack: unsafe extern "C" fn(Raw, Raw, c_int) -> Raw,
    depthwise: unsafe extern "C" fn(Raw, Raw, i64, i64) -> Raw,
    max_pool: unsafe extern "C" fn(Raw, *const PoolCall) -> Raw,
    norm: unsafe extern "C" fn(Raw, *const NormCall, Raw, c_int, c_int) -> Raw,
    scale: unsafe extern "C" fn(Raw, *const NormCall) -> Raw,
    affine: unsafe extern "C" fn(Raw, Raw, Raw, c_int) -> Raw,
    means: unsafe extern "C" fn(Raw, *mut Raw) -> Raw,
    fill: unsafe extern "C" fn(*const FillCall) -> Raw,
    mix: unsafe extern "C" fn(*const FillCall) -> Raw,
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
    of(x_ncthw).is_some() && !crate::bridge::records_gradients()
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

fn raw(tensor: &Tensor) -> Raw {
    crate::bridge::raw(tensor)
}

impl Activation {
    /// As `cuda/abi.h` numbers them.
    pub(crate) fn number(self) -> c_int {
        match self {
            Self::None => 0,
            Self::Relu => 1,
            Self::Swish => 2,
        }
    }
}

/// A function of the shared object.
///
/// # Safety
/// It must have this type, and the object must stay.
unsafe fn symbol<F: Copy>(library: &Library, name: &str) -> Result<F, CudaError> {
    let lacks = |error: libloading::Error| CudaError::Lacks { name: name.to_owned(), cause: error.to_string() };
    // SAFETY: as above.
    unsafe { library.get(name.as_bytes()) }.map(|symbol: Symbol<F>| *symbol).map_err(lacks)
}

impl NormCall {
    fn new(norm: &Running) -> Self {
        Self {
            weight: raw(norm.weight),
            bias: raw(norm.bias),
            mean: raw(norm.mean),
            variance: raw(norm.variance),
            eps: norm.eps,
        }
    }
}

impl Kernels {
    fn of(library: &Library) -> Result<Self, CudaError> {
        // SAFETY: the types are those of `cuda/abi.h`; that it is of this version is asked first.
        unsafe {
            let abi: unsafe extern "C" fn() -> c_int = symbol(library, "vared_cuda_abi")?;
            let found = abi();
            if found != ABI {
                return Err(CudaError::Version { found, wanted: ABI });
            }
            Ok(Self {
                error: symbol(library, "vared_cuda_error")?,
                configure: symbol(library, "vared_cuda_configure")?,
                memory: symbol(library, "vared_cuda_memory")?,
                upload: symbol(library, "vared_cuda_upload")?,
                stage: symbol(library, "vared_cuda_stage")?,
                adopt: symbol(library, "vared_cuda_adopt")?,
                features: symbol(library, "vared_cuda_features")?,
                conv: symbol(library, "vared_cuda_conv")?,
                pack: symbol(library, "vared_cuda_pack")?,
                depthwise: symbol(library, "vared_cuda_depthwise")?,
                max_pool: symbol(library, "vared_cuda_max_pool")?,
                norm: symbol(library, "vared_cuda_norm")?,
                scale: symbol(library, "vared_cuda_scale")?,
                affine: symbol(library, "vared_cuda_affine")?,
                means: symbol(library, "vared_cuda_means")?,
                fill: symbol(library, "vared_cuda_fill")?,
                mix: symbol(library, "vared_cuda_mix")?,
            })
        }
    }

    fn message(&self) -> String {
        // SAFETY: the message belongs to this thread and stays until its next call.
        unsafe { CStr::from_ptr((self.error)()) }.to_string_lossy().into_owned()
    }

    fn checked(&self, status: c_int, doing: &'static str) -> Result<(), CudaError> {
        if status == 0 { Ok(()) } else { Err(CudaError::Refused { doing, cause: self.message() }) }
    }

    /// The tensor that a call gave.
    ///
    /// # Safety
    /// It is new and nobody else's, or null.
    ///
    /// # Panics
    /// If it is null, with the reason and with what was being done.
    unsafe fn owned(&self, result: Raw, doing: &str) -> Tensor {
        if result.is_null() {
            panic!("{doing} on the GPU: {}", self.message());
        }
        // SAFETY: as above.
        unsafe { Tensor::from_ptr(result.cast()) }
    }

    /// Whether a convolution of one filter a channel has a kernel of its own.
    pub(crate) fn has_depthwise(config: &ConvConfig) -> bool {
        let ConvConfig { inputs, outputs, kernel: [t, h, w], stride: [_, sh, sw], padding, groups } = *config;
        groups == inputs
            && groups == outputs
            && groups > 1
            && (t == 1 || t == 3)
            && (h, w) == (3, 3)
            && padding == config.kernel.map(|size| size / 2)
            && sh == sw
            && (sh == 1 || sh == 2)
    }

    /// A dense convolution; `weight` as published or packed.
    pub(crate) fn conv(&self, x: &Tensor, weight: &Tensor, config: &ConvConfig, every: i64) -> Tensor {
        let [t, h, w] = config.stride;
        let call = ConvCall { stride: [t * every, h, w], padding: config.padding };
        // SAFETY: every pointer lives until the call returns.
        unsafe { self.owned((self.conv)(raw(x), raw(weight), &call), "a convolution") }
    }

    /// A depthwise convolution of the channels that `weight` has; as published or packed.
    pub(crate) fn depthwise(&self, x: &Tensor, weight: &Tensor, [frames, space]: [i64; 2]) -> Tensor {
        // SAFETY: both tensors live until the call returns.
        unsafe { self.owned((self.depthwise)(raw(x), raw(weight), frames, space), "a depthwise convolution") }
    }

    /// A weight for many passes over features like `x`.
    pub(crate) fn pack(&self, weight: &Tensor, x: &Tensor, depthwise: bool) -> Tensor {
        // SAFETY: both tensors live until the call returns.
        unsafe { self.owned((self.pack)(raw(weight), raw(x), depthwise.into()), "packing a weight") }
    }

    /// The largest value of each window; windows are cut where they leave the features.
    pub(crate) fn max_pool(&self, x: &Tensor, [kernel, stride, padding, out]: [[i64; 3]; 4]) -> Tensor {
        let call = PoolCall { kernel, stride, padding, out };
        // SAFETY: both live until the call returns.
        unsafe { self.owned((self.max_pool)(raw(x), &call), "pooling") }
    }

    /// Norm, shortcut and activation; in training the batch's statistics go where `norm` says.
    pub(crate) fn norm(
        &self,
        x: &Tensor,
        norm: &Running,
        (shortcut, activation): (Option<&Tensor>, Activation),
        train: bool,
    ) -> Tensor {
        let (call, shortcut) = (NormCall::new(norm), crate::bridge::raw_or_null(shortcut));
        // SAFETY: every pointer lives until the call returns.
        let y = unsafe { (self.norm)(raw(x), &call, shortcut, activation.number(), train.into()) };
        // SAFETY: the call gave a new tensor.
        unsafe { self.owned(y, "a batch norm") }
    }

    /// Scale and shift of a norm in evaluation, for features like `x`.
    pub(crate) fn scale(&self, x: &Tensor, norm: &Running) -> Tensor {
        let call = NormCall::new(norm);
        // SAFETY: every pointer lives until the call returns.
        unsafe { self.owned((self.scale)(raw(x), &call), "a batch norm's scale") }
    }

    /// `activation(scale · x + shift + shortcut)`, without gradients.
    pub(crate) fn affine(
        &self,
        x: &Tensor,
        affine: &Tensor,
        (shortcut, activation): (Option<&Tensor>, Activation),
    ) -> Tensor {
        let shortcut = crate::bridge::raw_or_null(shortcut);
        // SAFETY: every pointer lives until the call returns.
        unsafe {
            self.owned((self.affine)(raw(x), raw(affine), shortcut, activation.number()), "a norm and an activation")
        }
    }

    /// The mean over space of every channel and frame, `[n, c, t]` floats, and `x` for what comes after.
    pub(crate) fn means(&self, x: &Tensor) -> (Tensor, Tensor) {
        let mut onward: Raw = std::ptr::null_mut();
        // SAFETY: both live until the call returns.
        let means = unsafe { (self.means)(raw(x), &mut onward) };
        // SAFETY: the call gave two new tensors, or none.
        unsafe { (self.owned(means, "what a gate reads"), self.owned(onward, "what a gate reads")) }
    }

    /// A dynamic layer's output, without gradients.
    pub(crate) fn fill(&self, call: &FillCall) -> Tensor {
        // SAFETY: whoever made the call keeps what it points to.
        unsafe { self.owned((self.fill)(call), "summing a dynamic layer's options") }
    }

    /// The same with gradients, every option live, without what follows.
    pub(crate) fn mix(&self, call: &FillCall) -> Tensor {
        // SAFETY: whoever made the call keeps what it points to.
        unsafe { self.owned((self.mix)(call), "summing a dynamic layer's options") }
    }
}
