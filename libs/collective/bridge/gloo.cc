// c10d's Gloo process group behind the C ABI of bridge.h, and the operations of groups of either kind. Compiled once by
// build.rs; keep it small, the headers take a minute.
#define USE_C10D_GLOO
#include <mutex>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "bridge.h"
#include "group.h"
#include "store.h"

namespace {

using vared::caught;

// A member may take its group's connections away from another thread (vared_group_abort), but not while an operation is
// being started on them.
std::timed_mutex starting;

// Starts an operation, then waits for it. c10d's flight recorder is one for all groups of the process and notes a group's
// first operation in a map that it does not guard: two groups on two threads crash there, so one starts at a time.
template <typename Start>
void started(const Start& start) {
  c10::intrusive_ptr<c10d::Work> work;
  {
    const std::lock_guard<std::timed_mutex> one_at_a_time(starting);
    work = start();
  }
  work->wait();
}

}  // namespace

extern "C" {

void vared_sink_put(vared_sink* sink, const uint8_t* bytes, size_t length) {
  sink->bytes.append(reinterpret_cast<const char*>(bytes), length);
}

int vared_bridge(void) { return VARED_BRIDGE; }

vared_group* vared_gloo_new(const vared_store_calls* calls, void* state, const vared_member* member, char* error,
                            size_t error_bytes) {
  vared_group* group = nullptr;
  caught(error, error_bytes, [&] {
    const std::chrono::milliseconds timeout(member->timeout_ms);
    auto store = vared::rust_store(*calls, state, timeout);
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->devices.push_back(member->by_interface
                                   ? c10d::ProcessGroupGloo::createDeviceForInterface(member->address)
                                   : c10d::ProcessGroupGloo::createDeviceForHostname(member->address));
    auto backend = c10::make_intrusive<c10d::ProcessGroupGloo>(store, member->rank, member->world, options);
    group = new vared_group{std::move(backend)};
  });
  return group;
}

int vared_all_reduce_sum(vared_group* group, void* tensor, char* error, size_t error_bytes) {
  return caught(error, error_bytes, [&] {
    std::vector<at::Tensor> tensors{*static_cast<at::Tensor*>(tensor)};
    started([&] { return group->backend->allreduce(tensors); });
  });
}

int vared_broadcast(vared_group* group, void* tensor, int root, char* error, size_t error_bytes) {
  return caught(error, error_bytes, [&] {
    std::vector<at::Tensor> tensors{*static_cast<at::Tensor*>(tensor)};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    started([&] { return group->backend->broadcast(tensors, options); });
  });
}

int vared_all_gather(vared_group* group, void* output, void* input, char* error, size_t error_bytes) {
  return caught(error, error_bytes, [&] {
    auto& to = *static_cast<at::Tensor*>(output);
    auto& from = *static_cast<at::Tensor*>(input);
    started([&] { return group->backend->_allgather_base(to, from); });
  });
}

int vared_all_to_all(vared_group* group, void* output, void* input, char* error, size_t error_bytes) {
  return caught(error, error_bytes, [&] {
    auto& to = *static_cast<at::Tensor*>(output);
    auto& from = *static_cast<at::Tensor*>(input);
    std::vector<int64_t> even;
    started([&] { return group->backend->alltoall_base(to, from, even, even); });
  });
}

int vared_barrier(vared_group* group, char* error, size_t error_bytes) {
  return caught(error, error_bytes, [&] { started([&] { return group->backend->barrier(); }); });
}

int vared_group_abort(vared_group* group, char* error, size_t error_bytes) {
  return caught(error, error_bytes, [&] {
    // A start takes microseconds. One that hangs is what the abort is to end: then it goes ahead.
    const std::unique_lock<std::timed_mutex> nobody_starts(starting, std::chrono::milliseconds(500));
    group->abort();
  });
}

void vared_group_free(vared_group* group) { delete group; }

}  // extern "C"
