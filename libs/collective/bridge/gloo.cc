// c10d's Gloo process group behind the C ABI of bridge.h. Compiled once by build.rs; keep it small, the headers take a minute.
#define USE_C10D_GLOO
#include <cstring>
#include <mutex>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "bridge.h"
#include "store.h"

// Only c10d::Backend is known here: a group of NCCL's will be one of these too.
struct vared_group {
  c10::intrusive_ptr<c10d::Backend> backend;
};

namespace {

void put_error(const char* what, char* error, size_t error_bytes) {
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

// Starts an operation, then waits for it. c10d's flight recorder is one for all groups of the process and notes a group's
// first operation in a map that it does not guard: two groups on two threads crash there, so one starts at a time.
template <typename Start>
void started(const Start& start) {
  static std::mutex starting;
  c10::intrusive_ptr<c10d::Work> work;
  {
    const std::lock_guard<std::mutex> one_at_a_time(starting);
    work = start();
  }
  work->wait();
}

}  // namespace

extern "C" {

void vared_sink_put(vared_sink* sink, const uint8_t* bytes, size_t length) {
  sink->bytes.append(reinterpret_cast<const char*>(bytes), length);
}

vared_group* vared_gloo_new(const vared_store_calls* calls, void* state, const vared_member* member, char* error,
                            size_t error_bytes) {
  vared_group* group = nullptr;
  caught(error, error_bytes, [&] {
    auto rust = std::make_shared<vared::StoreState>(*calls, state);
    const std::chrono::milliseconds timeout(member->timeout_ms);
    auto store = c10::make_intrusive<vared::CallbackStore>(std::move(rust), timeout);
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

void vared_group_free(vared_group* group) { delete group; }

}  // extern "C"
