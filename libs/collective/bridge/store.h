// c10d's store on top of the callbacks of bridge.h, so that any Rust value can be the meeting point of a group.
#pragma once
#include <algorithm>
#include <stdexcept>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "bridge.h"

struct vared_sink {
  std::string bytes;
};

namespace vared {

// Owns the Rust value behind the callbacks; shared by a store and its clones.
class StoreState {
 public:
  StoreState(const vared_store_calls& calls, void* state) : calls(calls), state(state) {}
  StoreState(const StoreState&) = delete;
  StoreState& operator=(const StoreState&) = delete;
  ~StoreState() { calls.drop(state); }

  const vared_store_calls calls;
  void* const state;
};

class CallbackStore : public c10d::Store {
 public:
  using c10d::Store::set;

  CallbackStore(std::shared_ptr<StoreState> rust, std::chrono::milliseconds timeout)
      : c10d::Store(timeout), rust_(std::move(rust)) {}

  c10::intrusive_ptr<c10d::Store> clone() override {
    return c10::make_intrusive<CallbackStore>(rust_, timeout_);
  }

  void set(const std::string& key, const std::vector<uint8_t>& value) override {
    vared_sink sink;
    check_call(rust_->calls.set(rust_->state, key.data(), key.size(), value.data(), value.size(), &sink), sink);
  }

  std::vector<uint8_t> get(const std::string& key) override {
    return get_within(key, timeout_);
  }

  int64_t add(const std::string& key, int64_t amount) override {
    vared_sink sink;
    int64_t sum = 0;
    check_call(rust_->calls.add(rust_->state, key.data(), key.size(), amount, &sum, &sink), sink);
    return sum;
  }

  bool check(const std::vector<std::string>& keys) override {
    return std::all_of(keys.begin(), keys.end(), [this](const std::string& key) {
      vared_sink sink;
      int there = 0;
      check_call(rust_->calls.check(rust_->state, key.data(), key.size(), &there, &sink), sink);
      return there != 0;
    });
  }

  void wait(const std::vector<std::string>& keys) override { wait(keys, timeout_); }

  // Never longer than the group's own timeout: gloo asks for five minutes in places.
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) override {
    const auto deadline = std::chrono::steady_clock::now() + std::min(timeout, timeout_);
    for (const auto& key : keys) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
      get_within(key, std::max(left, std::chrono::milliseconds(0)));
    }
  }

  // The process groups here never delete or count keys; the store of a generation goes away as a whole.
  bool deleteKey(const std::string& /*key*/) override { throw std::runtime_error("this store deletes no keys"); }
  int64_t getNumKeys() override { throw std::runtime_error("this store counts no keys"); }

 private:
  std::vector<uint8_t> get_within(const std::string& key, std::chrono::milliseconds timeout) {
    vared_sink sink;
    check_call(rust_->calls.get(rust_->state, key.data(), key.size(), timeout.count(), &sink), sink);
    return {sink.bytes.begin(), sink.bytes.end()};
  }

  static void check_call(int failed, const vared_sink& sink) {
    if (failed) throw std::runtime_error(sink.bytes);
  }

  const std::shared_ptr<StoreState> rust_;
};

// Takes `state` over, whatever happens.
inline c10::intrusive_ptr<CallbackStore> rust_store(const vared_store_calls& calls, void* state,
                                                    std::chrono::milliseconds timeout) {
  return c10::make_intrusive<CallbackStore>(std::make_shared<StoreState>(calls, state), timeout);
}

}  // namespace vared
