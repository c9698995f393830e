// Loops over rows of channels-last features: a row is w positions of c channels each, and every inner loop runs over the
// channels of a position, which lie side by side.
#pragma once

#include <cstdint>

#include "planes.h"

namespace vared {

// So many channels side by side; sixteen are one vector on the widest machines, two or four on others.
template <int kChannels>
struct Lanes {
  typedef float Values __attribute__((vector_size(4 * kChannels), aligned(4), may_alias));
};

template <int kChannels>
VARED_INLINE typename Lanes<kChannels>::Values load(const float* from) {
  return *reinterpret_cast<const typename Lanes<kChannels>::Values*>(from);
}

// One row of a kernel over the row of features that it reads.
struct KernelRow {
  const float* from;     // the features' row, position 0
  const float* kernels;  // [taps][channels]
};

// What a depthwise kernel reads for one row of its output: up to 3 x 3 (or 5) rows; those outside of the clip are left out.
struct Window {
  static constexpr int kMostRows = 9;
  KernelRow row[kMostRows];
  int rows;
  int64_t step;      // floats from position to position
  int64_t width;     // positions of a row
  int64_t channels;
};

// What is done to a sum before it is stored: y = max(sum + add, floor).
struct Finish {
  const float* add;  // as the output lies, or null
  float floor;

  static Finish none() { return {nullptr, -__builtin_huge_valf()}; }
  // For what lies `offset` floats further.
  Finish at(int64_t offset) const { return {add == nullptr ? nullptr : add + offset, floor}; }
};

// `kOutputs` neighbouring positions of the output, all taps inside; position 0 reads from `at` on. `kChannels` from c on.
template <int kTaps, int kStride, int kOutputs, int kChannels>
VARED_INLINE void window_block(const Window& window, int64_t at, const float* begin, int64_t begin_step, int64_t c,
                               const Finish& finish, float* to, int64_t to_step) {
  typedef typename Lanes<kChannels>::Values Values;
  constexpr int kInputs = (kOutputs - 1) * kStride + kTaps;
  Values sum[kOutputs];
#pragma GCC unroll 8
  for (int o = 0; o < kOutputs; ++o) sum[o] = load<kChannels>(begin + o * begin_step + c);
  for (int r = 0; r < window.rows; ++r) {
    const float* from = window.row[r].from + at * window.step + c;
    const float* kernels = window.row[r].kernels + c;
    Values input[kInputs];
#pragma GCC unroll 16
    for (int i = 0; i < kInputs; ++i) input[i] = load<kChannels>(from + i * window.step);
#pragma GCC unroll 8
    for (int tap = 0; tap < kTaps; ++tap) {
      const Values kernel = load<kChannels>(kernels + tap * window.channels);
#pragma GCC unroll 8
      for (int o = 0; o < kOutputs; ++o) sum[o] += kernel * input[o * kStride + tap];
    }
  }
  const Values floor = finish.floor - Values{};
#pragma GCC unroll 8
  for (int o = 0; o < kOutputs; ++o) {
    if (finish.add != nullptr) sum[o] += load<kChannels>(finish.add + o * to_step + c);
    *reinterpret_cast<Values*>(to + o * to_step + c) = sum[o] > floor ? sum[o] : floor;
  }
}

// The same positions in all channels: sixteen at once. What is left goes back over channels that are done, which changes nothing
// unless sums begin with what is there; then it is eight, four and one.
template <int kTaps, int kStride, int kOutputs>
VARED_INLINE void window_positions(const Window& window, int64_t at, const float* begin, int64_t begin_step, const Finish& finish,
                                   float* to, int64_t to_step) {
  const int64_t n = window.channels;
  int64_t c = 0;
  for (; c + 16 <= n; c += 16) window_block<kTaps, kStride, kOutputs, 16>(window, at, begin, begin_step, c, finish, to, to_step);
  if (c < n && n >= 16 && begin_step == 0) {
    window_block<kTaps, kStride, kOutputs, 16>(window, at, begin, begin_step, n - 16, finish, to, to_step);
    return;
  }
  if (c + 8 <= n) {
    window_block<kTaps, kStride, kOutputs, 8>(window, at, begin, begin_step, c, finish, to, to_step);
    c += 8;
  }
  if (c + 4 <= n) {
    window_block<kTaps, kStride, kOutputs, 4>(window, at, begin, begin_step, c, finish, to, to_step);
    c += 4;
  }
  for (; c < n; ++c) window_block<kTaps, kStride, kOutputs, 1>(window, at, begin, begin_step, c, finish, to, to_step);
}

// One position at an end of the row: only the taps that are inside, which are some of the middle ones.
template <int kTaps>
VARED_INLINE void window_end(const Window& window, int64_t at, const float* begin, const Finish& finish, float* to) {
  const int64_t first = at < 0 ? -at : 0, last = at + kTaps > window.width ? window.width - at : kTaps;
  Window inside = window;
  for (int r = 0; r < inside.rows; ++r) inside.row[r].kernels += first * window.channels;
  // In place the steps don't matter for one position, only that there is one.
  const int64_t begin_step = begin == to ? 1 : 0;
  switch (last - first) {
    case 1: return window_positions<1, 1, 1>(inside, at + first, begin, begin_step, finish, to, 0);
    case 2: return window_positions<2, 1, 1>(inside, at + first, begin, begin_step, finish, to, 0);
    default: return window_positions<kTaps, 1, 1>(inside, at + first, begin, begin_step, finish, to, 0);
  }
}

// A row of `outputs` positions that lie `to_step` floats apart. A position's sum begins with `begin`: the same values for all
// (`begin_step` 0) or what is there already (`begin` = `to`, `begin_step` = `to_step`).
template <int kTaps, int kStride>
VARED_INLINE void window_row(const Window& window, int64_t padding, int64_t outputs, const float* begin, int64_t begin_step,
                             const Finish& finish, float* to, int64_t to_step) {
  constexpr int kOutputs = 4;
  const auto inside = [&](int64_t x) {
    const int64_t at = x * kStride - padding;
    return at >= 0 && at + kTaps <= window.width;
  };
  for (int64_t x = 0; x < outputs;) {
    const int64_t at = x * kStride - padding;
    const float* start = begin + x * begin_step;
    const Finish then = finish.at(x * to_step);
    float* target = to + x * to_step;
    if (!inside(x)) {
      window_end<kTaps>(window, at, start, then, target);
      x += 1;
    } else if (x + kOutputs <= outputs && inside(x + kOutputs - 1)) {
      window_positions<kTaps, kStride, kOutputs>(window, at, start, begin_step, then, target, to_step);
      x += kOutputs;
    } else {
      window_positions<kTaps, kStride, 1>(window, at, start, begin_step, then, target, to_step);
      x += 1;
    }
  }
}

// to[x][c] = k[c] * from[x][c] + shift[c], finished: a window of one tap.
VARED_INLINE void affine_row(const float* from, int64_t from_step, int64_t w, const float* k, const float* shift,
                             int64_t channels, const Finish& finish, float* to, int64_t to_step) {
  const Window window{{{from, k}}, 1, from_step, w, channels};
  window_row<1, 1>(window, 0, w, shift, 0, finish, to, to_step);
}

// to[x][m] = from[x][m / multiplier]: what rebuilt channels read, side by side.
VARED_INLINE void spread_row(const float* from, int64_t from_step, int64_t w, int64_t multiplier, int64_t channels, float* to) {
  for (int64_t x = 0; x < w; ++x, from += from_step, to += channels) {
    int64_t m = 0;
    for (int64_t group = 0; m < channels; ++group) {
      for (int64_t k = 0; k < multiplier && m < channels; ++k) to[m++] = from[group];
    }
  }
}

}  // namespace vared
