// Stand-in for gloo's header. libtorch carries gloo inside libtorch_cpu.so but ships no gloo headers; ProcessGroupGloo.hpp
// only holds these types behind smart pointers, so declarations are enough. Never construct one of them here.
#pragma once
#include <chrono>
#include <memory>
#include <string>
#include <vector>
namespace gloo {
class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};
namespace transport {
class Device;
class UnboundBuffer {
 public:
  virtual ~UnboundBuffer();
};
}  // namespace transport
}  // namespace gloo
