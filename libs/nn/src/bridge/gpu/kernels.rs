//! The functions of the kernels' shared object, and calls of them with tensors.

use std::ffi::{CStr, c_char, c_int};

use ::cuda::{Library, Symbol};
use tch::Tensor;

use super::CudaError;
use crate::batch_norm::Running;
use crate::bridge::{Norm, Raw, raw, raw_or_null};
use crate::{Activation, ConvConfig};

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
    pub(super) configure: unsafe extern "C" fn(c_int, c_int) -> c_int,
    pub(super) memory: unsafe extern "C" fn(c_int, c_int, *mut i64, *mut i64) -> c_int,
    pub(super) upload: unsafe extern "C" fn(Raw, c_int) -> Raw,
    pub(super) stage: unsafe extern "C" fn(Raw, c_int) -> Raw,
    pub(super) adopt: unsafe extern "C" fn(Raw) -> c_int,
    pub(super) features: unsafe extern "C" fn(Raw, c_int) -> Raw,
    conv: unsafe extern "C" fn(Raw, Raw, *const ConvCall) -> Raw,
    pack: unsafe extern "C" fn(Raw, Raw, c_int) -> Raw,
    depthwise: unsafe extern "C" fn(Raw, Raw, i64, i64) -> Raw,
    max_pool: unsafe extern "C" fn(Raw, *const PoolCall) -> Raw,
    norm: unsafe extern "C" fn(Raw, *const Norm, Raw, c_int, c_int) -> Raw,
    scale: unsafe extern "C" fn(Raw, *const Norm) -> Raw,
    affine: unsafe extern "C" fn(Raw, Raw, Raw, c_int) -> Raw,
    means: unsafe extern "C" fn(Raw, *mut Raw) -> Raw,
    fill: unsafe extern "C" fn(*const FillCall) -> Raw,
    mix: unsafe extern "C" fn(*const FillCall) -> Raw,
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

impl Kernels {
    pub(super) fn of(library: &Library) -> Result<Self, CudaError> {
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

    pub(super) fn checked(&self, status: c_int, doing: &'static str) -> Result<(), CudaError> {
        if status == 0 { Ok(()) } else { Err(CudaError::Refused { doing, cause: self.message() }) }
    }

    /// The tensor that a call gave.
    ///
    /// # Safety
    /// It is new and nobody else's, or null.
    ///
    /// # Panics
    /// If it is null, with the reason and with what was being done.
    pub(super) unsafe fn owned(&self, result: Raw, doing: &str) -> Tensor {
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
        let (call, shortcut) = (Norm::new(norm), raw_or_null(shortcut));
        // SAFETY: every pointer lives until the call returns.
        let y = unsafe { (self.norm)(raw(x), &call, shortcut, activation.number(), train.into()) };
        // SAFETY: the call gave a new tensor.
        unsafe { self.owned(y, "a batch norm") }
    }

    /// Scale and shift of a norm in evaluation, for features like `x`.
    pub(crate) fn scale(&self, x: &Tensor, norm: &Running) -> Tensor {
        let call = Norm::new(norm);
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
        let shortcut = raw_or_null(shortcut);
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
