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
  const float* shortcut;  // [frames, rows, w, channels], or null
  float* y;               // [frames, rows, w, channels]
  int64_t first_row, rows;  // of the output's h, those that are wanted
  int64_t place(const Layer& l, int64_t frame, int64_t row) const { return (frame * rows + row - first_row) * l.plane.w * l.channels; }
};

// One clip's weights, options, kernels and norm multiplied out. Kernels are [tap][channel].
struct Coefficients {
  int64_t straight;                    // so many channels of Yc are computed ones times a weight, with nothing added
  std::vector<float> kept;             // of the channels that were computed
  std::vector<float> channel[kMaxOptions];
  std::vector<float> frame[4];         // of an anchor itself, by its place in a period; empty: no option has that frame
  std::vector<float> time[kMaxOptions][4];
  std::vector<float> zeros;
};

inline int64_t period(const Layer& l) {
  int64_t longest = 1;
  for (int j = 0; j < l.time_options; ++j) {
    if (l.time[j].live) longest = l.time[j].factor;
  }
  return longest;
}

// [count][9] to [9][count], each channel's kernel times its factor.
inline void turn(const float* kernels, int64_t count, float weight, const float* factors, std::vector<float>& to) {
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
  k.straight = l.channels;
  for (int i = 1; i < l.channel_options; ++i) {
    if (l.channel[i].live) k.straight = l.channel[i].kept;
  }
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
  // The sum over frames reads channels that are straight as they were computed.
  std::vector<float> factor(norm.scale, norm.scale + l.channels);
  for (int64_t c = 0; c < k.straight; ++c) factor[c] *= k.kept[c];
  for (int64_t at = 0; at < frames; at += l.step) {
    const float weight = direct_time(l, v, at);
    if (weight == 0.f) continue;
    k.frame[at].resize(l.channels);
    for (int64_t c = 0; c < l.channels; ++c) k.frame[at][c] = weight * factor[c];
  }
  for (int j = 1; j < l.time_options; ++j) {
    if (!l.time[j].live) continue;
    for (int64_t after = 1; after < l.time[j].factor; ++after) {
      turn(l.time[j].kernels[after - 1], l.channels, v.time[j], factor.data(), k.time[j][after]);
    }
  }
  return k;
}

// Memory of one thread.
struct Scratch {
  std::vector<float> yc, spread;
  explicit Scratch(const Layer& l) : yc(4 * 3 * l.plane.w * l.channels), spread(3 * l.plane.w * l.channels) {}
};

// A 3x3 kernel of some channels over the rows around y; `line(i)` is row i of what it reads, `step` floats a position.
struct Stencil {
  const float* kernels;  // [9][kernel_step]
  int64_t kernel_step, channels, step;
};

// Adds it to the target's row, which begins with `begin` or, without it, with what it holds. `through`: see `window_row`; its row is
// filled in.
template <typename Line>
void add_stencil_row(const Layer& l, Line line, int64_t y, const Stencil& stencil, const float* begin, const Finish& finish,
                     const Target& target, Through* through) {
  Window window{{}, 0, 3, 1, 1, stencil.step, l.plane.w, stencil.channels, stencil.kernel_step};
  for (int64_t r = 0; r < 3; ++r) {
    const int64_t at = y + r - 1;
    if (at < 0 || at >= l.plane.h) continue;
    if (r == 1 && through != nullptr) through->row = window.rows;
    window.row[window.rows++] = {line(at), stencil.kernels + r * 3 * stencil.kernel_step};
  }
  window_row(window, begin, finish, target, through);
}

// Row y of the sum over channel options of computed frame m, begun with `shift`: the channels that are not straight, to the
// target. `through` goes with the option that rebuilds the most, the last.
inline void channel_row(const Layer& l, const Coefficients& k, const float* computed, int64_t m, int64_t y, const float* shift,
                        const Finish& finish, const Target& target, Through* through, Scratch& scratch) {
  const int64_t w = l.plane.w, kept = l.kept_channels;
  const float* picture = computed + m * l.plane.h * w * kept;
  if (k.straight < kept) {
    affine_row(picture + y * w * kept + k.straight, kept, k.kept.data() + k.straight, shift + k.straight, kept - k.straight,
               Finish::none(), target);
  }
  bool begun = kept == l.channels;
  for (int i = 1; i < l.channel_options; ++i) {
    const ChannelOption& option = l.channel[i];
    const int64_t missing = l.channels - option.kept, offset = option.kept - k.straight;
    if (!option.live || missing == 0) continue;
    const float* begin = begun ? nullptr : shift + option.kept;
    const bool is_last = offset == 0;
    const Finish then = is_last ? finish : Finish::none();
    const Target to{target.to + offset, w, target.step};
    const auto line = [&](int64_t at) { return picture + at * w * kept; };
    if (option.multiplier == 1) {
      add_stencil_row(l, line, y, {k.channel[i].data(), missing, missing, kept}, begin, then, to, is_last ? through : nullptr);
    } else {
      const auto spread = [&](int64_t at) {
        float* wide = scratch.spread.data() + (at - y + 1) * w * missing;
        spread_row(line(at), kept, w, option.multiplier, missing, wide);
        return wide;
      };
      add_stencil_row(l, spread, y, {k.channel[i].data(), missing, missing, missing}, begin, then, to, nullptr);
    }
    begun = true;
  }
}

// Row y of frame m where none is rebuilt.
inline void fill_row(const Layer& l, const Coefficients& k, const Affine& norm, const Features& at, int64_t m, int64_t y,
                     Scratch& scratch) {
  const int64_t offset = at.place(l, m, y), kept = l.kept_channels;
  const Finish finish = Finish{at.shortcut, norm.floor}.at(offset);
  float* to = at.y + offset;
  // Straight channels that others are rebuilt from are finished when these read them.
  const bool reads_them = k.straight < l.channels && k.straight * 2 >= l.channels;
  Through through{0, k.kept.data(), norm.shift, finish.add, norm.floor, to};
  channel_row(l, k, at.computed, m, y, norm.shift, finish.at(k.straight), {to + k.straight, l.plane.w, l.channels},
              reads_them ? &through : nullptr, scratch);
  const int64_t done = reads_them ? l.channels - k.straight : 0;
  if (done == k.straight) return;
  affine_row(at.computed + (m * l.plane.h + y) * l.plane.w * kept + done, kept, k.kept.data() + done, norm.shift + done,
             k.straight - done, finish.at(done), {to + done, l.plane.w, l.channels});
}

// Some channels of Yc in one period, as the sum over frames reads them.
struct Source {
  int64_t channel, channels;  // from which on, and how many
  const float* rows;
  int64_t step;               // floats from position to position
  int64_t period, rows_kept;  // floats from frame to frame; rows that a frame has, used in turn
  const float* line(const Layer& l, int64_t s, int64_t row) const { return rows + s * period + row % rows_kept * l.plane.w * step; }
};

// Row y of a source's channels in the frames [first, last) of one period.
inline void time_row(const Layer& l, const Coefficients& k, const Affine& norm, const Features& at, const Source& source,
                     int64_t first, int64_t last, int64_t y) {
  const float* shift = norm.shift + source.channel;
  for (int64_t frame = first; frame < last; ++frame) {
    const int64_t place = frame - first;
    const auto place_of = [&](int64_t frame) { return at.place(l, frame, y) + source.channel; };
    const Finish finish = Finish{at.shortcut, norm.floor}.at(place_of(frame));
    const Target target{at.y + place_of(frame), l.plane.w, l.channels};
    int end = 0;
    for (int j = 1; j < l.time_options; ++j) {
      if (l.time[j].live && place % l.time[j].factor != 0) end = j;
    }
    // What no option rebuilds is finished when the next frame's kernels read it, if there is one.
    if (end == 0 && frame + 1 < last) continue;
    // An anchor of its own weight; without one the sum begins with the norm's shift.
    const bool begun = end == 0 || !k.frame[place].empty();
    if (begun) {
      const float* weight = k.frame[place].empty() ? k.zeros.data() : k.frame[place].data();
      affine_row(source.line(l, place / l.step, y), source.step, weight + source.channel, shift, source.channels,
                 end == 0 ? finish : Finish::none(), target);
    }
    bool is_first = !begun;
    for (int j = 1; j <= end; ++j) {
      const int64_t after = place % l.time[j].factor;
      if (!l.time[j].live || after == 0) continue;
      const Stencil stencil{k.time[j][after].data() + source.channel, l.channels, source.channels, source.step};
      const auto line = [&](int64_t row) { return source.line(l, (place - after) / l.step, row); };
      const std::vector<float>& own = k.frame[place - after];
      Through through{0, (own.empty() ? k.zeros : own).data() + source.channel, shift,
                      Finish{at.shortcut, 0.f}.at(place_of(frame - 1)).add, norm.floor, at.y + place_of(frame - 1)};
      const bool is_due = after == 1 && j == end;
      add_stencil_row(l, line, y, stencil, is_first ? shift : nullptr, j == end ? finish : Finish::none(), target,
                      is_due ? &through : nullptr);
      is_first = false;
    }
  }
}

// Rows [from, to) of the frames [first, last) that one anchor period holds, where frames are rebuilt.
inline void fill_period(const Layer& l, const Coefficients& k, const Affine& norm, const Features& at, int64_t first, int64_t last,
                        int64_t from, int64_t to, Scratch& scratch) {
  const int64_t h = l.plane.h, w = l.plane.w, anchor = first / l.step, anchors = (last - first + l.step - 1) / l.step;
  const int64_t picture = h * w * l.kept_channels, missing = l.channels - k.straight;
  const Source straight{0, k.straight, at.computed + anchor * picture, l.kept_channels, picture, h};
  const Source rebuilt{k.straight, missing, scratch.yc.data(), missing, 3 * w * missing, 3};
  int64_t next = std::max<int64_t>(from - 1, 0);
  for (int64_t y = from; y < to; ++y) {
    time_row(l, k, norm, at, straight, first, last, y);
    if (missing == 0) continue;
    for (; next <= std::min(y + 1, h - 1); ++next) {
      for (int64_t s = 0; s < anchors; ++s) {
        float* row = scratch.yc.data() + (rebuilt.line(l, s, next) - rebuilt.rows);
        channel_row(l, k, at.computed, anchor + s, next, k.zeros.data(), Finish::none(), {row, w, missing}, nullptr, scratch);
      }
    }
    time_row(l, k, norm, at, rebuilt, first, last, y);
  }
}

// Rows [from, to) of one anchor period of one clip.
inline void fill_rows(const Layer& l, const Coefficients& k, const Affine& norm, const Features& at, int64_t first, int64_t last,
                      int64_t from, int64_t to, Scratch& scratch) {
  if (period(l) > 1) return fill_period(l, k, norm, at, first, last, from, to, scratch);
  for (int64_t y = from; y < to; ++y) fill_row(l, k, norm, at, first, y, scratch);
}

}  // namespace
}  // namespace vared
