// The C ABI between `collective` (Rust) and c10d (C++ inside libtorch): all that crosses the border.
//
// Rules of the border
// - Nothing throws across it. A call that can fail returns 0 for success and 1 for failure, and writes what went wrong
//   into a buffer of the caller: `error` (capacity `error_bytes`, always NUL-terminated, cut when longer).
// - Nobody frees what the other side allocated. Bytes go from Rust to C++ by `vared_sink_put` on a sink that C++ owns.
// - `tensor` is an `at::Tensor*`, as tch's `Tensor::as_ptr` gives it; it is borrowed for the call.
// - A group is used by one thread at a time, and every rank makes the same calls in the same order.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {

// A group of workers: opaque, owned by the caller, given back to `vared_group_free`.
struct vared_group;

// Where a callback leaves its answer (the value, or the reason of its failure): opaque, owned by C++.
struct vared_sink;

// Appends bytes to a sink. The only function that Rust calls from inside a callback.
void vared_sink_put(vared_sink* sink, const uint8_t* bytes, size_t length);

// The rendezvous store, implemented in Rust. Every function gets `state`, may be called from any thread, may block for
// at most the timeout that it is given, and returns 0 or 1; on 1 the sink holds the reason. Keys are UTF-8, not
// NUL-terminated.
struct vared_store_calls {
  int (*set)(void* state, const char* key, size_t key_bytes, const uint8_t* value, size_t value_bytes, vared_sink* sink);
  int (*get)(void* state, const char* key, size_t key_bytes, int64_t timeout_ms, vared_sink* sink);
  int (*add)(void* state, const char* key, size_t key_bytes, int64_t amount, int64_t* sum, vared_sink* sink);
  int (*check)(void* state, const char* key, size_t key_bytes, int* there, vared_sink* sink);
  // Gives `state` up: called once, when c10d has let go of the store.
  void (*drop)(void* state);
};

// What the caller says about itself. Strings are NUL-terminated and borrowed for the call.
struct vared_member {
  int rank;
  int world;
  // Bound of the rendezvous and of every operation.
  int64_t timeout_ms;
  // Host name or address to listen on or, with `by_interface` = 1, a network interface.
  const char* address;
  int by_interface;
  // Number of the CUDA device; NCCL only.
  int gpu;
};

// Forms a Gloo group (CPU tensors). Takes `state` over in every case, failure included. NULL on failure.
vared_group* vared_gloo_new(const vared_store_calls* calls, void* state, const vared_member* member, char* error,
                            size_t error_bytes);

// What libvared_nccl.so (bridge/nccl.cc) has. It is loaded at run time, where a GPU is asked for; libtorch_cuda.so must be
// loaded before. The operations below serve its groups as well: they only know `c10d::Backend`.
//
// The number of the headers that it was compiled from: VARED_BRIDGE of group.h.
int vared_nccl_bridge(void);
// NCCL's version as NCCL writes it (2.28.9 is 22809): of its headers then, of its library now.
void vared_nccl_versions(int* compiled, int* loaded);
// Forms an NCCL group (tensors of the CUDA device `member->gpu`), otherwise as vared_gloo_new.
vared_group* vared_nccl_new(const vared_store_calls* calls, void* state, const vared_member* member, char* error,
                            size_t error_bytes);
// Hands c10d's record of its last NCCL operations, as JSON, to `put`, whose `text` is borrowed for the call.
int vared_nccl_trace(void* state, void (*put)(void* state, const uint8_t* text, size_t text_bytes), char* error,
                     size_t error_bytes);

// The same number, of what is linked into the program.
int vared_bridge(void);

// Replaces `tensor` by its sum over all ranks.
int vared_all_reduce_sum(vared_group* group, void* tensor, char* error, size_t error_bytes);
// Replaces `tensor` by that of rank `root`.
int vared_broadcast(vared_group* group, void* tensor, int root, char* error, size_t error_bytes);
// Fills `output` ([world, ...]) with every rank's `input` ([...]), by rank.
int vared_all_gather(vared_group* group, void* output, void* input, char* error, size_t error_bytes);
// Sends row r of `input` ([world, ...]) to rank r; row r of `output`, of the same shape, is what rank r sent here.
int vared_all_to_all(vared_group* group, void* output, void* input, char* error, size_t error_bytes);
// Returns when every rank has called it.
int vared_barrier(vared_group* group, char* error, size_t error_bytes);
// Takes the group's connections away. The one call that may come from another thread while an operation runs, which then
// ends early, with or without an error: what it has computed is worth nothing. On a Gloo group it does nothing.
int vared_group_abort(vared_group* group, char* error, size_t error_bytes);
// Leaves the group: closes its connections, so that peers which wait for this rank fail at once.
void vared_group_free(vared_group* group);

}  // extern "C"
