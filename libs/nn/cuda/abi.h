// The C border of the kernels' shared object: what Rust (src/bridge/cuda.rs) finds in it by name.
//
// A call that fails gives null (or 1) and leaves a message in `vared_cuda_error`, of the calling thread. Features are
// `[n, c, t, h, w]` channels last, float or bfloat16, c a multiple of 8: what a layer has fewer is filled up with zeros.
// Parameters are floats of the layer's own sizes.
#pragma once
#include <cstdint>

namespace at {
class Tensor;
}

extern "C" {

// Counts up when anything below changes: both sides must agree.
#define VARED_CUDA_ABI 1
int vared_cuda_abi();
const char* vared_cuda_error();

// How libtorch's own operations compute: TF32 for single precision, and one order of additions (`deterministic`) or the fastest
// algorithm for each shape, found by trying.
int vared_cuda_configure(int tf32, int deterministic);
// Bytes of device memory: now in use, most in use since the last call with `reset`.
int vared_cuda_memory(int device, int reset, int64_t* now, int64_t* peak);

// A tensor of the host on a GPU, through memory that the GPU reads by itself: nobody waits.
at::Tensor* vared_cuda_upload(const at::Tensor* x, int device);
// The same from another thread than the one that computes, on a stream of its own: ready when it returns. Whoever computes with it
// adopts it first, so that its memory is not given away too early.
at::Tensor* vared_cuda_stage(const at::Tensor* x, int device);
int vared_cuda_adopt(const at::Tensor* x);
// `[n, c, t, h, w]` of any layout as features of this kind, filled up.
at::Tensor* vared_cuda_features(const at::Tensor* x, int bfloat16);

struct VaredCudaConv {
  int64_t stride[3], padding[3];
};
// A dense convolution. `weight` `[outputs, inputs, t, h, w]`, or what `vared_cuda_pack` made of it.
at::Tensor* vared_cuda_conv(const at::Tensor* x, const at::Tensor* weight, const VaredCudaConv* conv);
// A weight once for many passes, for features like x.
at::Tensor* vared_cuda_pack(const at::Tensor* weight, const at::Tensor* x, int depthwise);

// A depthwise convolution of kernel (1 or 3, 3, 3) that keeps the size at stride 1; the first channels where weight has fewer.
// `weight` `[c, 1, t, 3, 3]`, or what `vared_cuda_pack` made of it.
at::Tensor* vared_cuda_depthwise(const at::Tensor* x, const at::Tensor* weight, int64_t stride_frames, int64_t stride);

struct VaredCudaPool {
  int64_t kernel[3], stride[3], padding[3], out[3];
};
// The largest value of each window.
at::Tensor* vared_cuda_max_pool(const at::Tensor* x, const VaredCudaPool* pool);

struct VaredCudaNorm {
  const at::Tensor *weight, *bias, *mean, *variance;
  double eps;
};
// activation(norm(x) + shortcut): training with the batch's own statistics, which go to `mean` and `variance`, else with
// theirs. Activation: 0 none, 1 ReLU, 2 swish; a shortcut comes with ReLU.
at::Tensor* vared_cuda_norm(const at::Tensor* x, const VaredCudaNorm* norm, const at::Tensor* shortcut, int activation, int train);
// Scale and shift of a norm in evaluation, `[4, c]`, for `vared_cuda_affine` and `vared_cuda_fill`.
at::Tensor* vared_cuda_scale(const at::Tensor* x, const VaredCudaNorm* norm);
// activation(scale · x + shift + shortcut); affine and shortcut may be null. No gradients.
at::Tensor* vared_cuda_affine(const at::Tensor* x, const at::Tensor* affine, const at::Tensor* shortcut, int activation);

// The mean over space of every channel and frame, `[n, c, t]` floats, for a gate; `onward` is x for whatever comes after: so the
// gradients of both are added in one pass.
at::Tensor* vared_cuda_means(const at::Tensor* x, at::Tensor** onward);

struct VaredCudaFill {
  const at::Tensor *computed, *time_weights, *channel_weights;  // weights `[n, options]`
  // Of options 1, 2, …: `[9, missing]` each, and `[R − 1, 9, c]` each.
  const at::Tensor* const* channel_kernels;
  const at::Tensor* const* time_kernels;
  int64_t channel_options, time_options;
  const int64_t *kept, *factors;  // channels of a channel option, R of a time option
  int64_t channels, frames;       // of the output
  const uint8_t *channel_live, *time_live;
  const at::Tensor *affine, *shortcut;  // may be null
  int activation;
};
// A dynamic layer's output from the part that its live options read. No gradients.
at::Tensor* vared_cuda_fill(const VaredCudaFill* fill);
// The same with gradients, of a layer that was computed whole, every option live. Kernels as published: `[missing, 1, 3, 3]` a channel
// option, and for every time option one `[c, 1, 3, 3]` a missing frame. Nothing follows.
at::Tensor* vared_cuda_mix(const VaredCudaFill* mix);

}  // extern "C"
