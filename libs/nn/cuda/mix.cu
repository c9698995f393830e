// Training of a dynamic layer: gradients of what `fill.cu` computes, every option live.
#include "window.cuh"

namespace vared {
namespace {

template <typename T>
__global__ void channels_backward_kernel(FillChannels f, const T* d_out, T* d_computed) {
  const Place p = place_of(f.in_channels / kWide, f.positions_w, f.positions_h, f.frames, f.clips);
  if (!p.inside) return;
  const int64_t area = f.positions_h * f.positions_w, spot = p.h * f.positions_w + p.w;
  const int64_t frame_at = (p.clip * f.frames + p.frame) * area;
  const T* frame = d_out + frame_at * f.out_channels;
  const int64_t from = p.group * kWide;
  Floats direct;  // what reaches each channel straight, over the options that keep it
#pragma unroll
  for (int i = 0; i < kWide; ++i) {
    direct.at[i] = 0.f;
    for (int o = 0; o < f.options; ++o) {
      if (from + i < f.kept[o]) direct.at[i] += f.weights[p.clip * f.weight_columns + f.weight_at[o]];
    }
  }
  Strip sums = {};
#pragma unroll
  for (int i = 0; i < kStrip; ++i) {
    if (p.w + i < f.positions_w) add_product(sums.at[i], load(frame + (spot + i) * f.out_channels + from), direct);
  }
  for (int o = 0; o < f.options; ++o) {
    const float v = f.weights[p.clip * f.weight_columns + f.weight_at[o]];
    const int64_t kept = f.kept[o], missing = f.channels - kept, many = f.multiplier[o];
    if (missing == 0 || from * many >= missing) continue;
    if (many == 1 && kept % kWide == 0) {
      add_windows<true>(sums, v, frame + kept + from, f.out_channels, f.positions_h, f.positions_w, p, f.kernels[o] + from, missing,
                        missing % kWide == 0, missing - from);
      continue;
    }
#pragma unroll
    for (int i = 0; i < kStrip; ++i) {
      if (p.w + i >= f.positions_w) continue;
#pragma unroll
      for (int lane = 0; lane < kWide; ++lane) {
        for (int64_t q = (from + lane) * many; q < (from + lane + 1) * many && q < missing; ++q) {
          const float x = window_of_one<true>(frame + kept + q, f.out_channels, f.positions_h, f.positions_w, p.h, p.w + i,
                                              f.kernels[o] + q, missing);
          sums.at[i].at[lane] = fmaf(v, x, sums.at[i].at[lane]);
        }
      }
    }
  }
  T* to = d_computed + (frame_at + spot) * f.in_channels + from;
#pragma unroll
  for (int i = 0; i < kStrip; ++i) {
    if (p.w + i < f.positions_w) store(to + i * f.in_channels, sums.at[i]);
  }
}

template <typename T>
__global__ void frames_backward_kernel(FillFrames f, const T* d_out, T* d_in) {
  const Place p = place_of(f.row / kWide, f.positions_w, f.positions_h, f.frames, f.clips);
  if (!p.inside) return;
  const int64_t area = f.positions_h * f.positions_w, spot = p.h * f.positions_w + p.w, from = p.group * kWide;
  const T* clip = d_out + p.clip * f.frames * area * f.row + from;
  float direct = 0.f;
  for (int o = 0; o < f.options; ++o) {
    if (p.frame % f.factor[o] == 0) direct += f.weights[p.clip * f.weight_columns + f.weight_at[o]];
  }
  Strip sums = {};
#pragma unroll
  for (int i = 0; i < kStrip; ++i) {
    if (p.w + i < f.positions_w) add_scaled(sums.at[i], direct, load(clip + (p.frame * area + spot + i) * f.row));
  }
  for (int o = 0; o < f.options; ++o) {
    if (p.frame % f.factor[o]) continue;
    const float v = f.weights[p.clip * f.weight_columns + f.weight_at[o]];
    for (int k = 1; k < f.factor[o] && p.frame + k < f.frames; ++k) {
      add_windows<true>(sums, v, clip + (p.frame + k) * area * f.row, f.row, f.positions_h, f.positions_w, p,
                        f.kernels[o] + (k - 1) * 9 * f.channels + from, f.channels, f.channels % kWide == 0, f.channels - from);
    }
  }
  T* to = d_in + ((p.clip * f.frames + p.frame) * area + spot) * f.row + from;
#pragma unroll
  for (int i = 0; i < kStrip; ++i) {
    if (p.w + i < f.positions_w) store(to + i * f.row, sums.at[i]);
  }
}

// Sums of the block's threads that have the same channels, in the order of the threads.
__device__ inline void sum_rows(const Floats& own, const Tile& tile, bool writes, float* to) {
  __shared__ Floats shared[kThreads];
  shared[threadIdx.x] = own;
  __syncthreads();
  if (writes) {
    Floats total = own;
    for (int other = 1; other < tile.deep; ++other) {
      const Floats& more = shared[other * tile.width + threadIdx.x];
#pragma unroll
      for (int i = 0; i < kWide; ++i) total.at[i] += more.at[i];
    }
    store(to, total);
  }
  __syncthreads();
}

// blockIdx: tile of channels, part, clip and phase.
template <typename T>
__global__ void dots_kernel(Dots d, Tile tile, const T* a, const T* b, float* partial) {
  const int lane = threadIdx.x % tile.width, row = threadIdx.x / tile.width;
  const int64_t group = static_cast<int64_t>(blockIdx.x) * tile.width + lane;
  const int64_t clip = blockIdx.z / d.period, phase = blockIdx.z % d.period;
  const bool works = row < tile.deep && group * kWide < d.row;
  Floats sum = {};
  if (works && group * kWide < d.row_a && phase < d.frames) {
    const int64_t frames = (d.frames - phase + d.period - 1) / d.period;
    const uint32_t step = gridDim.y * tile.deep;
    const auto area = static_cast<uint32_t>(d.area), rows = static_cast<uint32_t>(frames * d.area);
    for (uint32_t r = blockIdx.y * tile.deep + row; r < rows; r += step) {
      const int64_t at = (clip * d.frames + phase + r / area * d.period) * d.area + r % area;
      const Floats x = load(a + at * d.row_a + group * kWide), y = load(b + at * d.row + group * kWide);
#pragma unroll
      for (int i = 0; i < kWide; ++i) sum.at[i] = fmaf(x.at[i], y.at[i], sum.at[i]);
    }
  }
  const int64_t part = static_cast<int64_t>(blockIdx.y) * gridDim.z + blockIdx.z;
  sum_rows(sum, tile, works && row == 0, partial + part * d.row + group * kWide);
}

// blockIdx: tile of kernels, part, clip. A thread takes two positions side by side at a time. `kWhole`: eight kernels read and write
// eight channels that lie side by side, on a boundary of eight.
template <bool kWhole, typename T>
__global__ void __launch_bounds__(kThreads, 2) taps_kernel(Taps t, Tile tile, const T* x, const T* dy, float* partial) {
  const int lane = threadIdx.x % tile.width, row = threadIdx.x / tile.width;
  const int64_t q = (static_cast<int64_t>(blockIdx.x) * tile.width + lane) * kWide, clip = blockIdx.z;
  const int64_t area = t.height * t.width;
  const bool works = row < tile.deep && q < t.kernels;
  const auto eight = [&](const T* from) {
    if constexpr (kWhole) {
      return load(from);
    } else {
      Floats out;
#pragma unroll
      for (int i = 0; i < kWide; ++i) out.at[i] = q + i < t.real ? one(from + i) : 0.f;
      return out;
    }
  };
  Floats sums[9] = {};
  if (works) {
    const auto width = static_cast<uint32_t>(t.width), pairs = (width + 1) / 2, height = static_cast<uint32_t>(t.height);
    const uint32_t step = gridDim.y * tile.deep, all = static_cast<uint32_t>(t.count) * height * pairs;
    for (uint32_t r = blockIdx.y * tile.deep + row; r < all; r += step) {
      const int w0 = static_cast<int>(r % pairs) * 2, h0 = static_cast<int>(r / pairs % height);
      const int64_t frame_of = r / pairs / height;
      const bool second = w0 + 1 < static_cast<int>(width);
      const T* at_dy = dy + ((clip * t.frames_dy + t.from_dy + frame_of * t.step_dy) * area + h0 * t.width + w0) * t.row_dy +
                       t.channel_dy + q;
      const Floats first_g = eight(at_dy), second_g = second ? eight(at_dy + t.row_dy) : Floats{};
      const T* frame = x + (clip * t.frames_x + t.from_x + frame_of * t.step_x) * area * t.row_x;
#pragma unroll
      for (int kh = 0; kh < 3; ++kh) {
        const int h = h0 + kh - 1;
        if (h < 0 || h >= static_cast<int>(height)) continue;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int w = w0 + i - 1;
          if (w < 0 || w >= static_cast<int>(width)) continue;
          const T* spot = frame + (static_cast<int64_t>(h) * t.width + w) * t.row_x;
          Floats v = {};
          if (kWhole) {
            v = load(spot + q);
          } else {
#pragma unroll
            for (int c = 0; c < kWide; ++c) {
              if (q + c < t.real) v.at[c] = one(spot + (q + c) / t.multiplier);
            }
          }
          if (i < 3) add_product(sums[kh * 3 + i], v, first_g);
          if (i > 0) add_product(sums[kh * 3 + i - 1], v, second_g);
        }
      }
    }
  }
  const int64_t part = static_cast<int64_t>(blockIdx.y) * gridDim.z + blockIdx.z;
#pragma unroll
  for (int tap = 0; tap < 9; ++tap) {
    sum_rows(sums[tap], tile, works && row == 0, partial + (part * 9 + tap) * t.kernels + q);
  }
}

// Parts of the rows, so that the device is full with `others` blocks beside each.
unsigned parts_of(const Tile& tile, int64_t rows, int64_t others) {
  const int64_t most = (rows + tile.deep * 8 - 1) / (tile.deep * 8), wanted = (kBlocks + others - 1) / others;
  return static_cast<unsigned>(most < 1 ? 1 : most < wanted ? most : wanted);
}

dim3 grid_of(const Dots& d) {
  const Tile tile = tile_of(d.row / kWide);
  const int64_t across = (d.row / kWide + tile.width - 1) / tile.width, deep = d.clips * d.period;
  return dim3(static_cast<unsigned>(across), parts_of(tile, d.frames / d.period * d.area, across * deep),
              static_cast<unsigned>(deep));
}

dim3 grid_of(const Taps& t) {
  const Tile tile = tile_of(t.kernels / kWide);
  const int64_t across = (t.kernels / kWide + tile.width - 1) / tile.width;
  return dim3(static_cast<unsigned>(across), parts_of(tile, t.count * t.height * t.width, across * t.clips),
              static_cast<unsigned>(t.clips));
}

template <typename T>
void taps_as(const Taps& t, const T* x, const T* dy, float* partial, cudaStream_t stream) {
  const Tile tile = tile_of(t.kernels / kWide);
  if (t.multiplier == 1 && t.channel_dy % kWide == 0) {
    taps_kernel<true><<<grid_of(t), kThreads, 0, stream>>>(t, tile, x, dy, partial);
  } else {
    taps_kernel<false><<<grid_of(t), kThreads, 0, stream>>>(t, tile, x, dy, partial);
  }
}

// blockIdx: tile of channels, frame of a clip.
template <typename T>
__global__ void means_kernel(Rows rows, Tile tile, const T* x, float* means) {
  const int lane = threadIdx.x % tile.width, row = threadIdx.x / tile.width;
  const int64_t group = static_cast<int64_t>(blockIdx.x) * tile.width + lane;
  const bool works = row < tile.deep && group * kWide < rows.channels;
  const float even = 1.f / static_cast<float>(rows.rows);
  Floats sum = {};
  if (works) {
    const T* from = x + blockIdx.y * rows.rows * rows.channels + group * kWide;
#pragma unroll 4
    for (int64_t r = row; r < rows.rows; r += tile.deep) add_scaled(sum, even, load(from + r * rows.channels));
  }
  sum_rows(sum, tile, works && row == 0, means + static_cast<int64_t>(blockIdx.y) * rows.channels + group * kWide);
}

template <typename T>
__global__ void means_backward_kernel(Rows rows, Tile tile, const T* dy, const float* d_means, T* dx) {
  const int lane = threadIdx.x % tile.width, row = threadIdx.x / tile.width;
  const int64_t group = static_cast<int64_t>(blockIdx.x) * tile.width + lane;
  if (row >= tile.deep || group * kWide >= rows.channels) return;
  const float even = 1.f / static_cast<float>(rows.rows);
  const Floats mean = load(d_means + static_cast<int64_t>(blockIdx.y) * rows.channels + group * kWide);
  const int64_t from = blockIdx.y * rows.rows * rows.channels + group * kWide;
#pragma unroll 4
  for (int64_t r = row; r < rows.rows; r += tile.deep) {
    Floats g = load(dy + from + r * rows.channels);
    add_scaled(g, even, mean);
    store(dx + from + r * rows.channels, g);
  }
}

dim3 frames_grid(const Rows& rows, int64_t frames) {
  const Tile tile = tile_of(rows.channels / kWide);
  return dim3(static_cast<unsigned>((rows.channels / kWide + tile.width - 1) / tile.width), static_cast<unsigned>(frames));
}

}  // namespace

void means(const Rows& rows, int64_t frames, const void* x, float* out, cudaStream_t stream) {
  const Tile tile = tile_of(rows.channels / kWide);
  using Half = __nv_bfloat16;
  if (rows.element == Element::kFloat) {
    means_kernel<<<frames_grid(rows, frames), kThreads, 0, stream>>>(rows, tile, static_cast<const float*>(x), out);
  } else {
    means_kernel<<<frames_grid(rows, frames), kThreads, 0, stream>>>(rows, tile, static_cast<const Half*>(x), out);
  }
}

void means_backward(const Rows& rows, int64_t frames, const void* dy, const float* d_means, void* dx, cudaStream_t stream) {
  const Tile tile = tile_of(rows.channels / kWide);
  using Half = __nv_bfloat16;
  if (rows.element == Element::kFloat) {
    means_backward_kernel<<<frames_grid(rows, frames), kThreads, 0, stream>>>(rows, tile, static_cast<const float*>(dy), d_means,
                                                                              static_cast<float*>(dx));
  } else {
    means_backward_kernel<<<frames_grid(rows, frames), kThreads, 0, stream>>>(rows, tile, static_cast<const Half*>(dy), d_means,
                                                                              static_cast<Half*>(dx));
  }
}

void fill_channels_backward(const FillChannels& f, const void* d_out, void* d_computed, cudaStream_t stream) {
  const unsigned blocks = strip_blocks(f.in_channels / kWide, f.positions_w, f.positions_h, f.frames, f.clips);
  using Half = __nv_bfloat16;
  if (f.element == Element::kFloat) {
    channels_backward_kernel<<<blocks, kThreads, 0, stream>>>(f, static_cast<const float*>(d_out), static_cast<float*>(d_computed));
  } else {
    channels_backward_kernel<<<blocks, kThreads, 0, stream>>>(f, static_cast<const Half*>(d_out), static_cast<Half*>(d_computed));
  }
}

void fill_frames_backward(const FillFrames& f, const void* d_out, void* d_in, cudaStream_t stream) {
  const unsigned blocks = strip_blocks(f.row / kWide, f.positions_w, f.positions_h, f.frames, f.clips);
  using Half = __nv_bfloat16;
  if (f.element == Element::kFloat) {
    frames_backward_kernel<<<blocks, kThreads, 0, stream>>>(f, static_cast<const float*>(d_out), static_cast<float*>(d_in));
  } else {
    frames_backward_kernel<<<blocks, kThreads, 0, stream>>>(f, static_cast<const Half*>(d_out), static_cast<Half*>(d_in));
  }
}

int64_t dots_parts(const Dots& d) { return grid_of(d).y; }

void dots(const Dots& d, const void* a, const void* b, float* partial, cudaStream_t stream) {
  const Tile tile = tile_of(d.row / kWide);
  using Half = __nv_bfloat16;
  if (d.element == Element::kFloat) {
    dots_kernel<<<grid_of(d), kThreads, 0, stream>>>(d, tile, static_cast<const float*>(a), static_cast<const float*>(b), partial);
  } else {
    dots_kernel<<<grid_of(d), kThreads, 0, stream>>>(d, tile, static_cast<const Half*>(a), static_cast<const Half*>(b), partial);
  }
}

int64_t taps_parts(const Taps& t) { return grid_of(t).y; }

void taps(const Taps& t, const void* x, const void* dy, float* partial, cudaStream_t stream) {
  using Half = __nv_bfloat16;
  if (t.element == Element::kFloat) {
    taps_as(t, static_cast<const float*>(x), static_cast<const float*>(dy), partial, stream);
  } else {
    taps_as(t, static_cast<const Half*>(x), static_cast<const Half*>(dy), partial, stream);
  }
}

}  // namespace vared
