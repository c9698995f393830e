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
  int64_t reads, area, hidden, options;
  const float *reduce, *choose, *beta;
  const float *weight, *bias, *mean, *variance;
  float eps;
};

// One clip: the mean of every plane, two small layers with tanh between.
VARED_WIDE void gate_clip(const Gate& g, const float* x, float* means, float* hidden, float* pre) {
  for (int64_t plane = 0; plane < g.reads; ++plane) {
    const float* values = x + plane * g.area;
    float sum = 0.f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < g.area; ++i) sum += values[i];
    means[plane] = sum / static_cast<float>(g.area);
  }
  for (int64_t h = 0; h < g.hidden; ++h) {
    const float value = dot(g.reads, g.reduce + h * g.reads, means);
    const float scale = g.weight[h] / std::sqrt(g.variance[h] + g.eps);
    hidden[h] = std::tanh((value - g.mean[h]) * scale + g.bias[h]);
  }
  for (int64_t o = 0; o < g.options; ++o) pre[o] = dot(g.hidden, g.choose + o * g.hidden, hidden) + g.beta[o];
}

const float* floats(const at::Tensor* tensor, int64_t count) {
  require(tensor->is_contiguous() && tensor->numel() == count && tensor->scalar_type() == at::kFloat, "a gate's parameters");
  return tensor->data_ptr<float>();
}

at::Tensor gate(const at::Tensor& x, const VaredGate& call) {
  require(x.dim() == 5 && x.is_contiguous() && x.scalar_type() == at::kFloat, "features: five axes of floats");
  Gate g{};
  g.reads = x.size(1) * x.size(2), g.area = x.size(3) * x.size(4);
  g.hidden = call.reduce->size(0), g.options = call.choose->size(0);
  g.reduce = floats(call.reduce, g.hidden * g.reads), g.choose = floats(call.choose, g.options * g.hidden);
  g.beta = floats(call.beta, g.options);
  g.weight = floats(call.norm.weight, g.hidden), g.bias = floats(call.norm.bias, g.hidden);
  g.mean = floats(call.norm.mean, g.hidden), g.variance = floats(call.norm.variance, g.hidden);
  g.eps = static_cast<float>(call.norm.eps);
  at::Tensor pre = at::empty({x.size(0), g.options}, x.options());
  std::vector<float> means(g.reads), hidden(g.hidden);
  for (int64_t clip = 0; clip < x.size(0); ++clip) {
    const float* from = x.data_ptr<float>() + clip * g.reads * g.area;
    gate_clip(g, from, means.data(), hidden.data(), pre.data_ptr<float>() + clip * g.options);
  }
  return pre;
}

}  // namespace
}  // namespace vared

at::Tensor* vared_gate(at::Tensor* x, const VaredGate* call) {
  return vared::caught([&] { return vared::gate(*x, *call); });
}
