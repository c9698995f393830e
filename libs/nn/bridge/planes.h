// Loops over padded planes. A plane of h x w lies in (h + 2) rows of w + 2 with zeros around, so that a 3x3 kernel is nine
// shifted flat loops and every loop is long, whatever the width.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__)
// One binary for all machines: the loader picks the widest vectors that the machine has, by features, not by maker.
#define VARED_WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VARED_WIDE
#endif
#define VARED_INLINE static inline __attribute__((always_inline))

namespace vared {

struct Plane {
  int64_t h, w;
  int64_t stride() const { return w + 2; }
  // Floats of a padded plane.
  int64_t size() const { return (h + 2) * (w + 2); }
  // Where the first value lies.
  int64_t origin() const { return w + 3; }
  // Flat length from the first value to the last.
  int64_t span() const { return (h - 1) * (w + 2) + w; }
};

// to[x] = op(from[x]) over a row, which is short: whole blocks, the last one laid over the one before it, no scalar rest.
template <int kBlock, typename Op>
VARED_INLINE void map_block(const float* from, float* to, Op op) {
#pragma omp simd
  for (int i = 0; i < kBlock; ++i) to[i] = op(from[i]);
}

template <typename Op>
VARED_INLINE void map_row(int64_t w, const float* __restrict from, float* __restrict to, Op op) {
  if (w >= 16) {
    int64_t x = 0;
    for (; x + 16 <= w; x += 16) map_block<16>(from + x, to + x, op);
    if (x < w) map_block<16>(from + w - 16, to + w - 16, op);
  } else if (w >= 8) {
    map_block<8>(from, to, op);
    if (w > 8) map_block<8>(from + w - 8, to + w - 8, op);
  } else if (w >= 4) {
    map_block<4>(from, to, op);
    if (w > 4) map_block<4>(from + w - 4, to + w - 4, op);
  } else {
    for (int64_t x = 0; x < w; ++x) to[x] = op(from[x]);
  }
}

VARED_INLINE void load(const Plane& p, const float* __restrict from, float* __restrict padded) {
  float* to = padded + p.origin();
  for (int64_t y = 0; y < p.h; ++y, to += p.stride(), from += p.w) map_row(p.w, from, to, [](float v) { return v; });
}

// The border may hold rubbish after a flat loop.
VARED_INLINE void clear_border(const Plane& p, float* padded) {
  float* row = padded + p.origin();
  std::memset(padded, 0, sizeof(float) * p.stride());
  std::memset(padded + p.size() - p.stride(), 0, sizeof(float) * p.stride());
  for (int64_t y = 0; y < p.h; ++y, row += p.stride()) row[-1] = row[p.w] = 0.f;
}

// to[i] = factor * from[i]
VARED_INLINE void scale(int64_t n, float factor, const float* __restrict from, float* __restrict to) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = factor * from[i];
}

VARED_INLINE void scale_in_place(int64_t n, float factor, float* values) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) values[i] *= factor;
}

// to[i] += factor * from[i]
VARED_INLINE void add_scaled(int64_t n, float factor, const float* __restrict from, float* __restrict to) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

// Four sums at once: one would wait for itself.
VARED_INLINE float dot(int64_t n, const float* __restrict a, const float* __restrict b) {
  constexpr int64_t kLanes = 32;
  float sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  float sum = 0.f;
#pragma omp simd reduction(+ : sum)
  for (int64_t rest = i; rest < n; ++rest) sum += a[rest] * b[rest];
#pragma omp simd reduction(+ : sum)
  for (int64_t lane = 0; lane < kLanes; ++lane) sum += sums[lane];
  return sum;
}

// to[i] = factor * g[i], and the sum of g[i] * other[i]: one pass for both.
VARED_INLINE float scale_and_dot(int64_t n, float factor, const float* __restrict g, const float* __restrict other, float* __restrict to) {
  constexpr int64_t kLanes = 32;
  float sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      to[i + lane] = factor * g[i + lane];
      sums[lane] += g[i + lane] * other[i + lane];
    }
  }
  float sum = 0.f;
#pragma omp simd reduction(+ : sum)
  for (int64_t rest = i; rest < n; ++rest) {
    to[rest] = factor * g[rest];
    sum += g[rest] * other[rest];
  }
#pragma omp simd reduction(+ : sum)
  for (int64_t lane = 0; lane < kLanes; ++lane) sum += sums[lane];
  return sum;
}

// to[i] += sum over taps of k * from[i shifted]; both point at first values.
VARED_INLINE void add_stencil(int64_t n, int64_t stride, const float* k, const float* __restrict from, float* __restrict to) {
  const float *a = from - stride - 1, *b = from - 1, *c = from + stride - 1;
  const float k0 = k[0], k1 = k[1], k2 = k[2], k3 = k[3], k4 = k[4], k5 = k[5], k6 = k[6], k7 = k[7], k8 = k[8];
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    to[i] += k0 * a[i] + k1 * a[i + 1] + k2 * a[i + 2] + k3 * b[i] + k4 * b[i + 1] + k5 * b[i + 2] + k6 * c[i] +
             k7 * c[i + 1] + k8 * c[i + 2];
  }
}

// d[tap] += sum over i of g[i] * from[i shifted]: the gradient of a kernel; both point at first values.
VARED_INLINE void add_tap_dots(int64_t n, int64_t stride, const float* __restrict g, const float* __restrict from, float* d) {
  const float *a = from - stride - 1, *b = from - 1, *c = from + stride - 1;
  float d0 = 0, d1 = 0, d2 = 0, d3 = 0, d4 = 0, d5 = 0, d6 = 0, d7 = 0, d8 = 0;
#pragma omp simd reduction(+ : d0, d1, d2, d3, d4, d5, d6, d7, d8)
  for (int64_t i = 0; i < n; ++i) {
    const float v = g[i];
    d0 += v * a[i];
    d1 += v * a[i + 1];
    d2 += v * a[i + 2];
    d3 += v * b[i];
    d4 += v * b[i + 1];
    d5 += v * b[i + 2];
    d6 += v * c[i];
    d7 += v * c[i + 1];
    d8 += v * c[i + 2];
  }
  d[0] += d0, d[1] += d1, d[2] += d2, d[3] += d3, d[4] += d4, d[5] += d5, d[6] += d6, d[7] += d7, d[8] += d8;
}

// kernel * factor, turned by half for the way back.
VARED_INLINE void scaled_kernel(const float* k, float factor, bool back, float* to) {
  for (int tap = 0; tap < 9; ++tap) to[tap] = factor * k[back ? 8 - tap : tap];
}

}  // namespace vared
