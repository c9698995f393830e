// A depthwise 3-D convolution in inference, channels last: one kernel a channel, all taps in one pass over memory. libtorch has
// no fast kernel for it on the CPU.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <limits>

#include "call.h"
#include "rows.h"

namespace vared {
namespace {

constexpr at::MemoryFormat kLast = at::MemoryFormat::ChannelsLast3d;

struct Depthwise {
  int64_t frames, h, w, step;            // of what is read; `step` floats lie between positions
  int64_t frames_out, h_out, w_out, channels;
  int64_t kernel[3], stride[3], padding[3];
  float floor;
};

// Rows [from, to) of the whole output of one clip, counted through its frames.
void depthwise_rows(const Depthwise& d, const float* x, const float* kernels, const float* begin, float* y, int64_t from,
                    int64_t to) {
  Window window{{}, 0, static_cast<int>(d.kernel[2]), static_cast<int>(d.stride[2]), d.padding[2], d.step, d.w, d.channels,
                d.channels};
  for (int64_t at = from; at < to; ++at) {
    const int64_t frame = at / d.h_out * d.stride[0] - d.padding[0], line = at % d.h_out * d.stride[1] - d.padding[1];
    window.rows = 0;
    for (int64_t t = 0; t < d.kernel[0]; ++t) {
      for (int64_t r = 0; r < d.kernel[1]; ++r) {
        if (frame + t < 0 || frame + t >= d.frames || line + r < 0 || line + r >= d.h) continue;
        const float* row = x + ((frame + t) * d.h + line + r) * d.w * d.step;
        window.row[window.rows++] = {row, kernels + (t * d.kernel[1] + r) * d.kernel[2] * d.channels};
      }
    }
    window_row(window, begin, {nullptr, d.floor}, {y + at * d.w_out * d.channels, d.w_out, d.channels}, nullptr);
  }
}

at::Tensor depthwise(const at::Tensor& features, const at::Tensor& kernels, const int64_t* kernel, const VaredConvolution& c,
                     const VaredAfter& after) {
  const at::Tensor x = channels_last(features);
  Depthwise d{x.size(2), x.size(3), x.size(4), x.size(1), 0, 0, 0, kernels.size(1), {}, {}, {}, 0.f};
  int64_t out[3];
  for (int axis = 0; axis < 3; ++axis) {
    d.kernel[axis] = kernel[axis], d.stride[axis] = c.stride[axis], d.padding[axis] = c.padding[axis];
    out[axis] = (x.size(2 + axis) + 2 * c.padding[axis] - kernel[axis]) / c.stride[axis] + 1;
  }
  d.frames_out = out[0], d.h_out = out[1], d.w_out = out[2];
  d.floor = after.relu ? 0.f : -std::numeric_limits<float>::infinity();
  require(d.padding[0] < d.kernel[0] && d.padding[1] < d.kernel[1] && d.padding[2] < d.kernel[2], "less padding than taps");
  require(d.step >= d.channels && kernels.is_contiguous() && kernels.size(0) == kernel[0] * kernel[1] * kernel[2], "kernels");
  require(vared_depthwise_applies(kernel, c.stride) != 0, "a depthwise kernel of a kind that is here");
  const at::Tensor begin = after.shift == nullptr ? at::zeros({d.channels}, x.options()) : *after.shift;
  at::Tensor y = at::empty({x.size(0), d.channels, out[0], out[1], out[2]}, x.options(), kLast);
  const int64_t rows = d.frames_out * d.h_out, in_size = d.frames * d.h * d.w * d.step, out_size = rows * d.w_out * d.channels;
  const float *from = x.data_ptr<float>(), *k = kernels.data_ptr<float>(), *b = begin.data_ptr<float>();
  float* to = y.data_ptr<float>();
  at::parallel_for(0, x.size(0) * rows, std::max<int64_t>(1, d.h_out / 4), [&](int64_t first, int64_t last) {
    while (first < last) {
      const int64_t clip = first / rows, until = std::min(last, (clip + 1) * rows);
      depthwise_rows(d, from + clip * in_size, k, b, to + clip * out_size, first - clip * rows, until - clip * rows);
      first = until;
    }
  });
  return y;
}

}  // namespace
}  // namespace vared

int vared_depthwise_applies(const int64_t* kernel, const int64_t* stride) {
  return (kernel[2] == 1 || kernel[2] == 3) && (stride[2] == 1 || stride[2] == 2) && kernel[0] * kernel[1] <= vared::Window::kMostRows;
}

at::Tensor* vared_depthwise(at::Tensor* x, at::Tensor* kernels, const int64_t* kernel, const VaredConvolution* convolution,
                            const VaredAfter* after) {
  return vared::caught([&] {
    const at::NoGradGuard guard;
    return vared::depthwise(*x, *kernels, kernel, *convolution, *after);
  });
}
