// The largest value of each window, channels last. The way back gathers: each input asks the windows that hold it whether it was
// their largest, so that the order of additions is one.
#include "window.cuh"

namespace vared {
namespace {

template <typename T>
__global__ void max_kernel(MaxPool p, const T* x, T* y, uint8_t* taps) {
  const auto groups = static_cast<uint32_t>(p.channels / kWide);
  uint32_t at = blockIdx.x * kThreads + threadIdx.x;
  const int64_t place = at;
  if (place >= groups * p.out[2] * p.out[1] * p.out[0] * p.clips) return;
  const int64_t g = at % groups;
  at /= groups;
  const int64_t w0 = at % p.out[2] * p.stride[2] - p.padding[2];
  at /= p.out[2];
  const int64_t h0 = at % p.out[1] * p.stride[1] - p.padding[1];
  at /= p.out[1];
  const int64_t t0 = at % p.out[0] * p.stride[0] - p.padding[0], n = at / p.out[0];
  Floats best;
  uint8_t tap_of[kWide];
  bool first = true;
  for (int kt = 0; kt < p.kernel[0]; ++kt) {
    const int64_t t = t0 + kt;
    if (t < 0 || t >= p.in[0]) continue;
    for (int kh = 0; kh < p.kernel[1]; ++kh) {
      const int64_t h = h0 + kh;
      if (h < 0 || h >= p.in[1]) continue;
      for (int kw = 0; kw < p.kernel[2]; ++kw) {
        const int64_t w = w0 + kw;
        if (w < 0 || w >= p.in[2]) continue;
        const Floats v = load(x + (((n * p.in[0] + t) * p.in[1] + h) * p.in[2] + w) * p.channels + g * kWide);
        const auto tap = static_cast<uint8_t>((kt * p.kernel[1] + kh) * p.kernel[2] + kw);
#pragma unroll
        for (int i = 0; i < kWide; ++i) {
          if (first || v.at[i] > best.at[i] || isnan(v.at[i])) {
            best.at[i] = v.at[i];
            tap_of[i] = tap;
          }
        }
        first = false;
      }
    }
  }
  store(y + place * kWide, best);
  if (taps) *reinterpret_cast<uint2*>(taps + place * kWide) = *reinterpret_cast<const uint2*>(tap_of);
}

template <typename T>
__global__ void max_backward_kernel(MaxPool p, const T* dy, const uint8_t* taps, T* dx) {
  const auto groups = static_cast<uint32_t>(p.channels / kWide);
  uint32_t at = blockIdx.x * kThreads + threadIdx.x;
  const int64_t place = at;
  if (place >= groups * p.in[2] * p.in[1] * p.in[0] * p.clips) return;
  const int64_t g = at % groups;
  at /= groups;
  const int64_t w = at % p.in[2];
  at /= p.in[2];
  const int64_t h = at % p.in[1];
  at /= p.in[1];
  const int64_t t = at % p.in[0], n = at / p.in[0];
  Floats sum = {};
  for (int kt = 0; kt < p.kernel[0]; ++kt) {
    const int64_t from_t = t + p.padding[0] - kt, ot = from_t / p.stride[0];
    if (from_t < 0 || from_t % p.stride[0] || ot >= p.out[0]) continue;
    for (int kh = 0; kh < p.kernel[1]; ++kh) {
      const int64_t from_h = h + p.padding[1] - kh, oh = from_h / p.stride[1];
      if (from_h < 0 || from_h % p.stride[1] || oh >= p.out[1]) continue;
      for (int kw = 0; kw < p.kernel[2]; ++kw) {
        const int64_t from_w = w + p.padding[2] - kw, ow = from_w / p.stride[2];
        if (from_w < 0 || from_w % p.stride[2] || ow >= p.out[2]) continue;
        const int64_t out = ((((n * p.out[0] + ot) * p.out[1] + oh) * p.out[2] + ow) * groups + g) * kWide;
        const Floats d = load(dy + out);
        const auto tap = static_cast<uint8_t>((kt * p.kernel[1] + kh) * p.kernel[2] + kw);
#pragma unroll
        for (int i = 0; i < kWide; ++i) {
          if (taps[out + i] == tap) sum.at[i] += d.at[i];
        }
      }
    }
  }
  store(dx + place * kWide, sum);
}

}  // namespace

void max_pool(const MaxPool& p, const void* x, void* y, uint8_t* taps, cudaStream_t stream) {
  const unsigned blocks = blocks_for(p.channels / kWide * p.out[0] * p.out[1] * p.out[2] * p.clips);
  using Half = __nv_bfloat16;
  if (p.element == Element::kFloat) {
    max_kernel<<<blocks, kThreads, 0, stream>>>(p, static_cast<const float*>(x), static_cast<float*>(y), taps);
  } else {
    max_kernel<<<blocks, kThreads, 0, stream>>>(p, static_cast<const Half*>(x), static_cast<Half*>(y), taps);
  }
}

void max_pool_backward(const MaxPool& p, const void* dy, const uint8_t* taps, void* dx, cudaStream_t stream) {
  const unsigned blocks = blocks_for(p.channels / kWide * p.in[0] * p.in[1] * p.in[2] * p.clips);
  using Half = __nv_bfloat16;
  if (p.element == Element::kFloat) {
    max_backward_kernel<<<blocks, kThreads, 0, stream>>>(p, static_cast<const float*>(dy), taps, static_cast<float*>(dx));
  } else {
    max_backward_kernel<<<blocks, kThreads, 0, stream>>>(p, static_cast<const Half*>(dy), taps, static_cast<Half*>(dx));
  }
}

}  // namespace vared
