// Features as the kernels see them: channels last, so a row is one position's channels, and a thread takes eight of them.
#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels.h"

namespace vared {

constexpr int kWide = 8;  // channels a thread; every row is a multiple of it long
constexpr int kThreads = 256;

struct Floats {
  float at[kWide];
};

__device__ inline Floats load(const float* from) {
  const float4 a = reinterpret_cast<const float4*>(from)[0], b = reinterpret_cast<const float4*>(from)[1];
  return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}

__device__ inline Floats load(const __nv_bfloat16* from) {
  const uint4 bits = *reinterpret_cast<const uint4*>(from);
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
  Floats out;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out.at[2 * i] = __uint_as_float(words[i] << 16);
    out.at[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
  return out;
}

__device__ inline void store(float* to, const Floats& x) {
  reinterpret_cast<float4*>(to)[0] = make_float4(x.at[0], x.at[1], x.at[2], x.at[3]);
  reinterpret_cast<float4*>(to)[1] = make_float4(x.at[4], x.at[5], x.at[6], x.at[7]);
}

__device__ inline void store(__nv_bfloat16* to, const Floats& x) {
  __nv_bfloat162 pairs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) pairs[i] = __floats2bfloat162_rn(x.at[2 * i], x.at[2 * i + 1]);
  *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(pairs);
}

__device__ inline float one(const float* from) { return *from; }
__device__ inline float one(const __nv_bfloat16* from) { return __bfloat162float(*from); }

// A block over `rows` of `groups` groups of channels: which group and which of its rows a thread takes.
struct Tile {
  int width;  // groups side by side
  int deep;   // rows at a time
};

inline Tile tile_of(int64_t groups) {
  const int width = static_cast<int>(groups < 32 ? groups : 32);
  return {width, kThreads / width};
}

// Blocks side by side over all groups, and so many below each other that the device is full and each has work.
inline dim3 grid_of(const Tile& tile, int64_t groups, int64_t rows) {
  const int64_t across = (groups + tile.width - 1) / tile.width;
  const int64_t most = (rows + tile.deep * 8 - 1) / (tile.deep * 8);
  const int64_t wanted = (kBlocks + across - 1) / across;
  return dim3(static_cast<unsigned>(across), static_cast<unsigned>(most < wanted ? (most < 1 ? 1 : most) : wanted));
}

}  // namespace vared
