// One dynamic layer as the loops see it: shapes, options and their kernels.
#pragma once

#include <cstdint>

#include "planes.h"

namespace vared {
namespace {

constexpr int kMaxOptions = 8;

// One option of the channel axis (kept channels, rebuilt from `kept / multiplier`) or of the time axis (every `factor`-th).
struct ChannelOption {
  int64_t kept, multiplier;
  bool live;
  const float* kernels;
  float* gradient;  // of this clip
};
struct TimeOption {
  int64_t factor;
  bool live;
  const float* kernels[kMaxOptions];
  float* gradients[kMaxOptions];
};

// Everything about a call that does not depend on the clip.
struct Layer {
  Plane plane;
  int64_t clips, channels, frames;
  int64_t kept_channels, kept_frames, step;
  int channel_options, time_options;
  ChannelOption channel[kMaxOptions];
  TimeOption time[kMaxOptions];

  int64_t area() const { return plane.h * plane.w; }
  int64_t in_size() const { return kept_channels * kept_frames * area(); }
  int64_t out_size() const { return channels * frames * area(); }
  // Floats of the padded frames of one channel.
  int64_t padded_in() const { return kept_frames * plane.size(); }
  int64_t padded_out() const { return frames * plane.size(); }
  // Flat length over the padded frames that are there.
  int64_t flat_in() const { return (kept_frames - 1) * plane.size() + plane.span(); }
};

// What options `channel` and `time` weigh for one clip.
struct Weights {
  const float* channel;
  const float* time;
};

VARED_INLINE float direct_channel(const Layer& l, const Weights& v, int64_t c) {
  float sum = 0.f;
  for (int i = 0; i < l.channel_options; ++i) {
    if (l.channel[i].live && c < l.channel[i].kept) sum += v.channel[i];
  }
  return sum;
}

VARED_INLINE float direct_time(const Layer& l, const Weights& v, int64_t frame) {
  float sum = 0.f;
  for (int j = 0; j < l.time_options; ++j) {
    if (l.time[j].live && frame % l.time[j].factor == 0) sum += v.time[j];
  }
  return sum;
}

}  // namespace
}  // namespace vared
