//! The C++ half of this crate (`bridge/`): how tensors and errors come across, and where its loops apply.

pub mod gpu;
pub(crate) mod packed;

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::{Device, Kind, Tensor};

use crate::batch_norm::Running;

/// A tensor as libtorch's C++ sees it.
pub(crate) type Raw = *mut c_void;

unsafe extern "C" {
    fn vared_records_gradients() -> c_int;
    fn vared_is_traced() -> c_int;
    fn vared_error() -> *const c_char;
}

/// A batch norm as the C++ side sees it: `VaredNorm` of `bridge/mix.h`, `VaredCudaNorm` of `cuda/abi.h`.
#[repr(C)]
pub(crate) struct Norm {
    weight: Raw,
    bias: Raw,
    mean: Raw,
    variance: Raw,
    eps: f64,
}

impl Norm {
    pub(crate) fn new(norm: &Running) -> Self {
        Self {
            weight: raw(norm.weight),
            bias: raw(norm.bias),
            mean: raw(norm.mean),
            variance: raw(norm.variance),
            eps: norm.eps,
        }
    }
}

/// The C++ side only reads through it.
pub(crate) fn raw(tensor: &Tensor) -> Raw {
    tensor.as_ptr().cast_mut().cast()
}

/// Null where there is none.
pub(crate) fn raw_or_null(tensor: Option<&Tensor>) -> Raw {
    tensor.map_or(std::ptr::null_mut(), raw)
}

/// The tensor that a call gave.
///
/// # Panics
/// If it gave none, with the reason and with what was being done.
pub(crate) fn owned(result: Raw, doing: &str) -> Tensor {
    if result.is_null() {
        // SAFETY: the message belongs to this thread and stays until its next call.
        let error = unsafe { CStr::from_ptr(vared_error()) };
        panic!("{doing}: {}", error.to_string_lossy());
    }
    // SAFETY: the call gave a new tensor that nobody else owns.
    unsafe { Tensor::from_ptr(result.cast()) }
}

/// True if the loops compute with such tensors: single precision on the CPU. A trace must see tensor operations, or it would
/// hold the result as a constant.
pub(crate) fn applies(x: &Tensor) -> bool {
    // SAFETY: reads a flag of this thread.
    let is_traced = || unsafe { vared_is_traced() } != 0;
    x.device() == Device::Cpu && x.kind() == Kind::Float && !is_traced()
}

/// True if a layer may compute all at once what it gives out: such tensors, and no gradients wanted.
pub(crate) fn infers(x: &Tensor) -> bool {
    applies(x) && !records_gradients()
}

/// True if operations of this thread are recorded for a backward pass.
pub(crate) fn records_gradients() -> bool {
    // SAFETY: reads a flag of this thread.
    unsafe { vared_records_gradients() != 0 }
}
