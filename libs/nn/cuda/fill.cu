// What a dynamic layer did not compute, rebuilt in inference: missing channels from those that are there, then missing frames
// from those before them, each clip by its own weights. Whichever comes last also normalises, adds the shortcut and activates.
#include "window.cuh"

namespace vared {
namespace {

__device__ inline void finish(Floats& u, const Epilogue& e, int64_t row_length, int64_t group, const Floats& z) {
  Floats scale, shift;
  if (e.affine) {
    scale = load(e.affine + group * kWide);
    shift = load(e.affine + row_length + group * kWide);
  }
#pragma unroll
  for (int i = 0; i < kWide; ++i) {
    float v = e.affine ? fmaf(u.at[i], scale.at[i], shift.at[i]) : u.at[i];
    v += z.at[i];
    if (e.activation == Activation::kRelu) v = fmaxf(v, 0.f);
    if (e.activation == Activation::kSwish) v = v / (1.f + __expf(-v));
    u.at[i] = v;
  }
}

// What comes last, for a strip.
template <typename T>
__device__ inline void finish_strip(Strip& sums, const Epilogue& e, int64_t row, int64_t width, const Place& p, T* to, const T* z) {
#pragma unroll
  for (int i = 0; i < kStrip; ++i) {
    if (p.w + i >= width) break;
    Floats other = {};
    if (z) other = load(z + i * row);
    finish(sums.at[i], e, row, p.group, other);
    store(to + i * row, sums.at[i]);
  }
}

template <typename T>
__global__ void channels_kernel(FillChannels f, const T* computed, Epilogue e, T* out) {
  const Place p = place_of(f.out_channels / kWide, f.positions_w, f.positions_h, f.frames, f.clips);
  if (!p.inside) return;
  const int64_t area = f.positions_h * f.positions_w, spot = p.h * f.positions_w + p.w;
  const int64_t frame_at = (p.clip * f.frames + p.frame) * area;
  const T* frame = computed + frame_at * f.in_channels;
  const int64_t from = p.group * kWide;
  Strip sums = {};
  for (int o = 0; o < f.options; ++o) {
    const float v = f.weights[p.clip * f.weight_columns + f.weight_at[o]];
    if (v == 0.f) continue;
    const int64_t kept = f.kept[o], missing = f.channels - kept;
    if (from + kWide <= kept) {
      const T* here = frame + spot * f.in_channels + from;
#pragma unroll
      for (int i = 0; i < kStrip; ++i) {
        if (p.w + i < f.positions_w) add_scaled(sums.at[i], v, load(here + i * f.in_channels));
      }
    } else if (from >= kept && f.multiplier[o] == 1 && kept % kWide == 0) {
      const int64_t source = from - kept;
      add_windows<false>(sums, v, frame + source, f.in_channels, f.positions_h, f.positions_w, p, f.kernels[o] + source, missing,
                         missing % kWide == 0, f.channels - from);
    } else {
#pragma unroll
      for (int i = 0; i < kStrip; ++i) {
        if (p.w + i >= f.positions_w) continue;
#pragma unroll
        for (int lane = 0; lane < kWide; ++lane) {
          const int64_t c = from + lane;
          if (c >= f.channels) continue;
          const float x = c < kept ? one(frame + (spot + i) * f.in_channels + c)
                                   : window_of_one<false>(frame + (c - kept) / f.multiplier[o], f.in_channels, f.positions_h,
                                                          f.positions_w, p.h, p.w + i, f.kernels[o] + (c - kept), missing);
          sums.at[i].at[lane] = fmaf(v, x, sums.at[i].at[lane]);
        }
      }
    }
  }
  const int64_t to = (frame_at + spot) * f.out_channels + from;
  finish_strip(sums, e, f.out_channels, f.positions_w, p, out + to, e.z ? static_cast<const T*>(e.z) + to : nullptr);
}

template <typename T>
__global__ void frames_kernel(FillFrames f, const T* in, Epilogue e, T* out) {
  const Place p = place_of(f.row / kWide, f.positions_w, f.positions_h, f.frames, f.clips);
  if (!p.inside) return;
  const int64_t area = f.positions_h * f.positions_w, spot = p.h * f.positions_w + p.w, from = p.group * kWide;
  const float scale = f.scale ? f.scale[p.clip * f.scale_columns] : 1.f;
  Strip sums = {};
  for (int o = 0; o < f.options; ++o) {
    const float v = f.weights[p.clip * f.weight_columns + f.weight_at[o]] * scale;
    if (v == 0.f) continue;
    const int k = p.frame % f.factor[o];
    const T* frame = in + (p.clip * f.in_frames + (p.frame - k) / f.step) * area * f.row + from;
    if (k == 0) {
#pragma unroll
      for (int i = 0; i < kStrip; ++i) {
        if (p.w + i < f.positions_w) add_scaled(sums.at[i], v, load(frame + (spot + i) * f.row));
      }
    } else {
      add_windows<false>(sums, v, frame, f.row, f.positions_h, f.positions_w, p, f.kernels[o] + (k - 1) * 9 * f.channels + from,
                         f.channels, f.channels % kWide == 0, f.channels - from);
    }
  }
  const int64_t to = ((p.clip * f.frames + p.frame) * area + spot) * f.row + from;
  finish_strip(sums, e, f.row, f.positions_w, p, out + to, e.z ? static_cast<const T*>(e.z) + to : nullptr);
}

}  // namespace

void fill_channels(const FillChannels& f, const void* computed, const Epilogue& e, void* out, cudaStream_t stream) {
  const unsigned blocks = strip_blocks(f.out_channels / kWide, f.positions_w, f.positions_h, f.frames, f.clips);
  if (f.element == Element::kFloat) {
    channels_kernel<<<blocks, kThreads, 0, stream>>>(f, static_cast<const float*>(computed), e, static_cast<float*>(out));
  } else {
    using Half = __nv_bfloat16;
    channels_kernel<<<blocks, kThreads, 0, stream>>>(f, static_cast<const Half*>(computed), e, static_cast<Half*>(out));
  }
}

void fill_frames(const FillFrames& f, const void* in, const Epilogue& e, void* out, cudaStream_t stream) {
  const unsigned blocks = strip_blocks(f.row / kWide, f.positions_w, f.positions_h, f.frames, f.clips);
  if (f.element == Element::kFloat) {
    frames_kernel<<<blocks, kThreads, 0, stream>>>(f, static_cast<const float*>(in), e, static_cast<float*>(out));
  } else {
    using Half = __nv_bfloat16;
    frames_kernel<<<blocks, kThreads, 0, stream>>>(f, static_cast<const Half*>(in), e, static_cast<Half*>(out));
  }
}

}  // namespace vared
