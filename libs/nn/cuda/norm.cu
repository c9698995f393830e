// Batch norm, a shortcut and an activation in one pass over the features; two passes each way in training.
#include "rows.cuh"

namespace vared {
namespace {

template <Activation A>
__device__ inline float activate(float u) {
  if (A == Activation::kRelu) return fmaxf(u, 0.f);
  if (A == Activation::kSwish) return u / (1.f + __expf(-u));
  return u;
}

template <Activation A>
__device__ inline float slope(float u) {
  if (A == Activation::kRelu) return u > 0.f ? 1.f : 0.f;
  if (A == Activation::kSwish) {
    const float s = 1.f / (1.f + __expf(-u));
    return s * (1.f + u * (1.f - s));
  }
  return 1.f;
}

// Two sums of each thread's channels, over the block's rows, in the order of the rows; the first row of threads writes them.
__device__ inline void sum_block(Floats (&sums)[2], const Tile& tile, int64_t group, int64_t channels, float* partial) {
  __shared__ Floats shared[kThreads];
  const int lane = threadIdx.x % tile.width, row = threadIdx.x / tile.width;
  for (int which = 0; which < 2; ++which) {
    shared[threadIdx.x] = sums[which];
    __syncthreads();
    if (row == 0 && group * kWide < channels) {
      Floats total = shared[lane];
      for (int other = 1; other < tile.deep; ++other) {
        const Floats& more = shared[other * tile.width + lane];
#pragma unroll
        for (int i = 0; i < kWide; ++i) total.at[i] += more.at[i];
      }
      store(partial + (static_cast<int64_t>(blockIdx.y) * 2 + which) * channels + group * kWide, total);
    }
    __syncthreads();
  }
}

template <typename T>
__global__ void sums_kernel(Rows rows, Tile tile, const T* x, float* partial) {
  const int lane = threadIdx.x % tile.width, row = threadIdx.x / tile.width;
  const int64_t group = static_cast<int64_t>(blockIdx.x) * tile.width + lane;
  Floats sums[2] = {};
  if (row < tile.deep && group * kWide < rows.channels) {
    const T* from = x + group * kWide;
    const Floats base = load(from);
    const int64_t step = static_cast<int64_t>(gridDim.y) * tile.deep;
#pragma unroll 4
    for (int64_t r = static_cast<int64_t>(blockIdx.y) * tile.deep + row; r < rows.rows; r += step) {
      const Floats value = load(from + r * rows.channels);
#pragma unroll
      for (int i = 0; i < kWide; ++i) {
        const float d = value.at[i] - base.at[i];
        sums[0].at[i] += d;
        sums[1].at[i] += d * d;
      }
    }
  }
  sum_block(sums, tile, group, rows.channels, partial);
}

// One warp a channel: two sums over all parts, in a fixed order.
__device__ inline void sum_parts(const float* partial, int64_t parts, int64_t channels, int64_t c, double (&out)[2]) {
  double sums[2] = {0, 0};
  for (int64_t p = threadIdx.x; p < parts; p += 32) {
    sums[0] += partial[(p * 2) * channels + c];
    sums[1] += partial[(p * 2 + 1) * channels + c];
  }
  for (int which = 0; which < 2; ++which) {
    for (int offset = 16; offset > 0; offset /= 2) sums[which] += __shfl_down_sync(~0u, sums[which], offset);
    out[which] = sums[which];
  }
}

__device__ inline void write_affine(float* affine, int64_t channels, int64_t c, float mean, float inverse, float gamma,
                                    float beta) {
  const float scale = gamma * inverse;
  affine[c] = scale;
  affine[channels + c] = beta - mean * scale;
  affine[2 * channels + c] = mean;
  affine[3 * channels + c] = inverse;
}

template <typename T>
__global__ void finish_kernel(Rows rows, const T* x, NormSums s, float* mean, float* variance, float* affine) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (c >= rows.channels) return;
  double sums[2];
  sum_parts(s.partial, s.parts, rows.channels, c, sums);
  if (threadIdx.x != 0) return;
  if (c >= s.known) return write_affine(affine, rows.channels, c, 0.f, 0.f, 0.f, 0.f);
  const double n = static_cast<double>(s.count), shift = sums[0] / n;
  const double biased = fmax(sums[1] / n - shift * shift, 0.0);
  const double m = shift + one(x + c);
  mean[c] = static_cast<float>(m);
  variance[c] = static_cast<float>(biased * n / (n - 1.0));
  const float inverse = static_cast<float>(1.0 / sqrt(biased + s.eps));
  write_affine(affine, rows.channels, c, static_cast<float>(m), inverse, s.gamma[c], s.beta[c]);
}

__global__ void running_kernel(Rows rows, NormSums s, const float* mean, const float* variance, float* affine) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= rows.channels) return;
  if (c >= s.known) return write_affine(affine, rows.channels, c, 0.f, 0.f, 0.f, 0.f);
  const float inverse = static_cast<float>(1.0 / sqrt(static_cast<double>(variance[c]) + s.eps));
  write_affine(affine, rows.channels, c, mean[c], inverse, s.gamma[c], s.beta[c]);
}

template <typename T, Activation A, bool kShortcut>
__global__ void apply_kernel(Rows rows, Tile tile, const T* x, const T* z, const float* affine, T* y) {
  const int lane = threadIdx.x % tile.width, row = threadIdx.x / tile.width;
  const int64_t group = static_cast<int64_t>(blockIdx.x) * tile.width + lane;
  if (row >= tile.deep || group * kWide >= rows.channels) return;
  const Floats scale = load(affine + group * kWide), shift = load(affine + rows.channels + group * kWide);
  const int64_t step = static_cast<int64_t>(gridDim.y) * tile.deep;
#pragma unroll 4
  for (int64_t r = static_cast<int64_t>(blockIdx.y) * tile.deep + row; r < rows.rows; r += step) {
    const int64_t at = r * rows.channels + group * kWide;
    Floats u = load(x + at);
    Floats other = {};
    if (kShortcut) other = load(z + at);
#pragma unroll
    for (int i = 0; i < kWide; ++i) u.at[i] = activate<A>(fmaf(u.at[i], scale.at[i], shift.at[i]) + other.at[i]);
    store(y + at, u);
  }
}

// dy behind the activation.
template <Activation A, bool kShortcut>
__device__ inline float behind(float dy, float x, float y, float scale, float shift) {
  if (A == Activation::kNone) return dy;
  if (kShortcut) return y > 0.f ? dy : 0.f;  // ReLU: see `launch_backward`
  return dy * slope<A>(fmaf(x, scale, shift));
}

template <typename T, Activation A, bool kShortcut>
__global__ void backward_sums_kernel(Rows rows, Tile tile, const T* x, const T* y, const T* dy, T* dz, const float* affine,
                                     float* partial) {
  const int lane = threadIdx.x % tile.width, row = threadIdx.x / tile.width;
  const int64_t group = static_cast<int64_t>(blockIdx.x) * tile.width + lane;
  Floats sums[2] = {};
  if (row < tile.deep && group * kWide < rows.channels) {
    const float* place = affine + group * kWide;
    const Floats scale = load(place), shift = load(place + rows.channels);
    const Floats mean = load(place + 2 * rows.channels), inverse = load(place + 3 * rows.channels);
    const int64_t step = static_cast<int64_t>(gridDim.y) * tile.deep;
#pragma unroll 2
    for (int64_t r = static_cast<int64_t>(blockIdx.y) * tile.deep + row; r < rows.rows; r += step) {
      const int64_t at = r * rows.channels + group * kWide;
      const Floats vx = load(x + at);
      Floats g = load(dy + at), vy = {};
      if (kShortcut) vy = load(y + at);
#pragma unroll
      for (int i = 0; i < kWide; ++i) {
        g.at[i] = behind<A, kShortcut>(g.at[i], vx.at[i], vy.at[i], scale.at[i], shift.at[i]);
        sums[0].at[i] += g.at[i];
        sums[1].at[i] += g.at[i] * ((vx.at[i] - mean.at[i]) * inverse.at[i]);
      }
      if (kShortcut) store(dz + at, g);
    }
  }
  sum_block(sums, tile, group, rows.channels, partial);
}

__global__ void backward_finish_kernel(Rows rows, NormSums s, float* dgamma, float* dbeta, float* means) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (c >= rows.channels) return;
  double sums[2];
  sum_parts(s.partial, s.parts, rows.channels, c, sums);
  if (threadIdx.x != 0) return;
  means[c] = static_cast<float>(sums[0] / static_cast<double>(s.count));
  means[rows.channels + c] = static_cast<float>(sums[1] / static_cast<double>(s.count));
  if (c >= s.known) return;
  dbeta[c] = static_cast<float>(sums[0]);
  dgamma[c] = static_cast<float>(sums[1]);
}

// With a shortcut `dy` is dz: what is behind the activation already.
template <typename T, Activation A>
__global__ void backward_apply_kernel(Rows rows, Tile tile, const T* x, const T* dy, const float* affine, const float* means,
                                      T* dx) {
  const int lane = threadIdx.x % tile.width, row = threadIdx.x / tile.width;
  const int64_t group = static_cast<int64_t>(blockIdx.x) * tile.width + lane;
  if (row >= tile.deep || group * kWide >= rows.channels) return;
  const float* place = affine + group * kWide;
  const Floats scale = load(place), shift = load(place + rows.channels);
  const Floats mean = load(place + 2 * rows.channels), inverse = load(place + 3 * rows.channels);
  const Floats plain = load(means + group * kWide), along = load(means + rows.channels + group * kWide);
  const int64_t step = static_cast<int64_t>(gridDim.y) * tile.deep;
#pragma unroll 2
  for (int64_t r = static_cast<int64_t>(blockIdx.y) * tile.deep + row; r < rows.rows; r += step) {
    const int64_t at = r * rows.channels + group * kWide;
    const Floats vx = load(x + at);
    Floats g = load(dy + at);
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      const float behind_it = behind<A, false>(g.at[i], vx.at[i], 0.f, scale.at[i], shift.at[i]);
      const float normed = (vx.at[i] - mean.at[i]) * inverse.at[i];
      g.at[i] = scale.at[i] * (behind_it - plain.at[i] - normed * along.at[i]);
    }
    store(dx + at, g);
  }
}

struct Launch {
  Tile tile;
  dim3 grid;
  explicit Launch(const Rows& rows)
      : tile(tile_of(rows.channels / kWide)), grid(grid_of(tile, rows.channels / kWide, rows.rows)) {}
};

template <typename T, Activation A>
void apply_as(const Rows& rows, const void* x, const void* z, const float* affine, void* y, cudaStream_t stream) {
  const Launch l(rows);
  const auto *from = static_cast<const T*>(x), *other = static_cast<const T*>(z);
  if (z) {
    apply_kernel<T, A, true><<<l.grid, kThreads, 0, stream>>>(rows, l.tile, from, other, affine, static_cast<T*>(y));
  } else {
    apply_kernel<T, A, false><<<l.grid, kThreads, 0, stream>>>(rows, l.tile, from, other, affine, static_cast<T*>(y));
  }
}

template <typename T>
void apply_any(const Rows& rows, const void* x, const void* z, const float* affine, Activation a, void* y,
               cudaStream_t stream) {
  switch (a) {
    case Activation::kNone: return apply_as<T, Activation::kNone>(rows, x, z, affine, y, stream);
    case Activation::kRelu: return apply_as<T, Activation::kRelu>(rows, x, z, affine, y, stream);
    case Activation::kSwish: return apply_as<T, Activation::kSwish>(rows, x, z, affine, y, stream);
  }
}

template <typename T, Activation A, bool kShortcut>
void backward_sums_as(const Rows& rows, const NormBackward& b, float* partial, cudaStream_t stream) {
  const Launch l(rows);
  backward_sums_kernel<T, A, kShortcut><<<l.grid, kThreads, 0, stream>>>(
      rows, l.tile, static_cast<const T*>(b.x), static_cast<const T*>(b.y), static_cast<const T*>(b.dy),
      static_cast<T*>(b.dz), b.affine, partial);
}

// A shortcut comes with ReLU or with nothing.
template <typename T>
void backward_sums_any(const Rows& rows, const NormBackward& b, float* partial, cudaStream_t stream) {
  switch (b.activation) {
    case Activation::kNone: return backward_sums_as<T, Activation::kNone, false>(rows, b, partial, stream);
    case Activation::kSwish: return backward_sums_as<T, Activation::kSwish, false>(rows, b, partial, stream);
    case Activation::kRelu:
      return b.dz ? backward_sums_as<T, Activation::kRelu, true>(rows, b, partial, stream)
                  : backward_sums_as<T, Activation::kRelu, false>(rows, b, partial, stream);
  }
}

template <typename T, Activation A>
void backward_apply_as(const Rows& rows, const NormBackward& b, const float* means, void* dx, cudaStream_t stream) {
  const Launch l(rows);
  const void* dy = b.dz ? b.dz : b.dy;
  backward_apply_kernel<T, A><<<l.grid, kThreads, 0, stream>>>(rows, l.tile, static_cast<const T*>(b.x),
                                                                static_cast<const T*>(dy), b.affine, means,
                                                                static_cast<T*>(dx));
}

template <typename T>
void backward_apply_any(const Rows& rows, const NormBackward& b, const float* means, void* dx, cudaStream_t stream) {
  if (b.dz || b.activation == Activation::kNone) return backward_apply_as<T, Activation::kNone>(rows, b, means, dx, stream);
  if (b.activation == Activation::kRelu) return backward_apply_as<T, Activation::kRelu>(rows, b, means, dx, stream);
  backward_apply_as<T, Activation::kSwish>(rows, b, means, dx, stream);
}

const dim3 kWarpAChannel(32, 8);
unsigned channel_blocks(const Rows& rows) { return static_cast<unsigned>((rows.channels + 7) / 8); }

}  // namespace

int64_t norm_parts(const Rows& rows) { return Launch(rows).grid.y; }

void norm_sums(const Rows& rows, const void* x, float* partial, cudaStream_t stream) {
  const Launch l(rows);
  if (rows.element == Element::kFloat) {
    sums_kernel<<<l.grid, kThreads, 0, stream>>>(rows, l.tile, static_cast<const float*>(x), partial);
  } else {
    sums_kernel<<<l.grid, kThreads, 0, stream>>>(rows, l.tile, static_cast<const __nv_bfloat16*>(x), partial);
  }
}

void norm_finish(const Rows& rows, const void* x, const NormSums& sums, float* mean, float* variance, float* affine,
                 cudaStream_t stream) {
  if (rows.element == Element::kFloat) {
    finish_kernel<<<channel_blocks(rows), kWarpAChannel, 0, stream>>>(rows, static_cast<const float*>(x), sums, mean,
                                                                       variance, affine);
  } else {
    finish_kernel<<<channel_blocks(rows), kWarpAChannel, 0, stream>>>(rows, static_cast<const __nv_bfloat16*>(x), sums,
                                                                       mean, variance, affine);
  }
}

void norm_running(const Rows& rows, const NormSums& sums, const float* mean, const float* variance, float* affine,
                  cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>((rows.channels + kThreads - 1) / kThreads);
  running_kernel<<<blocks, kThreads, 0, stream>>>(rows, sums, mean, variance, affine);
}

void norm_apply(const Rows& rows, const void* x, const void* z, const float* affine, Activation activation, void* y,
                cudaStream_t stream) {
  if (rows.element == Element::kFloat) return apply_any<float>(rows, x, z, affine, activation, y, stream);
  apply_any<__nv_bfloat16>(rows, x, z, affine, activation, y, stream);
}

void norm_backward_sums(const Rows& rows, const NormBackward& b, float* partial, cudaStream_t stream) {
  if (rows.element == Element::kFloat) return backward_sums_any<float>(rows, b, partial, stream);
  backward_sums_any<__nv_bfloat16>(rows, b, partial, stream);
}

void norm_backward_finish(const Rows& rows, const NormSums& sums, float* dgamma, float* dbeta, float* means,
                          cudaStream_t stream) {
  backward_finish_kernel<<<channel_blocks(rows), kWarpAChannel, 0, stream>>>(rows, sums, dgamma, dbeta, means);
}

void norm_backward_apply(const Rows& rows, const NormBackward& b, const float* means, void* dx, cudaStream_t stream) {
  if (rows.element == Element::kFloat) return backward_apply_any<float>(rows, b, means, dx, stream);
  backward_apply_any<__nv_bfloat16>(rows, b, means, dx, stream);
}

}  // namespace vared
