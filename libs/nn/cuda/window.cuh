// Windows of 3 x 3 over a picture, channels last: what rebuilds channels and frames, and its gradients.
//
// A thread makes eight channels of a strip of positions, so that a kernel's weights are read once for all of them and neighbours
// share what they read. Places are counted in 32 bits: division by 64 bits would cost more than the sums.
#pragma once
#include "rows.cuh"

namespace vared {
namespace {

constexpr int kStrip = 2;

// The place of a thread: eight channels, `kStrip` positions of one row of one frame.
struct Place {
  int group, w, h, frame, clip;
  bool inside;
};

inline __host__ __device__ int strips_of(int64_t width) { return static_cast<int>((width + kStrip - 1) / kStrip); }

__device__ inline Place place_of(int64_t groups, int64_t w, int64_t h, int64_t frames, int64_t clips) {
  const auto g = static_cast<uint32_t>(groups), strips = static_cast<uint32_t>(strips_of(w)), rows = static_cast<uint32_t>(h),
             deep = static_cast<uint32_t>(frames);
  uint32_t at = blockIdx.x * kThreads + threadIdx.x;
  Place p;
  p.group = static_cast<int>(at % g);
  at /= g;
  p.w = static_cast<int>(at % strips) * kStrip;
  at /= strips;
  p.h = static_cast<int>(at % rows);
  at /= rows;
  p.frame = static_cast<int>(at % deep);
  p.clip = static_cast<int>(at / deep);
  p.inside = p.clip < clips;
  return p;
}

// Blocks for a thread each at so many places.
inline unsigned blocks_for(int64_t threads) { return static_cast<unsigned>((threads + kThreads - 1) / kThreads); }

inline unsigned strip_blocks(int64_t groups, int64_t w, int64_t h, int64_t frames, int64_t clips) {
  return blocks_for(groups * strips_of(w) * h * frames * clips);
}

struct Strip {
  Floats at[kStrip];
};

__device__ inline void add_scaled(Floats& sum, float v, const Floats& x) {
#pragma unroll
  for (int i = 0; i < kWide; ++i) sum.at[i] = fmaf(v, x.at[i], sum.at[i]);
}

__device__ inline void add_product(Floats& sum, const Floats& a, const Floats& b) {
#pragma unroll
  for (int i = 0; i < kWide; ++i) sum.at[i] = fmaf(a.at[i], b.at[i], sum.at[i]);
}

// Eight weights of a kernel's tap. Those that are not `aligned` are read one by one, as many as are `real`.
__device__ inline Floats weights_at(const float* k, bool aligned, int64_t real) {
  if (aligned) return load(k);
  Floats out;
#pragma unroll
  for (int i = 0; i < kWide; ++i) out.at[i] = i < real ? k[i] : 0.f;
  return out;
}

// sums += v · Σ over the windows of kernel · features, for eight channels of a strip; `kFlipped` reads the kernel backwards, as
// its gradient does. `frame` is at the place's channels.
template <bool kFlipped, typename T>
__device__ inline void add_windows(Strip& sums, float v, const T* frame, int64_t row, int64_t height, int64_t width, const Place& p,
                                   const float* kernels, int64_t kernel_row, bool aligned, int64_t real) {
#pragma unroll
  for (int kh = 0; kh < 3; ++kh) {
    const int h = p.h + kh - 1;
    if (h < 0 || h >= height) continue;
    const T* line = frame + (static_cast<int64_t>(h) * width + p.w) * row;
    Floats window[kStrip + 2];
#pragma unroll
    for (int i = 0; i < kStrip + 2; ++i) {
      const int w = p.w + i - 1;
      window[i] = w >= 0 && w < width ? load(line + (i - 1) * row) : Floats{};
    }
#pragma unroll
    for (int kw = 0; kw < 3; ++kw) {
      Floats k = weights_at(kernels + (kFlipped ? 8 - kh * 3 - kw : kh * 3 + kw) * kernel_row, aligned, real);
#pragma unroll
      for (int i = 0; i < kWide; ++i) k.at[i] *= v;
#pragma unroll
      for (int i = 0; i < kStrip; ++i) add_product(sums.at[i], window[i + kw], k);
    }
  }
}

// The window of one channel at one position.
template <bool kFlipped, typename T>
__device__ inline float window_of_one(const T* frame, int64_t row, int64_t height, int64_t width, int h0, int w0,
                                      const float* kernels, int64_t kernel_row) {
  float sum = 0.f;
#pragma unroll
  for (int kh = 0; kh < 3; ++kh) {
    const int h = h0 + kh - 1;
    if (h < 0 || h >= height) continue;
#pragma unroll
    for (int kw = 0; kw < 3; ++kw) {
      const int w = w0 + kw - 1;
      if (w < 0 || w >= width) continue;
      const int tap = kFlipped ? 8 - kh * 3 - kw : kh * 3 + kw;
      sum = fmaf(one(frame + (h * width + w) * row), kernels[tap * kernel_row], sum);
    }
  }
  return sum;
}

}  // namespace
}  // namespace vared
