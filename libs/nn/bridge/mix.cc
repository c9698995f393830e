// The weighted sum of a dynamic layer's options, forward and backward, each in one pass over memory:
//
//   Yc = sum_i v_c[i] * reduce_channel(F, r_i)      Y = sum_j v_t[j] * reduce_time(Yc, R_j)
//
// The loops are in `sums.h`; here is what joins them to tensors and to autograd. The plain path in `src/mix.rs` computes the
// same by tensor operations and is the oracle of the tests.

#include "mix.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/TracerMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <vector>

#include "options.h"
#include "sums.h"

namespace vared {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor forward(const Call& call) {
  const Layer l = layout(call, at::MemoryFormat::Contiguous);
  const at::Tensor v_time = call.v_time.contiguous(), v_channel = call.v_channel.contiguous();
  at::Tensor y = at::empty({l.clips, l.channels, l.frames, l.plane.h, l.plane.w}, call.f.options());
  const float *f = call.f.data_ptr<float>(), *vt = v_time.data_ptr<float>(), *vc = v_channel.data_ptr<float>();
  float* to = y.data_ptr<float>();
  at::parallel_for(0, l.clips * l.channels, 8, [&](int64_t from, int64_t until) {
    forward_channels(l, f, vt, vc, to, from, until);
  });
  return y;
}

// Gradients in the order of `Mix::forward`'s tensors: f, v_time, v_channel, kernels.
variable_list backward(const Call& call, const at::Tensor& gy) {
  const Layer shared = layout(call, at::MemoryFormat::Contiguous);
  const at::Tensor v_time = call.v_time.contiguous(), v_channel = call.v_channel.contiguous(), g = gy.contiguous();
  at::Tensor gf = at::empty_like(call.f);
  std::vector<at::Tensor> partial;
  for (const at::Tensor& k : call.kernels) partial.push_back(at::zeros({shared.clips, k.numel()}, k.options()));
  const auto doubles = call.f.options().dtype(at::kDouble);
  at::Tensor gv_time = at::zeros({shared.clips, shared.time_options}, doubles);
  at::Tensor gv_channel = at::zeros({shared.clips, shared.channel_options}, doubles);
  at::parallel_for(0, shared.clips, 1, [&](int64_t from, int64_t until) {
    for (int64_t clip = from; clip < until; ++clip) {
      Layer l = shared;
      size_t next = 0;
      const auto place = [&]() -> float* {
        at::Tensor& rows = partial[next++];
        return rows.data_ptr<float>() + clip * rows.size(1);
      };
      for (int i = 1; i < l.channel_options; ++i) l.channel[i].gradient = place();
      for (int j = 1; j < l.time_options; ++j) {
        for (int64_t k = 1; k < l.time[j].factor; ++k) l.time[j].gradients[k - 1] = place();
      }
      const Weights v{v_channel.data_ptr<float>() + clip * l.channel_options, v_time.data_ptr<float>() + clip * l.time_options};
      backward_clip(l, call.f.data_ptr<float>() + clip * l.in_size(), v, g.data_ptr<float>() + clip * l.out_size(),
                    gf.data_ptr<float>() + clip * l.in_size(), gv_time.data_ptr<double>() + clip * l.time_options,
                    gv_channel.data_ptr<double>() + clip * l.channel_options);
    }
  });
  variable_list gradients{gf, gv_time.to(at::kFloat), gv_channel.to(at::kFloat)};
  for (size_t i = 0; i < partial.size(); ++i) gradients.push_back(partial[i].sum(0).view_as(call.kernels[i]));
  return gradients;
}

// Weights and kernels of all options, everything computed: what training needs.
struct Mix : torch::autograd::Function<Mix> {
  static at::Tensor forward(AutogradContext* ctx, at::TensorList inputs, int64_t channels, int64_t frames) {
    ctx->saved_data["channels"] = channels;
    ctx->saved_data["frames"] = frames;
    const variable_list tensors = inputs.vec();
    ctx->save_for_backward(tensors);
    return vared::forward(unpack(tensors, channels, frames));
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto call = unpack(ctx->get_saved_variables(), ctx->saved_data["channels"].toInt(), ctx->saved_data["frames"].toInt());
    variable_list result = vared::backward(call, gradients[0]);
    result.resize(result.size() + 2);
    return result;
  }

  static Call unpack(const variable_list& tensors, int64_t channels, int64_t frames) {
    Call call{tensors[0], tensors[1], tensors[2], {tensors.begin() + 3, tensors.end()}, channels, frames, 0, 0, {}, {}};
    call.time_options = static_cast<int>(call.v_time.size(1));
    call.channel_options = static_cast<int>(call.v_channel.size(1));
    call.time_live.assign(call.time_options, true);
    call.channel_live.assign(call.channel_options, true);
    return call;
  }
};

}  // namespace
}  // namespace vared

at::Tensor* vared_mix(const VaredMix* mix) {
  return vared::caught([&] {
    vared::Call call = vared::gather(*mix);
    bool all = at::GradMode::is_enabled();
    for (const bool live : call.channel_live) all = all && live;
    for (const bool live : call.time_live) all = all && live;
    if (!all) {
      const at::NoGradGuard guard;
      return vared::forward(call);
    }
    torch::autograd::variable_list tensors{call.f, call.v_time, call.v_channel};
    tensors.insert(tensors.end(), call.kernels.begin(), call.kernels.end());
    return vared::Mix::apply(at::TensorList(tensors), call.channels, call.frames);
  });
}

int vared_records_gradients() { return at::GradMode::is_enabled() ? 1 : 0; }

int vared_is_traced() { return at::tracer::impl::is_dispatch_enabled() ? 1 : 0; }

const char* vared_error() { return vared::last_error.c_str(); }
