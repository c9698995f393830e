// Loops over rows of channels-last features: a row is w positions of c channels each, and every inner loop runs over the
// channels of a position, which lie side by side.
#pragma once

#include <cstdint>
#include <cstring>

#include "planes.h"

namespace vared {

// Sixteen channels: one vector on the widest machines, two or four on others.
typedef float Sixteen __attribute__((vector_size(64), aligned(4), may_alias));

VARED_INLINE Sixteen load16(const float* from) { return *reinterpret_cast<const Sixteen*>(from); }
VARED_INLINE void store16(float* to, Sixteen values) { *reinterpret_cast<Sixteen*>(to) = values; }

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

// `kOutputs` neighbouring positions of the output, all taps inside; position 0 reads from `at` on. Channels from c to c + 16.
template <int kTaps, int kStride, int kOutputs>
VARED_INLINE void window_block(const Window& window, int64_t at, const float* begin, int64_t begin_step, int64_t c,
                               const Finish& finish, float* to, int64_t to_step) {
  constexpr int kInputs = (kOutputs - 1) * kStride + kTaps;
  Sixteen sum[kOutputs];
#pragma GCC unroll 8
  for (int o = 0; o < kOutputs; ++o) sum[o] = load16(begin + o * begin_step + c);
  for (int r = 0; r < window.rows; ++r) {
    const float* from = window.row[r].from + at * window.step + c;
    const float* kernels = window.row[r].kernels + c;
    Sixteen input[kInputs];
#pragma GCC unroll 16
    for (int i = 0; i < kInputs; ++i) input[i] = load16(from + i * window.step);
#pragma GCC unroll 8
    for (int tap = 0; tap < kTaps; ++tap) {
      const Sixteen kernel = load16(kernels + tap * window.channels);
#pragma GCC unroll 8
      for (int o = 0; o < kOutputs; ++o) sum[o] += kernel * input[o * kStride + tap];
    }
  }
  const Sixteen floor = finish.floor - Sixteen{};
#pragma GCC unroll 8
  for (int o = 0; o < kOutputs; ++o) {
    if (finish.add != nullptr) sum[o] += load16(finish.add + o * to_step + c);
    store16(to + o * to_step + c, sum[o] > floor ? sum[o] : floor);
  }
}

// One position of the output, one channel after the other and only the taps that are inside.
template <int kTaps>
VARED_INLINE void window_position(const Window& window, int64_t at, const float* begin, int64_t from_channel,
                                  const Finish& finish, float* to) {
  const int64_t n = window.channels;
#pragma omp simd
  for (int64_t c = from_channel; c < n; ++c) to[c] = begin[c];
  for (int r = 0; r < window.rows; ++r) {
    for (int tap = 0; tap < kTaps; ++tap) {
      if (at + tap < 0 || at + tap >= window.width) continue;
      const float *from = window.row[r].from + (at + tap) * window.step, *kernel = window.row[r].kernels + tap * n;
#pragma omp simd
      for (int64_t c = from_channel; c < n; ++c) to[c] += kernel[c] * from[c];
    }
  }
  for (int64_t c = from_channel; c < n; ++c) {
    const float sum = finish.add == nullptr ? to[c] : to[c] + finish.add[c];
    to[c] = sum > finish.floor ? sum : finish.floor;
  }
}

// A row of `outputs` positions that lie `to_step` floats apart. A position's sum begins with `begin`: the same values for all
// (`begin_step` 0) or what is there already (`begin` = `to`, `begin_step` = `to_step`).
template <int kTaps, int kStride>
VARED_INLINE void window_row(const Window& window, int64_t padding, int64_t outputs, const float* begin, int64_t begin_step,
                             const Finish& finish, float* to, int64_t to_step) {
  constexpr int kOutputs = 4;
  const int64_t whole = window.channels / 16 * 16;
  const auto inside = [&](int64_t x) {
    const int64_t at = x * kStride - padding;
    return at >= 0 && at + kTaps <= window.width;
  };
  for (int64_t x = 0; x < outputs;) {
    const int64_t at = x * kStride - padding;
    const float* start = begin + x * begin_step;
    const Finish then = finish.at(x * to_step);
    float* target = to + x * to_step;
    if (whole == 0 || !inside(x)) {
      window_position<kTaps>(window, at, start, 0, then, target);
      x += 1;
      continue;
    }
    const bool four = x + kOutputs <= outputs && inside(x + kOutputs - 1);
    for (int64_t c = 0; c < whole; c += 16) {
      if (four) {
        window_block<kTaps, kStride, kOutputs>(window, at, start, begin_step, c, then, target, to_step);
      } else {
        window_block<kTaps, kStride, 1>(window, at, start, begin_step, c, then, target, to_step);
      }
    }
    const int64_t done = four ? kOutputs : 1;
    for (int64_t o = 0; whole < window.channels && o < done; ++o) {
      window_position<kTaps>(window, at + o * kStride, start + o * begin_step, whole, then.at(o * to_step), target + o * to_step);
    }
    x += done;
  }
}

// to[x][c] = k[c] * from[x][c] + shift[c], finished
VARED_INLINE void affine_row(const float* from, int64_t from_step, int64_t w, const float* __restrict k,
                             const float* __restrict shift, int64_t channels, const Finish& finish, float* to, int64_t to_step) {
  const float floor = finish.floor;
  for (int64_t x = 0; x < w; ++x) {
    const float* __restrict source = from + x * from_step;
    float* __restrict target = to + x * to_step;
    if (finish.add != nullptr) {
      const float* __restrict add = finish.add + x * to_step;
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) {
        const float value = k[c] * source[c] + shift[c] + add[c];
        target[c] = value > floor ? value : floor;
      }
    } else {
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) {
        const float value = k[c] * source[c] + shift[c];
        target[c] = value > floor ? value : floor;
      }
    }
  }
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
