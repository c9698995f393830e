// A dynamic layer's output in inference, from the part that was computed: rebuilt channels, rebuilt frames, norm, shortcut and
// ReLU in one pass over channels-last memory. Rows of Yc stay in cache until the frames that are rebuilt from them are done.
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "layer.h"
#include "rows.h"

namespace vared {
namespace {

// What follows the sum: y = max(scale * sum + shift + shortcut, floor), one scale and shift a channel.
struct Affine {
  const float* scale;
  const float* shift;
  float floor;
};

// Where a layer's values lie. Pointers are those of one clip.
struct Features {
  const float* computed;  // [kept frames, h, w, kept channels]
  const float* shortcut;  // [frames, h, w, channels], or null
  float* y;               // [frames, h, w, channels]
};

// One clip's weights, options, kernels and norm multiplied out. Kernels are [tap][channel].
struct Coefficients {
  bool one_channel_option;             // Yc is what was computed; its weight is in the temporal coefficients
  std::vector<float> kept;             // of the channels that were computed
  std::vector<float> channel[kMaxOptions];
  std::vector<float> frame[4];         // of an anchor itself, by its place in a period; empty: no option has that frame
  std::vector<float> time[kMaxOptions][4];
  std::vector<float> zeros;
};

VARED_INLINE int64_t period(const Layer& l) {
  int64_t longest = 1;
  for (int j = 0; j < l.time_options; ++j) {
    if (l.time[j].live) longest = l.time[j].factor;
  }
  return longest;
}

// [count][9] to [9][count], each channel's kernel times its factor.
VARED_INLINE void turn(const float* kernels, int64_t count, float weight, const float* factors, std::vector<float>& to) {
  to.resize(9 * count);
  for (int64_t c = 0; c < count; ++c) {
    const float factor = factors == nullptr ? weight : weight * factors[c];
    for (int64_t tap = 0; tap < 9; ++tap) to[tap * count + c] = factor * kernels[c * 9 + tap];
  }
}

inline Coefficients coefficients(const Layer& l, const Weights& v, const Affine& norm) {
  Coefficients k;
  k.zeros.assign(l.channels, 0.f);
  const int64_t frames = period(l);
  k.one_channel_option = l.kept_channels == l.channels;
  for (int i = 1; i < l.channel_options; ++i) k.one_channel_option = k.one_channel_option && !l.channel[i].live;
  // The norm is multiplied into the last sum: over frames if any are rebuilt, else over channels.
  const float* last = frames == 1 ? norm.scale : nullptr;
  const float last_weight = frames == 1 ? v.time[0] : 1.f;
  k.kept.resize(l.kept_channels);
  for (int64_t c = 0; c < l.kept_channels; ++c) {
    k.kept[c] = direct_channel(l, v, c) * last_weight * (last == nullptr ? 1.f : last[c]);
  }
  for (int i = 1; i < l.channel_options; ++i) {
    const ChannelOption& option = l.channel[i];
    if (!option.live) continue;
    turn(option.kernels, l.channels - option.kept, v.channel[i] * last_weight, last == nullptr ? nullptr : last + option.kept,
         k.channel[i]);
  }
  if (frames == 1) return k;
  const float whole = k.one_channel_option ? v.channel[0] : 1.f;
  for (int64_t at = 0; at < frames; at += l.step) {
    const float weight = whole * direct_time(l, v, at);
    if (weight == 0.f) continue;
    k.frame[at].resize(l.channels);
    for (int64_t c = 0; c < l.channels; ++c) k.frame[at][c] = weight * norm.scale[c];
  }
  for (int j = 1; j < l.time_options; ++j) {
    if (!l.time[j].live) continue;
    for (int64_t after = 1; after < l.time[j].factor; ++after) {
      turn(l.time[j].kernels[after - 1], l.channels, whole * v.time[j], norm.scale, k.time[j][after]);
    }
  }
  return k;
}

// Memory of one thread.
struct Scratch {
  std::vector<float> yc, spread;
  explicit Scratch(const Layer& l) : yc(4 * 3 * l.plane.w * l.channels), spread(3 * l.plane.w * l.channels) {}
};

// Adds a 3x3 kernel over the rows around y to row `to`, which begins with `begin` or, without it, with what it holds.
// `line(i)` is row i of what is read, `step` floats a position.
template <typename Line>
VARED_INLINE void add_stencil_row(const Layer& l, Line line, int64_t y, int64_t step, const float* kernels, int64_t channels,
                                  const float* begin, const Finish& finish, float* to) {
  Window window{{}, 0, step, l.plane.w, channels};
  for (int64_t r = 0; r < 3; ++r) {
    const int64_t at = y + r - 1;
    if (at >= 0 && at < l.plane.h) window.row[window.rows++] = {line(at), kernels + r * 3 * channels};
  }
  const int64_t begin_step = begin == nullptr ? l.channels : 0;
  window_row<3, 1>(window, 1, l.plane.w, begin == nullptr ? to : begin, begin_step, finish, to, l.channels);
}

// Row y of the sum over channel options of computed frame m, begun with `shift`.
VARED_INLINE void channel_row(const Layer& l, const Coefficients& k, const float* computed, int64_t m, int64_t y,
                              const float* shift, const Finish& finish, Scratch& scratch, float* to) {
  const int64_t w = l.plane.w, kept = l.kept_channels;
  const float* picture = computed + m * l.plane.h * w * kept;
  // The last live option rebuilds the most: what it leaves is done at once, all else when its sum ends.
  int last = 0;
  for (int i = 1; i < l.channel_options; ++i) {
    if (l.channel[i].live && l.channel[i].kept < l.channels) last = i;
  }
  const int64_t done = last == 0 ? kept : l.channel[last].kept;
  const float* row = picture + y * w * kept;
  affine_row(row, kept, w, k.kept.data(), shift, done, finish, to, l.channels);
  if (done < kept) {
    affine_row(row + done, kept, w, k.kept.data() + done, shift + done, kept - done, Finish::none(), to + done, l.channels);
  }
  bool begun = kept == l.channels;
  for (int i = 1; i <= last; ++i) {
    const ChannelOption& option = l.channel[i];
    const int64_t missing = l.channels - option.kept;
    if (!option.live || missing == 0) continue;
    const float *kernels = k.channel[i].data(), *begin = begun ? nullptr : shift + option.kept;
    const Finish then = i == last ? finish.at(option.kept) : Finish::none();
    const auto line = [&](int64_t at) { return picture + at * w * kept; };
    if (option.multiplier == 1) {
      add_stencil_row(l, line, y, kept, kernels, missing, begin, then, to + option.kept);
    } else {
      const auto spread = [&](int64_t at) {
        float* wide = scratch.spread.data() + (at - y + 1) * w * missing;
        spread_row(line(at), kept, w, option.multiplier, missing, wide);
        return wide;
      };
      add_stencil_row(l, spread, y, missing, kernels, missing, begin, then, to + option.kept);
    }
    begun = true;
  }
}

// Rows [from, to) of the frames [first, last) that one anchor period holds, where frames are rebuilt.
VARED_INLINE void fill_period(const Layer& l, const Coefficients& k, const Affine& norm, const Features& at, int64_t first,
                              int64_t last, int64_t from, int64_t to, Scratch& scratch) {
  const int64_t h = l.plane.h, w = l.plane.w, row = w * l.channels, source = first / l.step;
  const int64_t sources = (last - first + l.step - 1) / l.step;
  // Row i of Yc of source s.
  const auto line = [&](int64_t s, int64_t i) -> float* {
    if (k.one_channel_option) return const_cast<float*>(at.computed) + ((source + s) * h + i) * row;
    return scratch.yc.data() + (s * 3 + i % 3) * row;
  };
  int64_t next = std::max<int64_t>(from - 1, 0);
  for (int64_t y = from; y < to; ++y) {
    for (; !k.one_channel_option && next <= std::min(y + 1, h - 1); ++next) {
      for (int64_t s = 0; s < sources; ++s) {
        channel_row(l, k, at.computed, source + s, next, k.zeros.data(), Finish::none(), scratch, line(s, next));
      }
    }
    for (int64_t frame = first; frame < last; ++frame) {
      const int64_t place = frame - first, offset = (frame * h + y) * row;
      const Finish finish = Finish{at.shortcut, norm.floor}.at(offset);
      float* target = at.y + offset;
      int end = 0;
      for (int j = 1; j < l.time_options; ++j) {
        if (l.time[j].live && place % l.time[j].factor != 0) end = j;
      }
      // An anchor of its own weight; without one the sum begins with the norm's shift.
      const bool begun = !k.frame[place].empty() || end == 0;
      if (begun) {
        const float* weight = k.frame[place].empty() ? k.zeros.data() : k.frame[place].data();
        affine_row(line(place / l.step, y), l.channels, w, weight, norm.shift, l.channels, end == 0 ? finish : Finish::none(),
                   target, l.channels);
      }
      bool first_term = !begun;
      for (int j = 1; j <= end; ++j) {
        const int64_t after = place % l.time[j].factor;
        if (!l.time[j].live || after == 0) continue;
        const int64_t s = (place - after) / l.step;
        add_stencil_row(l, [&](int64_t i) { return line(s, i); }, y, l.channels, k.time[j][after].data(), l.channels,
                        first_term ? norm.shift : nullptr, j == end ? finish : Finish::none(), target);
        first_term = false;
      }
    }
  }
}

// Rows [from, to) of one anchor period of one clip.
VARED_WIDE void fill_rows(const Layer& l, const Coefficients& k, const Affine& norm, const Features& at, int64_t first,
                          int64_t last, int64_t from, int64_t to, Scratch& scratch) {
  if (period(l) > 1) return fill_period(l, k, norm, at, first, last, from, to, scratch);
  const int64_t row = l.plane.w * l.channels;
  for (int64_t y = from; y < to; ++y) {
    const int64_t offset = (first * l.plane.h + y) * row;
    const Finish finish = Finish{at.shortcut, norm.floor}.at(offset);
    channel_row(l, k, at.computed, first, y, norm.shift, finish, scratch, at.y + offset);
  }
}

}  // namespace
}  // namespace vared
