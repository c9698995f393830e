// How a call from Rust fails: with a null and a message, never with an exception.
#pragma once

#include <ATen/ATen.h>

#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "mix.h"

namespace vared {

inline thread_local std::string last_error;

inline void require(bool good, const char* what) {
  if (!good) throw std::runtime_error(what);
}

// The features channels last, with the strides that this has: sizes of 1 leave room for others, which oneDNN does not take.
inline at::Tensor channels_last(const at::Tensor& x) {
  const at::Tensor last = x.contiguous(at::MemoryFormat::ChannelsLast3d);
  const int64_t c = last.size(1), t = last.size(2), h = last.size(3), w = last.size(4);
  const std::vector<int64_t> strides{t * h * w * c, 1, h * w * c, w * c, c};
  return last.strides() == at::IntArrayRef(strides) ? last : last.as_strided(last.sizes(), strides);
}

template <typename F>
at::Tensor* caught(F compute) {
  try {
    return new at::Tensor(compute());
  } catch (const std::exception& error) {
    last_error = error.what();
    return nullptr;
  }
}

}  // namespace vared
