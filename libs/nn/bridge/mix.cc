// The weighted sum of a dynamic layer's options, forward and backward, each in one pass over memory:
//
//   Yc = sum_i v_c[i] * reduce_channel(F, r_i)      Y = sum_j v_t[j] * reduce_time(Yc, R_j)
//
// The loops are in `layer.h`; here is what joins them to tensors and to autograd. The plain path in `src/mix.rs` computes the
// same by tensor operations and is the oracle of the tests.

#include "mix.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/TracerMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <limits>
#include <vector>

#include "call.h"
#include "layer.h"

namespace vared {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The tensors of a call, by name. Kernels that are not live are undefined.
struct Call {
  at::Tensor f, v_time, v_channel;
  std::vector<at::Tensor> kernels;  // channel options 1.., then time options 1.. with all their k
  int64_t channels, frames;
  int channel_options, time_options;
  std::vector<bool> channel_live, time_live;
};

int first(const std::vector<bool>& live) {
  int option = 0;
  while (option + 1 < static_cast<int>(live.size()) && !live[option]) ++option;
  return option;
}

Layer layout(const Call& call) {
  const auto sizes = call.f.sizes();
  require(call.f.dim() == 5 && call.f.is_contiguous() && call.f.scalar_type() == at::kFloat, "features: five axes of floats");
  require(call.channel_options <= kMaxOptions && call.time_options <= 3, "at most three temporal options");
  Layer l{};
  l.plane = {sizes[3], sizes[4]};
  l.clips = sizes[0];
  l.channels = call.channels, l.frames = call.frames;
  l.kept_channels = sizes[1], l.kept_frames = sizes[2];
  l.step = int64_t{1} << first(call.time_live);
  l.channel_options = call.channel_options, l.time_options = call.time_options;
  size_t next = 0;
  const auto kernel = [&](int64_t rows) -> const float* {
    const at::Tensor& k = call.kernels.at(next++);
    if (!k.defined()) return nullptr;
    require(k.is_contiguous() && k.numel() == rows * 9 && k.scalar_type() == at::kFloat, "cheap kernels: [rows, 1, 3, 3]");
    return k.data_ptr<float>();
  };
  for (int i = 0; i < l.channel_options; ++i) {
    const int64_t kept = (l.channels + (1 << i) - 1) >> i;
    l.channel[i] = {kept, (int64_t{1} << i) - 1, call.channel_live[i], nullptr, nullptr};
    if (i > 0) l.channel[i].kernels = kernel(l.channels - kept);
    require(i == 0 || !l.channel[i].live || l.channel[i].kernels != nullptr, "a live channel option without kernels");
  }
  for (int j = 0; j < l.time_options; ++j) {
    l.time[j].factor = int64_t{1} << j;
    l.time[j].live = call.time_live[j];
    for (int64_t k = 1; k < l.time[j].factor; ++k) {
      l.time[j].kernels[k - 1] = kernel(l.channels);
      require(!l.time[j].live || l.time[j].kernels[k - 1] != nullptr, "a live temporal option without kernels");
    }
  }
  require(l.kept_channels == l.channel[first(call.channel_live)].kept, "channels of the first live option");
  require(l.kept_frames == (l.frames + l.step - 1) / l.step, "frames of the first live option");
  require(call.v_channel.size(0) == l.clips && call.v_channel.size(1) == l.channel_options, "channel weights: [n, options]");
  require(call.v_time.size(0) == l.clips && call.v_time.size(1) == l.time_options, "temporal weights: [n, options]");
  return l;
}

at::Tensor forward(const Call& call, const Affine* affine) {
  const Layer l = layout(call);
  const at::Tensor v_time = call.v_time.contiguous(), v_channel = call.v_channel.contiguous();
  at::Tensor y = at::empty({l.clips, l.channels, l.frames, l.plane.h, l.plane.w}, call.f.options());
  const float *f = call.f.data_ptr<float>(), *vt = v_time.data_ptr<float>(), *vc = v_channel.data_ptr<float>();
  float* to = y.data_ptr<float>();
  at::parallel_for(0, l.clips * l.channels, 8, [&](int64_t from, int64_t until) {
    forward_channels(l, f, vt, vc, affine, to, from, until);
  });
  return y;
}

// Gradients in the order of `Mix::forward`'s tensors: f, v_time, v_channel, kernels.
variable_list backward(const Call& call, const at::Tensor& gy) {
  const Layer shared = layout(call);
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
    return vared::forward(unpack(tensors, channels, frames), nullptr);
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

Call gather(const VaredMix& mix) {
  Call call{*mix.computed, *mix.time_weights, *mix.channel_weights, {}, mix.channels, mix.frames,
            static_cast<int>(mix.channel_options), static_cast<int>(mix.time_options), {}, {}};
  const auto add = [&](at::Tensor* kernel) { call.kernels.push_back(kernel == nullptr ? at::Tensor() : *kernel); };
  for (int64_t i = 0; i + 1 < mix.channel_options; ++i) add(mix.channel_kernels[i]);
  int64_t sets = 0;
  for (int64_t j = 1; j < mix.time_options; ++j) sets += (int64_t{1} << j) - 1;
  for (int64_t i = 0; i < sets; ++i) add(mix.time_kernels[i]);
  call.channel_live.assign(mix.channel_live, mix.channel_live + mix.channel_options);
  call.time_live.assign(mix.time_live, mix.time_live + mix.time_options);
  return call;
}

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
      return vared::forward(call, nullptr);
    }
    torch::autograd::variable_list tensors{call.f, call.v_time, call.v_channel};
    tensors.insert(tensors.end(), call.kernels.begin(), call.kernels.end());
    return vared::Mix::apply(at::TensorList(tensors), call.channels, call.frames);
  });
}

at::Tensor* vared_mix_norm(const VaredMix* mix, const VaredNorm* norm) {
  return vared::caught([&] {
    const at::NoGradGuard guard;
    std::vector<float> scale(mix->channels), shift(mix->channels);
    for (const at::Tensor* values : {norm->weight, norm->bias, norm->mean, norm->variance}) {
      vared::require(values->is_contiguous() && values->numel() == mix->channels, "norm: one value a channel");
    }
    const float *weight = norm->weight->data_ptr<float>(), *bias = norm->bias->data_ptr<float>();
    const float *mean = norm->mean->data_ptr<float>(), *variance = norm->variance->data_ptr<float>();
    for (int64_t c = 0; c < mix->channels; ++c) {
      scale[c] = weight[c] / std::sqrt(variance[c] + static_cast<float>(norm->eps));
      shift[c] = bias[c] - mean[c] * scale[c];
    }
    const float floor = norm->relu ? 0.f : -std::numeric_limits<float>::infinity();
    const vared::Affine affine{scale.data(), shift.data(), floor};
    return vared::forward(vared::gather(*mix), &affine);
  });
}

int vared_records_gradients() { return at::GradMode::is_enabled() ? 1 : 0; }

int vared_is_traced() { return at::tracer::impl::is_dispatch_enabled() ? 1 : 0; }

const char* vared_mix_error() { return vared::last_error.c_str(); }
