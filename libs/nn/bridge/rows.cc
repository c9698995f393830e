// Loops over rows. A block of channels is done along the whole row, its kernel kept in registers and its features sliding through
// them, so that nothing is read twice; then the next block.

#include "rows.h"

#include "planes.h"

namespace vared {
namespace {

// So many channels side by side; sixteen are one vector on the widest machines, two or four on others.
template <int kChannels>
struct Lanes {
  typedef float Values __attribute__((vector_size(4 * kChannels)));
  typedef float Stored __attribute__((vector_size(4 * kChannels), aligned(4), may_alias));
};

template <int kChannels>
VARED_INLINE typename Lanes<kChannels>::Values load(const float* from) {
  return *reinterpret_cast<const typename Lanes<kChannels>::Stored*>(from);
}

template <int kChannels>
VARED_INLINE void store(typename Lanes<kChannels>::Values sum, const float* add, float floor, float* to) {
  typedef typename Lanes<kChannels>::Values Values;
  if (add != nullptr) sum += load<kChannels>(add);
  const Values least = floor - Values{};
  *reinterpret_cast<typename Lanes<kChannels>::Stored*>(to) = sum > least ? sum : least;
}

// What is written. Pointers are those of one block of channels.
struct Sums {
  const float* begin;  // of all positions; null: what they hold
  Finish finish;
  Target target;
};

// `kRows` rows of the window from `first` on, in `kChannels` channels from c on.
template <int kTaps, int kStride, int kRows, int kChannels, bool kThrough>
VARED_INLINE void slide(const Window& window, int first, int64_t c, Sums sums, const Through* through) {
  typedef typename Lanes<kChannels>::Values Values;
  // Columns that the next position reads again.
  constexpr int kKept = kTaps > kStride ? kTaps - kStride : 0;
  const int64_t step = window.step, width = window.width;
  const float* from[kRows];
  Values kernel[kRows][kTaps], column[kRows][kTaps];
  // The next column that is read.
  int64_t at = -window.padding;
  const auto read = [&](int tap) __attribute__((always_inline)) {
    const bool inside = static_cast<uint64_t>(at) < static_cast<uint64_t>(width);
#pragma GCC unroll 3
    for (int r = 0; r < kRows; ++r) {
      column[r][tap] = inside ? load<kChannels>(from[r]) : Values{};
      from[r] += step;
    }
    ++at;
  };
#pragma GCC unroll 3
  for (int r = 0; r < kRows; ++r) {
    const KernelRow& row = window.row[first + r];
    from[r] = row.from + at * step + c;
#pragma GCC unroll 3
    for (int tap = 0; tap < kTaps; ++tap) kernel[r][tap] = load<kChannels>(row.kernels + tap * window.kernel_step + c);
  }
#pragma GCC unroll 3
  for (int tap = 0; tap < kKept; ++tap) read(tap);
  Values own_k{}, own_shift{};
  const float* own_add = nullptr;
  float *to = sums.target.to, *own_to = nullptr;
  int own_row = 0;
  if (kThrough) {
    own_k = load<kChannels>(through->k + c), own_shift = load<kChannels>(through->shift + c);
    own_add = through->add == nullptr ? nullptr : through->add + c;
    own_to = through->to + c, own_row = kRows == 2 ? through->row : kRows / 2;
  }
  const bool is_begun = sums.begin == nullptr;
  const Values begin = is_begun ? Values{} : load<kChannels>(sums.begin);
  for (int64_t x = 0; x < sums.target.outputs; ++x) {
#pragma GCC unroll 3
    for (int tap = kKept; tap < kTaps; ++tap) read(tap);
    Values sum = is_begun ? load<kChannels>(to) : begin;
    if (kThrough) {
      store<kChannels>(own_k * column[own_row][kTaps / 2] + own_shift, own_add, through->floor, own_to);
      own_to += sums.target.step;
      if (own_add != nullptr) own_add += sums.target.step;
    }
#pragma GCC unroll 3
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
      for (int tap = 0; tap < kTaps; ++tap) sum += kernel[r][tap] * column[r][tap];
#pragma GCC unroll 3
      for (int tap = 0; tap < kKept; ++tap) column[r][tap] = column[r][tap + kStride];
    }
    if (kStride > kTaps) {
      at += kStride - kTaps;
#pragma GCC unroll 3
      for (int r = 0; r < kRows; ++r) from[r] += (kStride - kTaps) * step;
    }
    store<kChannels>(sum, sums.finish.add, sums.finish.floor, to);
    to += sums.target.step;
    if (sums.finish.add != nullptr) sums.finish.add += sums.target.step;
  }
}

// What a call to `window_row` says.
struct Row {
  const Window& window;
  const float* begin;
  const Finish& finish;
  const Target& target;
  const Through* through;
};

// All rows of the window, three at a time: more kernels than registers would be read again and again.
template <int kTaps, int kStride, int kChannels, bool kThrough>
VARED_INLINE void slide_all(const Row& row, int64_t c) {
  const Window& window = row.window;
  Sums sums{row.begin == nullptr ? nullptr : row.begin + c, {}, row.target};
  sums.target.to += c;
  for (int first = 0; first < window.rows; first += 3) {
    sums.finish = first + 3 < window.rows ? Finish::none() : row.finish.at(c);
    switch (window.rows - first) {
      case 1: slide<kTaps, kStride, 1, kChannels, kThrough>(window, first, c, sums, row.through); break;
      case 2: slide<kTaps, kStride, 2, kChannels, kThrough>(window, first, c, sums, row.through); break;
      default: slide<kTaps, kStride, 3, kChannels, kThrough>(window, first, c, sums, row.through); break;
    }
    sums.begin = nullptr;
  }
}

// Channels that are left behind the last whole block are done with some before them once more, which changes nothing unless sums
// begin with what is there; then it is four and one.
template <int kTaps, int kStride, bool kThrough>
VARED_INLINE void all_channels(const Row& row) {
  const int64_t n = row.window.channels;
  int64_t c = 0;
  for (; c + 16 <= n; c += 16) slide_all<kTaps, kStride, 16, kThrough>(row, c);
  if (row.begin != nullptr && n >= 8) {
    if (n - c > 8 && n >= 16) return slide_all<kTaps, kStride, 16, kThrough>(row, n - 16);
    if (n - c > 8) slide_all<kTaps, kStride, 8, kThrough>(row, c);
    if (n - c > 0) slide_all<kTaps, kStride, 8, kThrough>(row, n - 8);
    return;
  }
  for (; c + 4 <= n; c += 4) slide_all<kTaps, kStride, 4, kThrough>(row, c);
  for (; c < n; ++c) slide_all<kTaps, kStride, 1, kThrough>(row, c);
}

}  // namespace

VARED_WIDE void window_row(const Window& window, const float* begin, const Finish& finish, const Target& target,
                           const Through* through) {
  const Row row{window, begin, finish, target, through};
  if (through != nullptr) return all_channels<3, 1, true>(row);
  if (window.taps == 3) return window.stride == 1 ? all_channels<3, 1, false>(row) : all_channels<3, 2, false>(row);
  return window.stride == 1 ? all_channels<1, 1, false>(row) : all_channels<1, 2, false>(row);
}

void affine_row(const float* from, int64_t from_step, const float* k, const float* shift, int64_t channels, const Finish& finish,
                const Target& target) {
  window_row({{{from, k}}, 1, 1, 1, 0, from_step, target.outputs, channels, channels}, shift, finish, target, nullptr);
}

void spread_row(const float* from, int64_t from_step, int64_t w, int64_t multiplier, int64_t channels, float* to) {
  for (int64_t x = 0; x < w; ++x, from += from_step, to += channels) {
    int64_t m = 0;
    for (int64_t group = 0; m < channels; ++group) {
      for (int64_t k = 0; k < multiplier && m < channels; ++k) to[m++] = from[group];
    }
  }
}

}  // namespace vared
