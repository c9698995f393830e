// The kernels' C++ border: raw pointers, shapes and a stream; nothing of libtorch, so that nvcc compiles in seconds.
// Launches report nothing: the caller asks CUDA for the last error. All sums are in one order, whatever runs beside them.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace vared {

enum class Activation : int { kNone = 0, kRelu = 1, kSwish = 2 };
enum class Element : int { kFloat = 0, kBfloat16 = 1 };

// Blocks below each other at most: enough for any device of today to be full.
constexpr int kBlocks = 1056;

// Rows of features, channels last. `channels` is a multiple of 8.
struct Rows {
  Element element;
  int64_t rows, channels;
};

// How many partial sums `norm_sums` and `norm_backward_sums` write: each `[parts, 2, channels]` floats.
int64_t norm_parts(const Rows& rows);

// Sums of x − x₀ and of its square for every channel, where x₀ is the first row.
void norm_sums(const Rows& rows, const void* x, float* partial, cudaStream_t stream);

struct NormSums {
  const float* partial;
  int64_t parts, count;  // of rows
  int64_t known;         // channels that have parameters; those behind are filling and stay 0
  const float *gamma, *beta;
  double eps;
};
// From the sums: mean and unbiased variance `[known]`, and `affine`: scale, shift, mean, 1/σ, `[4, channels]`.
void norm_finish(const Rows& rows, const void* x, const NormSums& sums, float* mean, float* variance, float* affine,
                 cudaStream_t stream);
// The same four from running statistics.
void norm_running(const Rows& rows, const NormSums& sums, const float* mean, const float* variance, float* affine,
                  cudaStream_t stream);

// y = activation(scale · x + shift + z); z may be null.
void norm_apply(const Rows& rows, const void* x, const void* z, const float* affine, Activation activation, void* y,
                cudaStream_t stream);

struct NormBackward {
  const void *x, *y, *dy;  // y is read where a shortcut was added: the mask of ReLU
  void* dz;                // null without a shortcut; else what is left of dy behind the activation
  const float* affine;
  Activation activation;
};
// Sums of dy′ and of dy′ · x̂ for every channel, dy′ being dy behind the activation; fills dz.
void norm_backward_sums(const Rows& rows, const NormBackward& b, float* partial, cudaStream_t stream);
// dγ and dβ `[known]`, and `means`: mean of dy′ and of dy′ · x̂, `[2, channels]`.
void norm_backward_finish(const Rows& rows, const NormSums& sums, float* dgamma, float* dbeta, float* means,
                          cudaStream_t stream);
// dx = scale · (dy′ − mean − x̂ · mean); with dz, dy′ is read from there.
void norm_backward_apply(const Rows& rows, const NormBackward& b, const float* means, void* dx, cudaStream_t stream);

// A depthwise convolution of kernel (kt, 3, 3), kt 1 or 3, that keeps the size at stride 1. Features `[n, t, h, w, c]`.
struct Depthwise {
  Element element;
  int64_t clips, channels;
  int64_t row;                                // length of an input's row, `channels` or more: inference may want only the first
  int64_t frames, height, width;              // in
  int64_t out_frames, out_height, out_width;  // out
  int kernel_frames, stride_frames, stride;
};
// `weight` is `[kt · 9, channels]` floats.
void depthwise_forward(const Depthwise& d, const void* x, const float* weight, void* y, cudaStream_t stream);
void depthwise_backward_input(const Depthwise& d, const void* dy, const float* weight, void* dx, cudaStream_t stream);
// How many partial sums the next writes: `[parts, kt · 9, channels]` floats.
int64_t depthwise_parts(const Depthwise& d);
void depthwise_backward_weight(const Depthwise& d, const void* x, const void* dy, float* partial, cudaStream_t stream);
// Adds `[parts, count]` up.
void add_parts(const float* partial, int64_t parts, int64_t count, float* sum, cudaStream_t stream);

// Windows of (time, height, width), cut where they leave the features; a kernel of 255 taps at most.
struct MaxPool {
  Element element;
  int64_t clips, channels;
  int64_t in[3], out[3];
  int kernel[3], stride[3], padding[3];
};
// `taps`: which tap of its window each value is, for the way back; null where there is none.
void max_pool(const MaxPool& p, const void* x, void* y, uint8_t* taps, cudaStream_t stream);
void max_pool_backward(const MaxPool& p, const void* dy, const uint8_t* taps, void* dx, cudaStream_t stream);

// What a dynamic layer rebuilds. At most four options an axis; those that are not live are left out.
constexpr int kOptions = 4;
struct Epilogue {
  const float* affine;  // scale and shift, `[2, channels]`, or null
  const void* z;        // as the output, or null
  Activation activation;
};
struct FillChannels {
  Element element;
  int64_t clips, positions_h, positions_w, frames;
  int64_t in_channels, out_channels;  // lengths of rows; of the output only `channels` are real
  int64_t channels;
  int options;
  int64_t kept[kOptions];         // channels that option i computes
  int multiplier[kOptions];       // missing channels from one that is there
  const float* kernels[kOptions]; // `[9, channels − kept]`
  int weight_at[kOptions];        // column of the option in the clip's weights
  const float* weights;           // `[clips, weight_columns]`
  int weight_columns;
};
void fill_channels(const FillChannels& f, const void* computed, const Epilogue& e, void* out, cudaStream_t stream);
struct FillFrames {
  Element element;
  int64_t clips, positions_h, positions_w, in_frames, frames;
  int64_t row, channels;  // length of a row, and how many of it are real
  int step;               // the input holds every step-th frame
  int options;
  int factor[kOptions];
  const float* kernels[kOptions];  // `[factor − 1, 9, channels]`
  int weight_at[kOptions];
  const float* weights;            // `[clips, weight_columns]`
  int weight_columns;
  const float* scale;              // a factor for each clip, `[clips, scale_columns]`, first column; or null
  int scale_columns;
};
void fill_frames(const FillFrames& f, const void* in, const Epilogue& e, void* out, cudaStream_t stream);

// What a gate reads: the mean over the positions of every frame, `[frames, channels]` floats; `rows` are those of one frame. And the
// way back: dx = dy + the mean's gradient, spread evenly.
void means(const Rows& rows, int64_t frames, const void* x, float* out, cudaStream_t stream);
void means_backward(const Rows& rows, int64_t frames, const void* dy, const float* d_means, void* dx, cudaStream_t stream);

// Training, where every option is live: gradients of the two above. Each reads the gradient behind it, `d_out`.
void fill_channels_backward(const FillChannels& f, const void* d_out, void* d_computed, cudaStream_t stream);
void fill_frames_backward(const FillFrames& f, const void* d_out, void* d_in, cudaStream_t stream);

// For each clip, channel and frame modulo `period` the sum of a · b over frames and positions: `[parts, clips, period, row]`.
struct Dots {
  Element element;
  int64_t clips, frames, area;
  int64_t row;           // of b and of the result
  int64_t row_a;         // `row` or less: a's channels are b's first
  int period;
};
int64_t dots_parts(const Dots& d);
void dots(const Dots& d, const void* a, const void* b, float* partial, cudaStream_t stream);

// Gradients of 3 x 3 kernels that read channel q / multiplier of a frame of `x` and write channel q of a frame of `dy`, for each
// clip: `[parts, clips, 9, kernels]`. The frames are `from`, `from + step`, … of either, `count` pairs.
struct Taps {
  Element element;
  int64_t clips, height, width;
  int64_t row_x, row_dy;              // lengths of rows
  int64_t frames_x, frames_dy;        // frames of a clip
  int64_t from_x, step_x, from_dy, step_dy, count;
  int64_t channel_dy;                 // where the kernels' channels begin in dy
  int64_t kernels, real;              // a multiple of 8, and how many of it are there
  int multiplier;
};
int64_t taps_parts(const Taps& t);
void taps(const Taps& t, const void* x, const void* dy, float* partial, cudaStream_t stream);

}  // namespace vared
