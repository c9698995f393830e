// How a call from Rust fails: with a null and a message, never with an exception.
#pragma once

#include <ATen/ATen.h>

#include <exception>
#include <stdexcept>
#include <string>

#include "mix.h"

namespace vared {

inline thread_local std::string last_error;

inline void require(bool good, const char* what) {
  if (!good) throw std::runtime_error(what);
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
