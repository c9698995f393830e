// What the Rust half calls: the weighted sum of a dynamic layer's options in one pass over memory.
#pragma once

#include <cstdint>

namespace at {
class Tensor;
}

extern "C" {

// One layer's call. Every list holds borrowed tensors; null stands for an option that is not live.
struct VaredMix {
  at::Tensor* computed;           // [n, channels kept, frames kept, h, w]: what the convolution gave
  at::Tensor* time_weights;       // [n, time options]
  at::Tensor* channel_weights;    // [n, channel options]
  at::Tensor* const* channel_kernels;  // of option i >= 1 at i - 1: [c - kept, 1, 3, 3]
  at::Tensor* const* time_kernels;     // of option j >= 1 all k = 1..R-1, one after the other: [c, 1, 3, 3]
  int64_t channel_options;
  int64_t time_options;
  int64_t channels;               // c of the result
  int64_t frames;                 // t of the result
  const uint8_t* channel_live;    // the first live option tells how many channels are there
  const uint8_t* time_live;       // the first live option tells which frames are there
};

// Differentiable in the weights, the kernels and what was computed. Null on error.
at::Tensor* vared_mix(const VaredMix* mix);

// A batch norm in evaluation, [c] each.
struct VaredNorm {
  at::Tensor* weight;
  at::Tensor* bias;
  at::Tensor* mean;
  at::Tensor* variance;
  double eps;
};

// The same in inference, on channels-last features; then norm (or null), shortcut (or null) and ReLU if asked. Gives the rows
// [from, to) of the result, [n, c, t, to - from, w], to which the shortcut is added. Null on error.
struct VaredRows {
  int64_t from, to;
};
at::Tensor* vared_fill(const VaredMix* mix, const VaredNorm* norm, at::Tensor* shortcut, int relu, VaredRows rows);

// A convolution without dilation.
struct VaredConvolution {
  int64_t stride[3];
  int64_t padding[3];
  int64_t groups;
};

// What follows a convolution; null for nothing. The shortcut has the output's shape.
struct VaredAfter {
  at::Tensor* shift;
  at::Tensor* shortcut;
  int relu;
};

// Weights as oneDNN wants them for features of x's shape, to be used by `vared_convolve` again and again; other shapes work too,
// but may be slower. Null on error.
at::Tensor* vared_pack(at::Tensor* weight, const VaredConvolution* convolution, at::Tensor* x);

// Channels last, in inference, on the CPU. Null on error.
at::Tensor* vared_convolve(at::Tensor* x, at::Tensor* packed, const VaredConvolution* convolution, const VaredAfter* after);

// Whether `vared_depthwise` has such kernels; triples are (time, height, width).
int vared_depthwise_applies(const int64_t* kernel, const int64_t* stride);

// A depthwise convolution of the first channels, as many as `kernels` [taps, channels] has; shift and ReLU as `after` says, no
// shortcut. Channels last, in inference, on the CPU. Null on error.
at::Tensor* vared_depthwise(at::Tensor* x, at::Tensor* kernels, const int64_t* kernel, const VaredConvolution* convolution,
                            const VaredAfter* after);

// A gate's parameters.
struct VaredGate {
  at::Tensor* reduce;  // [hidden, c * t]
  at::Tensor* choose;  // [options, hidden]
  at::Tensor* beta;    // [options]
  VaredNorm norm;
};

// Pre-activations [n, options] of channels-last features [n, c, t, h, w], in inference. Null on error.
at::Tensor* vared_gate(at::Tensor* x, const VaredGate* gate);

// Whether this thread records gradients.
int vared_records_gradients();

// Whether this thread traces its operations: calls of this bridge leave no trace.
int vared_is_traced();

// What went wrong in this thread's last call that returned null.
const char* vared_error();
}
