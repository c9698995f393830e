// A gate in inference, from features to pre-activations, in one call: at batch 1 seven small operations cost more than what
// they compute. `src/dynamic/gate.rs` has the same by tensor operations.

#include <ATen/ATen.h>

#include <cmath>
#include <vector>

#include "call.h"
#include "planes.h"

namespace vared {
namespace {

struct Gate {
  int64_t channels, frames, area, hidden, options;
  const float *reduce, *choose, *beta;
  const float *weight, *bias, *mean, *variance;
  float eps;
};

// One clip: the mean of every channel of every frame, two small layers with tanh between. `means` is [channel][frame].
VARED_WIDE void gate_clip(const Gate& g, const float* x, float* sums, float* means, float* hidden, float* pre) {
  for (int64_t frame = 0; frame < g.frames; ++frame) {
    std::memset(sums, 0, sizeof(float) * g.channels);
    for (int64_t i = 0; i < g.area; ++i, x += g.channels) {
#pragma omp simd
      for (int64_t c = 0; c < g.channels; ++c) sums[c] += x[c];
    }
    for (int64_t c = 0; c < g.channels; ++c) means[c * g.frames + frame] = sums[c] / static_cast<float>(g.area);
  }
  for (int64_t h = 0; h < g.hidden; ++h) {
    const float value = dot(g.channels * g.frames, g.reduce + h * g.channels * g.frames, means);
    const float scale = g.weight[h] / std::sqrt(g.variance[h] + g.eps);
    hidden[h] = std::tanh((value - g.mean[h]) * scale + g.bias[h]);
  }
  for (int64_t o = 0; o < g.options; ++o) pre[o] = dot(g.hidden, g.choose + o * g.hidden, hidden) + g.beta[o];
}

const float* floats(const at::Tensor* tensor, int64_t count) {
  require(tensor->is_contiguous() && tensor->numel() == count && tensor->scalar_type() == at::kFloat, "a gate's parameters");
  return tensor->data_ptr<float>();
}

at::Tensor gate(const at::Tensor& features, const VaredGate& call) {
  require(features.dim() == 5 && features.scalar_type() == at::kFloat, "features: five axes of floats");
  const at::Tensor x = channels_last(features);
  Gate g{};
  g.channels = x.size(1), g.frames = x.size(2), g.area = x.size(3) * x.size(4);
  g.hidden = call.reduce->size(0), g.options = call.choose->size(0);
  g.reduce = floats(call.reduce, g.hidden * g.channels * g.frames), g.choose = floats(call.choose, g.options * g.hidden);
  g.beta = floats(call.beta, g.options);
  g.weight = floats(call.norm.weight, g.hidden), g.bias = floats(call.norm.bias, g.hidden);
  g.mean = floats(call.norm.mean, g.hidden), g.variance = floats(call.norm.variance, g.hidden);
  g.eps = static_cast<float>(call.norm.eps);
  at::Tensor pre = at::empty({x.size(0), g.options}, call.beta->options().requires_grad(false));
  const int64_t reads = g.channels * g.frames;
  std::vector<float> sums(g.channels), means(reads), hidden(g.hidden);
  for (int64_t clip = 0; clip < x.size(0); ++clip) {
    const float* from = x.data_ptr<float>() + clip * reads * g.area;
    gate_clip(g, from, sums.data(), means.data(), hidden.data(), pre.data_ptr<float>() + clip * g.options);
  }
  return pre;
}

}  // namespace
}  // namespace vared

at::Tensor* vared_gate(at::Tensor* x, const VaredGate* call) {
  return vared::caught([&] { return vared::gate(*x, *call); });
}
