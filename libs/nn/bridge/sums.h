// One dynamic layer's sums and their gradients, a channel of a clip at a time: its Yc stays in cache between the sum over
// channel options and the sum over temporal options and is never written out.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "layer.h"

namespace vared {
namespace {

VARED_INLINE void load_channel(const Layer& l, const float* f, int64_t c, float* padded) {
  for (int64_t t = 0; t < l.kept_frames; ++t) {
    load(l.plane, f + (c * l.kept_frames + t) * l.area(), padded + t * l.plane.size());
  }
}

// Yc of channel c, padded. `source` is scratch; zeros must surround both.
VARED_INLINE void channel_sum(const Layer& l, const Weights& v, const float* f, int64_t c, float* yc, float* source) {
  const int64_t origin = l.plane.origin(), n = l.flat_in();
  const float direct = direct_channel(l, v, c);
  bool filled = false;
  if (c < l.kept_channels) {
    load_channel(l, f, c, yc);
    scale_in_place(n, direct, yc + origin);
    filled = true;
  }
  for (int i = 1; i < l.channel_options; ++i) {
    const ChannelOption& option = l.channel[i];
    if (!option.live || c < option.kept) continue;
    if (!filled) std::memset(yc, 0, sizeof(float) * l.padded_in());
    filled = true;
    const int64_t missing = c - option.kept;
    float k[9];
    scaled_kernel(option.kernels + missing * 9, v.channel[i], false, k);
    load_channel(l, f, missing / option.multiplier, source);
    add_stencil(n, l.plane.stride(), k, source + origin, yc + origin);
  }
  for (int64_t t = 0; t < l.kept_frames; ++t) clear_border(l.plane, yc + t * l.plane.size());
}

// One frame of Y, flat from the first value on.
VARED_INLINE void frame_sum(const Layer& l, const Weights& v, const float* yc, int64_t c, int64_t frame, float* y) {
  const int64_t origin = l.plane.origin(), n = l.plane.span(), size = l.plane.size();
  const float direct = direct_time(l, v, frame);
  if (frame % l.step == 0) {
    scale(n, direct, yc + frame / l.step * size + origin, y);
  } else {
    std::memset(y, 0, sizeof(float) * n);
  }
  for (int j = 1; j < l.time_options; ++j) {
    const TimeOption& option = l.time[j];
    const int64_t k = frame % option.factor;
    if (!option.live || k == 0) continue;
    float kernel[9];
    scaled_kernel(option.kernels[k - 1] + c * 9, v.time[j], false, kernel);
    add_stencil(n, l.plane.stride(), kernel, yc + (frame - k) / l.step * size + origin, y);
  }
}

VARED_INLINE void store(const Plane& p, const float* y, float factor, float* to) {
  for (int64_t row = 0; row < p.h; ++row, y += p.stride(), to += p.w) map_row(p.w, y, to, [=](float v) { return factor * v; });
}

// Channels [from, to) of the whole batch, counted through its clips.
VARED_WIDE void forward_channels(const Layer& l, const float* f, const float* v_time, const float* v_channel,
                                 float* y, int64_t from, int64_t to) {
  std::vector<float> buffer(2 * l.padded_in() + l.plane.size());
  float *yc = buffer.data(), *source = yc + l.padded_in(), *frame_y = source + l.padded_in();
  for (int64_t at = from; at < to; ++at) {
    const int64_t clip = at / l.channels, c = at % l.channels;
    const Weights v{v_channel + clip * l.channel_options, v_time + clip * l.time_options};
    channel_sum(l, v, f + clip * l.in_size(), c, yc, source);
    for (int64_t frame = 0; frame < l.frames; ++frame) {
      frame_sum(l, v, yc, c, frame, frame_y);
      store(l.plane, frame_y, 1.f, y + (at * l.frames + frame) * l.area());
    }
  }
}

// Gradients of one channel of one clip with everything computed (step 1). `gyc` receives the gradient of Yc, padded.
VARED_INLINE void time_back(const Layer& l, const Weights& v, const float* gy, const float* yc, int64_t c, float* gyc,
                            double* gv_time) {
  const int64_t origin = l.plane.origin(), n = l.plane.span(), size = l.plane.size(), stride = l.plane.stride();
  for (int64_t frame = 0; frame < l.frames; ++frame) {
    const float* g = gy + frame * size + origin;
    const int64_t at = frame * size + origin;
    const float value = scale_and_dot(n, direct_time(l, v, frame), g, yc + at, gyc + at);
    for (int j = 0; j < l.time_options; ++j) {
      if (frame % l.time[j].factor == 0) gv_time[j] += value;
    }
  }
  for (int j = 1; j < l.time_options; ++j) {
    const TimeOption& option = l.time[j];
    for (int64_t frame = 0; frame < l.frames; ++frame) {
      const int64_t k = frame % option.factor;
      if (k == 0) continue;
      const float* kernel = option.kernels[k - 1] + c * 9;
      const float* g = gy + frame * size + origin;
      const int64_t anchor = (frame - k) * size + origin;
      float back[9], taps[9] = {};
      scaled_kernel(kernel, v.time[j], true, back);
      add_stencil(n, stride, back, g, gyc + anchor);
      add_tap_dots(n, stride, g, yc + anchor, taps);
      float* gradient = option.gradients[k - 1] + c * 9;
      for (int tap = 0; tap < 9; ++tap) {
        gradient[tap] += v.time[j] * taps[tap];
        gv_time[j] += kernel[tap] * taps[tap];
      }
    }
  }
  for (int64_t frame = 0; frame < l.frames; ++frame) clear_border(l.plane, gyc + frame * size);
}

VARED_INLINE void channel_back(const Layer& l, const Weights& v, const float* f, const float* gyc, int64_t c, float* source,
                               float* scratch, float* gf, double* gv_channel) {
  const int64_t origin = l.plane.origin(), n = l.flat_in(), size = l.plane.size(), stride = l.plane.stride();
  load_channel(l, f, c, source);
  const float value = dot(n, gyc + origin, source + origin);
  const float direct = direct_channel(l, v, c);
  for (int i = 0; i < l.channel_options; ++i) {
    if (c < l.channel[i].kept) gv_channel[i] += value;
  }
  for (int64_t t = 0; t < l.frames; ++t) {
    store(l.plane, gyc + t * size + origin, direct, gf + (c * l.frames + t) * l.area());
  }
  for (int i = 1; i < l.channel_options; ++i) {
    const ChannelOption& option = l.channel[i];
    if (c < option.kept) continue;
    const int64_t missing = c - option.kept, from = missing / option.multiplier;
    const float* kernel = option.kernels + missing * 9;
    float back[9], taps[9] = {};
    scaled_kernel(kernel, v.channel[i], true, back);
    load_channel(l, f, from, source);
    add_tap_dots(n, stride, gyc + origin, source + origin, taps);
    for (int tap = 0; tap < 9; ++tap) {
      option.gradient[missing * 9 + tap] += v.channel[i] * taps[tap];
      gv_channel[i] += kernel[tap] * taps[tap];
    }
    std::memset(scratch, 0, sizeof(float) * l.padded_in());
    add_stencil(n, stride, back, gyc + origin, scratch + origin);
    // The source comes before the channels that are rebuilt from it, so its own gradient is already there.
    for (int64_t t = 0; t < l.frames; ++t) {
      const float* row = scratch + t * size + origin;
      float* to = gf + (from * l.frames + t) * l.area();
      for (int64_t y = 0; y < l.plane.h; ++y, row += stride, to += l.plane.w) add_scaled(l.plane.w, 1.f, row, to);
    }
  }
}

// All gradients of one clip. Kernels' gradients go to the clip's own place, to be summed in the order of the clips.
VARED_WIDE void backward_clip(const Layer& l, const float* f, const Weights& v, const float* gy, float* gf, double* gv_time,
                              double* gv_channel) {
  const int64_t padded = l.padded_in();
  std::vector<float> buffer(5 * padded);
  float *yc = buffer.data(), *source = yc + padded, *gyc = source + padded, *g = gyc + padded, *scratch = g + padded;
  for (int64_t c = 0; c < l.channels; ++c) {
    channel_sum(l, v, f, c, yc, source);
    load_channel(l, gy, c, g);
    time_back(l, v, g, yc, c, gyc, gv_time);
    channel_back(l, v, f, gyc, c, source, scratch, gf, gv_channel);
  }
}

}  // namespace
}  // namespace vared
