// c10d's NCCL process group behind the C ABI of bridge.h: a shared object of its own, libvared_nccl.so, which `cargo xtask cuda`
// compiles and a worker loads where it is to run on a GPU.
#define USE_C10D_NCCL
#include <atomic>
#include <c10/util/env.h>
#include <mutex>
#include <thread>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "bridge.h"
#include "group.h"
#include "store.h"

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// How long a member that leaves waits for its last bytes to be on their way.
constexpr milliseconds FLUSH(1000);

// c10d and NCCL are told what to do by environment variables, which they read once a process, at the first group. Those of
// the first kind are what this bridge relies on, and replace what is there; a user may set those of the second kind.
void settle(const vared_member& member) {
  static std::once_flag once;
  std::call_once(once, [&] {
    // An operation is waited for in the thread that calls it, and throws there. c10d then starts no watchdog, the thread
    // that would end the process by an exception of its own.
    c10::utils::set_env("TORCH_NCCL_BLOCKING_WAIT", "1");
    c10::utils::set_env("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0");
    c10::utils::set_env("TORCH_NCCL_ENABLE_MONITORING", "0");
    c10::utils::set_env("TORCH_NCCL_DUMP_ON_TIMEOUT", "0");
    c10::utils::set_env("TORCH_NCCL_DESYNC_DEBUG", "0");
    // The flight recorder keeps pointers to the events of operations, which only a watchdog would take back: c10d's cache
    // of events keeps them valid.
    c10::utils::set_env("TORCH_NCCL_CUDA_EVENT_CACHE", "1");
    const auto seconds = std::to_string((member.timeout_ms + 999) / 1000);
    c10::utils::set_env("TORCH_NCCL_NONBLOCKING_TIMEOUT", seconds.c_str(), false);
    c10::utils::set_env("TORCH_FR_BUFFER_SIZE", "2000", false);
    if (member.by_interface) c10::utils::set_env("NCCL_SOCKET_IFNAME", member.address, false);
  });
}

class NcclGroup final : public vared_group {
 public:
  NcclGroup(c10::intrusive_ptr<c10d::ProcessGroupNCCL> nccl, at::Device device)
      : vared_group(nccl), nccl_(std::move(nccl)), device_(device) {}

  // c10d's own destructor would wait for an abort and throw when that takes too long, which ends the process.
  ~NcclGroup() override {
    char ignored[1];
    vared::caught(ignored, sizeof ignored, [this] { flush(); });
    vared::caught(ignored, sizeof ignored, [this] { abort(); });
  }

  // Returns when all members are connected.
  void connect() {
    nccl_->setBoundDeviceId(device_);
    nccl_->eagerConnectSingleDevice(device_);
    comm();
    connected_ = true;
  }

  void abort() override {
    if (!ended_.exchange(true)) nccl_->abort();
  }

 private:
  // The communicator of this device, once it is ready; throws if it is aborted.
  ncclComm_t comm() {
    const c10::cuda::CUDAGuard here(device_);
    return reinterpret_cast<ncclComm_t>(nccl_->getCommPtr());
  }

  // An operation that is over here may still be sending to a peer, and an abort would cut that off.
  void flush() {
    if (!connected_ || ended_) return;
    const ncclComm_t comm = this->comm();
    ncclResult_t state = ncclCommFinalize(comm);
    const auto deadline = steady_clock::now() + FLUSH;
    while (state == ncclInProgress && steady_clock::now() < deadline) {
      std::this_thread::sleep_for(milliseconds(1));
      if (ncclCommGetAsyncError(comm, &state) != ncclSuccess) return;
    }
  }

  const c10::intrusive_ptr<c10d::ProcessGroupNCCL> nccl_;
  const at::Device device_;
  bool connected_ = false;
  std::atomic<bool> ended_{false};
};

void check_gpu(int gpu) {
  const int gpus = c10::cuda::device_count_ensure_non_zero();
  TORCH_CHECK(gpu < gpus, "there is no cuda:", gpu, ", CUDA sees ", gpus, " device(s) here");
}

}  // namespace

extern "C" {

int vared_nccl_bridge(void) { return VARED_BRIDGE; }

void vared_nccl_versions(int* compiled, int* loaded) {
  *compiled = NCCL_VERSION_CODE;
  if (ncclGetVersion(loaded) != ncclSuccess) *loaded = 0;
}

vared_group* vared_nccl_new(const vared_store_calls* calls, void* state, const vared_member* member, char* error,
                            size_t error_bytes) {
  std::unique_ptr<NcclGroup> group;
  const int failed = vared::caught(error, error_bytes, [&] {
    const milliseconds timeout(member->timeout_ms);
    auto store = vared::rust_store(*calls, state, timeout);
    check_gpu(member->gpu);
    settle(*member);
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    options->config.blocking = 0;
    auto nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(std::move(store), member->rank, member->world, options);
    group = std::make_unique<NcclGroup>(std::move(nccl), at::Device(at::kCUDA, static_cast<at::DeviceIndex>(member->gpu)));
    group->connect();
  });
  return failed ? nullptr : group.release();
}

int vared_nccl_trace(void* state, void (*put)(void* state, const uint8_t* text, size_t text_bytes), char* error,
                     size_t error_bytes) {
  return vared::caught(error, error_bytes, [&] {
    const std::string json = c10d::dump_nccl_trace_json(true, false);
    put(state, reinterpret_cast<const uint8_t*>(json.data()), json.size());
  });
}

}  // extern "C"
