// Depthwise convolutions of kernel (1 or 3, 3, 3), channels last: each thread has eight channels, so every load is 16 bytes or
// more and a warp's loads lie side by side.
#include "window.cuh"

namespace vared {
namespace {

// Thread: eight channels of a strip of outputs. `kFlipped` reads the kernel backwards: the gradient of the input at stride 1.
template <typename T, int kStride, bool kFlipped>
__global__ void forward_kernel(Depthwise d, const T* x, const float* weight, T* y) {
  const Place p = place_of(d.channels / kWide, d.out_width, d.out_height, d.out_frames, d.clips);
  if (!p.inside) return;
  const int64_t g = p.group, w0 = p.w, h0 = p.h, t0 = p.frame, n = p.clip;

  constexpr int kWindow = (kStrip - 1) * kStride + 3;
  Floats sums[kStrip] = {};
  const int taps = d.kernel_frames * 9;
  for (int kt = 0; kt < d.kernel_frames; ++kt) {
    const int64_t t = t0 * d.stride_frames + kt - d.kernel_frames / 2;
    if (t < 0 || t >= d.frames) continue;
    for (int kh = 0; kh < 3; ++kh) {
      const int64_t h = h0 * kStride + kh - 1;
      if (h < 0 || h >= d.height) continue;
      const T* row = x + (((n * d.frames + t) * d.height + h) * d.width) * d.row + g * kWide;
      Floats window[kWindow];
#pragma unroll
      for (int i = 0; i < kWindow; ++i) {
        const int64_t w = w0 * kStride + i - 1;
        window[i] = w >= 0 && w < d.width ? load(row + w * d.row) : Floats{};
      }
#pragma unroll
      for (int kw = 0; kw < 3; ++kw) {
        const int tap = (kt * 3 + kh) * 3 + kw;
        const Floats k = load(weight + (kFlipped ? taps - 1 - tap : tap) * d.channels + g * kWide);
#pragma unroll
        for (int i = 0; i < kStrip; ++i) add_product(sums[i], window[i * kStride + kw], k);
      }
    }
  }
  T* to = y + (((n * d.out_frames + t0) * d.out_height + h0) * d.out_width) * d.channels + g * kWide;
#pragma unroll
  for (int i = 0; i < kStrip; ++i) {
    if (w0 + i < d.out_width) store(to + (w0 + i) * d.channels, sums[i]);
  }
}

// The gradient of one input position at any stride: from the outputs whose windows hold it.
template <typename T>
__global__ void backward_input_kernel(Depthwise d, const T* dy, const float* weight, T* dx) {
  const auto groups = static_cast<uint32_t>(d.channels / kWide), columns = static_cast<uint32_t>(d.width),
             lines = static_cast<uint32_t>(d.height), deep = static_cast<uint32_t>(d.frames);
  uint32_t at = blockIdx.x * kThreads + threadIdx.x;
  const int64_t place = at;
  const int g = static_cast<int>(at % groups);
  at /= groups;
  const int w = static_cast<int>(at % columns);
  at /= columns;
  const int h = static_cast<int>(at % lines);
  at /= lines;
  const int t = static_cast<int>(at % deep);
  const int64_t n = at / deep;
  if (n >= d.clips) return;
  Floats sum = {};
  for (int kt = 0; kt < d.kernel_frames; ++kt) {
    const int from_t = t + d.kernel_frames / 2 - kt, ot = from_t / d.stride_frames;
    if (from_t < 0 || from_t % d.stride_frames || ot >= d.out_frames) continue;
    for (int kh = 0; kh < 3; ++kh) {
      const int from_h = h + 1 - kh, oh = from_h / d.stride;
      if (from_h < 0 || from_h % d.stride || oh >= d.out_height) continue;
      for (int kw = 0; kw < 3; ++kw) {
        const int from_w = w + 1 - kw, ow = from_w / d.stride;
        if (from_w < 0 || from_w % d.stride || ow >= d.out_width) continue;
        const int64_t out = ((n * d.out_frames + ot) * d.out_height + oh) * d.out_width + ow;
        const Floats k = load(weight + ((kt * 3 + kh) * 3 + kw) * d.channels + g * kWide);
        add_product(sum, load(dy + out * d.channels + g * kWide), k);
      }
    }
  }
  store(dx + place * kWide, sum);
}

// Block: a tile of channels, some of the outputs, and the nine taps of one frame of the kernel (blockIdx.z). Sums in the order of
// the outputs, then over the block's threads.
template <typename T>
__global__ void backward_weight_kernel(Depthwise d, Tile tile, const T* x, const T* dy, float* partial) {
  const int lane = threadIdx.x % tile.width, row = threadIdx.x / tile.width, kt = blockIdx.z;
  const int64_t group = static_cast<int64_t>(blockIdx.x) * tile.width + lane;
  const int64_t outputs = d.clips * d.out_frames * d.out_height * d.out_width;
  const bool works = row < tile.deep && group * kWide < d.channels;
  Floats sums[9] = {};
  if (works) {
    const uint32_t step = gridDim.y * tile.deep, columns = static_cast<uint32_t>(d.out_width),
                   lines = static_cast<uint32_t>(d.out_height), deep = static_cast<uint32_t>(d.out_frames);
    for (uint32_t out = blockIdx.y * tile.deep + row; out < outputs; out += step) {
      uint32_t rest = out;
      const int ow = static_cast<int>(rest % columns);
      rest /= columns;
      const int oh = static_cast<int>(rest % lines);
      rest /= lines;
      const int t = static_cast<int>(rest % deep) * d.stride_frames + kt - d.kernel_frames / 2;
      const int64_t n = rest / deep;
      if (t < 0 || t >= d.frames) continue;
      const Floats g = load(dy + static_cast<int64_t>(out) * d.channels + group * kWide);
      const T* frame = x + (n * d.frames + t) * d.height * d.width * d.row + group * kWide;
#pragma unroll
      for (int kh = 0; kh < 3; ++kh) {
        const int h = oh * d.stride + kh - 1;
        if (h < 0 || h >= d.height) continue;
#pragma unroll
        for (int kw = 0; kw < 3; ++kw) {
          const int w = ow * d.stride + kw - 1;
          if (w < 0 || w >= d.width) continue;
          add_product(sums[kh * 3 + kw], load(frame + (h * d.width + w) * d.row), g);
        }
      }
    }
  }
  __shared__ Floats shared[kThreads];
#pragma unroll
  for (int tap = 0; tap < 9; ++tap) {
    shared[threadIdx.x] = sums[tap];
    __syncthreads();
    if (works && row == 0) {
      Floats total = shared[lane];
      for (int other = 1; other < tile.deep; ++other) {
        const Floats& more = shared[other * tile.width + lane];
#pragma unroll
        for (int i = 0; i < kWide; ++i) total.at[i] += more.at[i];
      }
      const int64_t taps = d.kernel_frames * 9;
      store(partial + (static_cast<int64_t>(blockIdx.y) * taps + kt * 9 + tap) * d.channels + group * kWide, total);
    }
    __syncthreads();
  }
}

__global__ void add_parts_kernel(const float* partial, int64_t parts, int64_t count, float* sum) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= count) return;
  double total = 0;
  for (int64_t part = 0; part < parts; ++part) total += partial[part * count + at];
  sum[at] = static_cast<float>(total);
}

template <typename T, bool kFlipped>
void forward_as(const Depthwise& d, const T* x, const float* weight, T* y, cudaStream_t stream) {
  const unsigned blocks = strip_blocks(d.channels / kWide, d.out_width, d.out_height, d.out_frames, d.clips);
  if (d.stride == 1) {
    forward_kernel<T, 1, kFlipped><<<blocks, kThreads, 0, stream>>>(d, x, weight, y);
  } else {
    forward_kernel<T, 2, kFlipped><<<blocks, kThreads, 0, stream>>>(d, x, weight, y);
  }
}

// At stride 1 the gradient of the input is a convolution with the flipped kernel.
template <typename T>
void backward_input_as(const Depthwise& d, const T* dy, const float* weight, T* dx, cudaStream_t stream) {
  if (d.stride == 1 && d.stride_frames == 1) {
    Depthwise flipped = d;
    flipped.row = d.channels;
    return forward_as<T, true>(flipped, dy, weight, dx, stream);
  }
  const unsigned blocks = blocks_for(d.channels / kWide * d.width * d.height * d.frames * d.clips);
  backward_input_kernel<<<blocks, kThreads, 0, stream>>>(d, dy, weight, dx);
}

dim3 weight_grid(const Depthwise& d) {
  const int64_t groups = d.channels / kWide;
  dim3 grid = grid_of(tile_of(groups), groups, d.clips * d.out_frames * d.out_height * d.out_width);
  grid.y = grid.y > 128 ? 128 : grid.y;
  grid.z = static_cast<unsigned>(d.kernel_frames);
  return grid;
}

template <typename T>
void backward_weight_as(const Depthwise& d, const void* x, const void* dy, float* partial, cudaStream_t stream) {
  backward_weight_kernel<<<weight_grid(d), kThreads, 0, stream>>>(d, tile_of(d.channels / kWide), static_cast<const T*>(x),
                                                                   static_cast<const T*>(dy), partial);
}

}  // namespace

void depthwise_forward(const Depthwise& d, const void* x, const float* weight, void* y, cudaStream_t stream) {
  using Half = __nv_bfloat16;
  if (d.element == Element::kFloat) {
    return forward_as<float, false>(d, static_cast<const float*>(x), weight, static_cast<float*>(y), stream);
  }
  forward_as<Half, false>(d, static_cast<const Half*>(x), weight, static_cast<Half*>(y), stream);
}

void depthwise_backward_input(const Depthwise& d, const void* dy, const float* weight, void* dx, cudaStream_t stream) {
  using Half = __nv_bfloat16;
  if (d.element == Element::kFloat) {
    return backward_input_as(d, static_cast<const float*>(dy), weight, static_cast<float*>(dx), stream);
  }
  backward_input_as(d, static_cast<const Half*>(dy), weight, static_cast<Half*>(dx), stream);
}

int64_t depthwise_parts(const Depthwise& d) { return weight_grid(d).y; }

void depthwise_backward_weight(const Depthwise& d, const void* x, const void* dy, float* partial, cudaStream_t stream) {
  if (d.element == Element::kFloat) return backward_weight_as<float>(d, x, dy, partial, stream);
  backward_weight_as<__nv_bfloat16>(d, x, dy, partial, stream);
}

void add_parts(const float* partial, int64_t parts, int64_t count, float* sum, cudaStream_t stream) {
  add_parts_kernel<<<blocks_for(count), kThreads, 0, stream>>>(partial, parts, count, sum);
}

}  // namespace vared
