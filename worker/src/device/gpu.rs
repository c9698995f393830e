//! A worker on a GPU of Nvidia's: loading what it needs, and whether the device computes what it should.

use std::path::Path;

use tch::{Device, Kind, Tensor};
use train::OptimConfig;
use train::gpu::{self, Switches};

use crate::error::{WorkerError, in_one_line};

/// Largest relative error that rounding factors to bfloat16 explains.
const ROUNDING: f64 = 1e-2;

/// Whether this machine has a driver for such devices: nothing is loaded to find out.
pub(super) fn is_seen() -> bool {
    ["/dev/nvidiactl", "/dev/nvidia0", "/proc/driver/nvidia/version"].iter().any(|path| Path::new(path).exists())
}

/// Loads CUDA and the kernels, and tries the device.
pub(super) fn open(number: usize) -> Result<Device, WorkerError> {
    let refused = |why: String| WorkerError::Configuration(format!("--device is cuda:{number}, but {why}"));
    gpu::load().map_err(|error| refused(in_one_line(error)))?;
    let gpus = tch::Cuda::device_count();
    if i64::try_from(number).is_ok_and(|number| number < gpus) {
        let device = Device::Cuda(number);
        self_test(device).map_err(refused)?;
        return Ok(device);
    }
    Err(refused(format!("{gpus} GPUs are visible to this build of libtorch: use cpu, auto or another number")))
}

/// Sets how the whole process computes: in one order, so that the sum over lanes means something.
pub(super) fn configure(device: Device, optim: &OptimConfig) -> Result<(), WorkerError> {
    if device == Device::Cpu {
        return Ok(());
    }
    let switches = Switches { tf32: optim.tf32, deterministic: true };
    gpu::configure(switches).map_err(|error| WorkerError::Configuration(in_one_line(error)))
}

/// A convolution in bfloat16 beside the same in double precision: some versions of cuDNN are silently wrong there.
fn self_test(device: Device) -> Result<(), String> {
    let attempt = || -> Result<f64, tch::TchError> {
        let random = |shape: [i64; 5]| Tensor::f_randn(shape, (Kind::Float, Device::Cpu))?.f_to_kind(Kind::BFloat16);
        let (x, weight) = (random([2, 16, 4, 14, 14])?, random([24, 16, 3, 3, 3])?);
        let conv = |x: &Tensor, weight: &Tensor| x.f_conv3d(weight, None::<&Tensor>, [1; 3], [1; 3], [1; 3], 1);
        let expected = conv(&x.f_to_kind(Kind::Double)?, &weight.f_to_kind(Kind::Double)?)?;
        let found = conv(&x.f_to_device(device)?, &weight.f_to_device(device)?)?.f_to_device(Device::Cpu)?;
        let error = (found.f_to_kind(Kind::Double)? - &expected).f_norm()? / expected.f_norm()?;
        error.f_double_value(&[])
    };
    match attempt() {
        Ok(error) if error < ROUNDING => Ok(()),
        Ok(error) => Err(format!(
            "it computes wrongly: a convolution in bfloat16 is off by {error:.2e} of its size, where rounding explains {ROUNDING:.0e}; \
             another version of cuDNN or of the driver is needed"
        )),
        Err(error) => Err(format!("it does not compute: {}", in_one_line(error))),
    }
}
