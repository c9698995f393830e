// Rows of channels-last features: positions lie side by side, and in each its channels. What depthwise kernels and the rebuilding
// of channels and frames have in common.
#pragma once

#include <cstdint>

namespace vared {

// One row of a depthwise kernel over the row of features that it reads.
struct KernelRow {
  const float* from;     // the features' row, position 0
  const float* kernels;  // [taps][kernel_step]
};

// What a depthwise kernel reads for one row of its output; rows outside of the clip are left out.
struct Window {
  static constexpr int kMostRows = 9;
  KernelRow row[kMostRows];
  int rows;            // at least one
  int taps, stride;    // along the row: 3 or 1, and 1 or 2
  int64_t padding;     // less than `taps`
  int64_t step;        // floats from position to position
  int64_t width;       // positions of a row
  int64_t channels;
  int64_t kernel_step;  // floats from tap to tap
};

// What is done to a sum before it is stored: y = max(sum + add, floor).
struct Finish {
  const float* add;  // as the output lies, or null
  float floor;

  static Finish none() { return {nullptr, -__builtin_huge_valf()}; }
  // For what lies `offset` floats further.
  Finish at(int64_t offset) const { return {add == nullptr ? nullptr : add + offset, floor}; }
};

// A row of `outputs` positions that lie `step` floats apart.
struct Target {
  float* to;
  int64_t outputs, step;
};

// What the middle tap of row `row` reads, by itself, on the same way: to[x][c] = max(k[c] * it + shift[c] + add, floor), as far
// apart as the target's positions. Of kernels of 3 x 3 with stride 1.
struct Through {
  int row;
  const float* k;
  const float* shift;
  const float* add;  // or null
  float floor;
  float* to;
};

// Each position's sum begins with the same `begin` [channels], or, where that is null, with what the position holds. `through` may
// be null.
void window_row(const Window& window, const float* begin, const Finish& finish, const Target& target, const Through* through);

// to[x][c] = k[c] * from[x][c] + shift[c], finished; positions of `from` lie `from_step` floats apart.
void affine_row(const float* from, int64_t from_step, const float* k, const float* shift, int64_t channels, const Finish& finish,
                const Target& target);

// to[x][m] = from[x][m / multiplier]: what rebuilt channels read, side by side.
void spread_row(const float* from, int64_t from_step, int64_t w, int64_t multiplier, int64_t channels, float* to);

}  // namespace vared
