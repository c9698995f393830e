// What both halves of the bridge share: the group, and where exceptions end. gloo.cc is part of the program, nccl.cc an object
// that is loaded: they must have been compiled from the same headers.
#pragma once
#include <algorithm>
#include <cstring>
#include <torch/csrc/distributed/c10d/Backend.hpp>

// Raise it with every change of bridge.h, group.h or store.h: an object of another number is refused.
#define VARED_BRIDGE 1

struct vared_group {
  explicit vared_group(c10::intrusive_ptr<c10d::Backend> backend) : backend(std::move(backend)) {}
  vared_group(const vared_group&) = delete;
  vared_group& operator=(const vared_group&) = delete;
  virtual ~vared_group() = default;

  // Ends what runs on another thread. Gloo cannot: there the timeout of the operation is the bound.
  virtual void abort() {}

  const c10::intrusive_ptr<c10d::Backend> backend;
};

namespace vared {

inline void put_error(const char* what, char* error, size_t error_bytes) {
  if (error_bytes == 0) return;
  const size_t length = std::min(std::strlen(what), error_bytes - 1);
  std::memcpy(error, what, length);
  error[length] = '\0';
}

// Runs `body` and turns what it throws into text: the one place where exceptions end.
template <typename Body>
int caught(char* error, size_t error_bytes, const Body& body) {
  try {
    body();
    return 0;
  } catch (const c10::Error& e) {
    put_error(e.what_without_backtrace(), error, error_bytes);
  } catch (const std::exception& e) {
    put_error(e.what(), error, error_bytes);
  } catch (...) {
    put_error("an exception of unknown type", error, error_bytes);
  }
  return 1;
}

}  // namespace vared
