// One layer's call from Rust, checked and laid out for the loops.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "call.h"
#include "layer.h"

namespace vared {
namespace {

// The tensors of a call, by name. Kernels that are not live are undefined.
struct Call {
  at::Tensor f, v_time, v_channel;
  std::vector<at::Tensor> kernels;  // channel options 1.., then time options 1.. with all their k
  int64_t channels, frames;
  int channel_options, time_options;
  std::vector<bool> channel_live, time_live;
};

inline int first(const std::vector<bool>& live) {
  int option = 0;
  while (option + 1 < static_cast<int>(live.size()) && !live[option]) ++option;
  return option;
}

// `format` says how the features lie: planes for training, channels last for inference.
inline Layer layout(const Call& call, at::MemoryFormat format) {
  const auto sizes = call.f.sizes();
  require(call.f.dim() == 5 && call.f.is_contiguous(format) && call.f.scalar_type() == at::kFloat, "features: five axes of floats");
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

inline Call gather(const VaredMix& mix) {
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
