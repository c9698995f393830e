//! The Rust side of `bridge/bridge.h`, where the rules of the border are written down.

mod nccl;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tch::Tensor;

pub(crate) use self::nccl::Nccl;
use crate::store::{Store, StoreError};

const ERROR_BYTES: usize = 2048;

/// Opaque: `struct vared_group`.
#[repr(C)]
struct RawGroup {
    _private: [u8; 0],
}

/// Opaque: `struct vared_sink`.
#[repr(C)]
struct RawSink {
    _private: [u8; 0],
}

#[repr(C)]
struct StoreCalls {
    set: unsafe extern "C" fn(*mut c_void, *const c_char, usize, *const u8, usize, *mut RawSink) -> c_int,
    get: unsafe extern "C" fn(*mut c_void, *const c_char, usize, i64, *mut RawSink) -> c_int,
    add: unsafe extern "C" fn(*mut c_void, *const c_char, usize, i64, *mut i64, *mut RawSink) -> c_int,
    check: unsafe extern "C" fn(*mut c_void, *const c_char, usize, *mut c_int, *mut RawSink) -> c_int,
    drop: unsafe extern "C" fn(*mut c_void),
}

#[repr(C)]
struct RawMember {
    rank: c_int,
    world: c_int,
    timeout_ms: i64,
    address: *const c_char,
    by_interface: c_int,
    gpu: c_int,
}

/// `vared_gloo_new` and its like.
type New = unsafe extern "C" fn(*const StoreCalls, *mut c_void, *const RawMember, *mut c_char, usize) -> *mut RawGroup;

unsafe extern "C" {
    fn vared_sink_put(sink: *mut RawSink, bytes: *const u8, length: usize);
    fn vared_bridge() -> c_int;
    fn vared_gloo_new(
        calls: *const StoreCalls,
        state: *mut c_void,
        member: *const RawMember,
        error: *mut c_char,
        error_bytes: usize,
    ) -> *mut RawGroup;
    fn vared_all_reduce_sum(g: *mut RawGroup, tensor: *mut c_void, error: *mut c_char, error_bytes: usize) -> c_int;
    fn vared_broadcast(
        g: *mut RawGroup,
        tensor: *mut c_void,
        root: c_int,
        error: *mut c_char,
        error_bytes: usize,
    ) -> c_int;
    fn vared_all_gather(
        g: *mut RawGroup,
        output: *mut c_void,
        input: *mut c_void,
        error: *mut c_char,
        error_bytes: usize,
    ) -> c_int;
    fn vared_all_to_all(
        g: *mut RawGroup,
        output: *mut c_void,
        input: *mut c_void,
        error: *mut c_char,
        error_bytes: usize,
    ) -> c_int;
    fn vared_barrier(g: *mut RawGroup, error: *mut c_char, error_bytes: usize) -> c_int;
    fn vared_group_abort(g: *mut RawGroup, error: *mut c_char, error_bytes: usize) -> c_int;
    fn vared_group_free(g: *mut RawGroup);
}

/// What a constructor of [`RemoteGroup`] needs to know, already checked.
pub(crate) struct Place {
    pub(crate) rank: i32,
    pub(crate) world: i32,
    pub(crate) timeout: Duration,
    pub(crate) address: CString,
    pub(crate) by_interface: bool,
    /// Number of the CUDA device of an NCCL group.
    pub(crate) gpu: i32,
}

/// Owns a `vared_group`.
#[derive(Debug)]
struct Handle(NonNull<RawGroup>);

// SAFETY: a process group keeps nothing that belongs to the thread that made it: c10d hands groups between threads itself.
unsafe impl Send for Handle {}
// SAFETY: operations need the `&mut` of the one `RemoteGroup` of a handle; what is shared can abort it, from any thread.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: made by a constructor of the bridge, freed here only.
        unsafe { vared_group_free(self.0.as_ptr()) }
    }
}

/// Takes a group's connections away, from any thread, as long as the group is there.
#[derive(Debug, Clone, Default)]
pub(crate) struct RemoteAborter(Weak<Handle>);

impl RemoteAborter {
    pub(crate) fn abort(&self) -> Result<(), String> {
        let Some(group) = self.0.upgrade() else { return Ok(()) };
        let mut error = ErrorText::new();
        // SAFETY: the group is live as long as `group`; this is the call that may come from any thread.
        let failed = unsafe { vared_group_abort(group.0.as_ptr(), error.as_mut_ptr(), ERROR_BYTES) };
        error.unless_zero(failed)
    }
}

/// A group with peers. Errors are c10d's text.
#[derive(Debug)]
pub(crate) struct RemoteGroup(Arc<Handle>);

impl RemoteGroup {
    pub(crate) fn gloo(store: Arc<dyn Store>, place: &Place) -> Result<Self, String> {
        // SAFETY: it is declared in `bridge.h` as `form` asks.
        unsafe { Self::form(vared_gloo_new, store, place) }
    }

    pub(crate) fn nccl(nccl: &Nccl, store: Arc<dyn Store>, place: &Place) -> Result<Self, String> {
        // SAFETY: as in `gloo`; the object it comes from stays loaded.
        unsafe { Self::form(nccl.new, store, place) }
    }

    pub(crate) fn aborter(&self) -> RemoteAborter {
        RemoteAborter(Arc::downgrade(&self.0))
    }

    /// # Safety
    /// `new` behaves as `bridge.h` says of constructors.
    unsafe fn form(new: New, store: Arc<dyn Store>, place: &Place) -> Result<Self, String> {
        let member = RawMember {
            rank: place.rank,
            world: place.world,
            timeout_ms: millis(place.timeout),
            address: place.address.as_ptr(),
            by_interface: c_int::from(place.by_interface),
            gpu: place.gpu,
        };
        let state = Box::into_raw(Box::new(store)).cast::<c_void>();
        let mut error = ErrorText::new();
        // SAFETY: `member` and its address outlive the call; the callbacks expect exactly the `Box<Arc<dyn Store>>` that
        // `state` is, and the call takes it over: it comes back once, in `store_drop`.
        let group = unsafe { new(&CALLS, state, &member, error.as_mut_ptr(), ERROR_BYTES) };
        NonNull::new(group).map(|group| Self(Arc::new(Handle(group)))).ok_or_else(|| error.text())
    }

    pub(crate) fn all_reduce_sum(&mut self, tensor: &Tensor) -> Result<(), String> {
        let mut error = ErrorText::new();
        // SAFETY: the group is live until `drop`; a tch tensor's pointer is an `at::Tensor*`, borrowed for the call.
        let failed = unsafe { vared_all_reduce_sum(self.raw(), raw_tensor(tensor), error.as_mut_ptr(), ERROR_BYTES) };
        error.unless_zero(failed)
    }

    pub(crate) fn broadcast(&mut self, tensor: &Tensor, root: i32) -> Result<(), String> {
        let mut error = ErrorText::new();
        // SAFETY: as in `all_reduce_sum`.
        let failed = unsafe { vared_broadcast(self.raw(), raw_tensor(tensor), root, error.as_mut_ptr(), ERROR_BYTES) };
        error.unless_zero(failed)
    }

    pub(crate) fn all_gather(&mut self, output: &Tensor, input: &Tensor) -> Result<(), String> {
        let mut error = ErrorText::new();
        let (output, input) = (raw_tensor(output), raw_tensor(input));
        // SAFETY: as in `all_reduce_sum`, for both tensors.
        let failed = unsafe { vared_all_gather(self.raw(), output, input, error.as_mut_ptr(), ERROR_BYTES) };
        error.unless_zero(failed)
    }

    pub(crate) fn all_to_all(&mut self, output: &Tensor, input: &Tensor) -> Result<(), String> {
        let mut error = ErrorText::new();
        let (output, input) = (raw_tensor(output), raw_tensor(input));
        // SAFETY: as in `all_reduce_sum`, for both tensors.
        let failed = unsafe { vared_all_to_all(self.raw(), output, input, error.as_mut_ptr(), ERROR_BYTES) };
        error.unless_zero(failed)
    }

    pub(crate) fn barrier(&mut self) -> Result<(), String> {
        let mut error = ErrorText::new();
        // SAFETY: the group is live until `drop`.
        let failed = unsafe { vared_barrier(self.raw(), error.as_mut_ptr(), ERROR_BYTES) };
        error.unless_zero(failed)
    }

    fn raw(&mut self) -> *mut RawGroup {
        self.0.0.as_ptr()
    }
}

fn raw_tensor(tensor: &Tensor) -> *mut c_void {
    tensor.as_ptr().cast_mut().cast::<c_void>()
}

/// Whole milliseconds, never 0: c10d reads 0 as "no timeout".
fn millis(timeout: Duration) -> i64 {
    i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX).max(1)
}

/// The buffer that C++ writes an error into.
struct ErrorText([u8; ERROR_BYTES]);

impl ErrorText {
    fn new() -> Self {
        Self([0; ERROR_BYTES])
    }

    fn as_mut_ptr(&mut self) -> *mut c_char {
        self.0.as_mut_ptr().cast::<c_char>()
    }

    fn unless_zero(&self, failed: c_int) -> Result<(), String> {
        if failed == 0 { Ok(()) } else { Err(self.text()) }
    }

    /// The text in one line, without the `[file:line]` that gloo puts before it.
    fn text(&self) -> String {
        let whole = CStr::from_bytes_until_nul(&self.0).unwrap_or_default().to_string_lossy();
        let said = match whole.split_once("] ") {
            Some((place, said)) if place.starts_with('[') => said,
            _ => &whole,
        };
        said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

static CALLS: StoreCalls =
    StoreCalls { set: store_set, get: store_get, add: store_add, check: store_check, drop: store_drop };

/// Runs one store call: answers 0, or 1 with the reason in the sink. A panic becomes a reason too.
///
/// # Safety
/// `state` is the `Box<Arc<dyn Store>>` of [`RemoteGroup::form`]; `key` holds `key_bytes` bytes; `sink` is live.
unsafe fn answer(
    state: *mut c_void,
    key: (*const c_char, usize),
    sink: *mut RawSink,
    call: impl FnOnce(&dyn Store, &str) -> Result<(), StoreError>,
) -> c_int {
    // SAFETY: promised by the caller; the store is only ever borrowed shared, and is `Sync`.
    let store = unsafe { &*state.cast::<Arc<dyn Store>>() };
    // SAFETY: promised by the caller.
    let key = unsafe { bytes(key.0.cast::<u8>(), key.1) };
    let outcome = catch_unwind(AssertUnwindSafe(|| match std::str::from_utf8(key) {
        Ok(key) => call(store.as_ref(), key).map_err(|e| e.to_string()),
        Err(_) => Err(format!("store key {key:?} is not UTF-8")),
    }))
    .unwrap_or_else(|_| Err("the store panicked".to_owned()));
    match outcome {
        Ok(()) => 0,
        Err(reason) => {
            // SAFETY: the sink is live, and copies the bytes.
            unsafe { vared_sink_put(sink, reason.as_ptr(), reason.len()) };
            1
        }
    }
}

/// # Safety
/// `start` points to `length` live bytes, or `length` is 0.
unsafe fn bytes<'a>(start: *const u8, length: usize) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: promised by the caller.
    unsafe { std::slice::from_raw_parts(start, length) }
}

/// # Safety
/// As `vared_store_calls::set` in `bridge.h`.
unsafe extern "C" fn store_set(
    state: *mut c_void,
    key: *const c_char,
    key_bytes: usize,
    value: *const u8,
    value_bytes: usize,
    sink: *mut RawSink,
) -> c_int {
    // SAFETY: c10d's `set` borrows the value for the call.
    let value = unsafe { bytes(value, value_bytes) };
    // SAFETY: the arguments come from `CallbackStore` as `answer` asks.
    unsafe { answer(state, (key, key_bytes), sink, |store, key| store.set(key, value)) }
}

/// # Safety
/// As `vared_store_calls::get` in `bridge.h`.
unsafe extern "C" fn store_get(
    state: *mut c_void,
    key: *const c_char,
    key_bytes: usize,
    timeout_ms: i64,
    sink: *mut RawSink,
) -> c_int {
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let get = |store: &dyn Store, key: &str| {
        let value = store.get(key, timeout)?;
        // SAFETY: the sink is live during the call, and copies the bytes.
        unsafe { vared_sink_put(sink, value.as_ptr(), value.len()) };
        Ok(())
    };
    // SAFETY: the arguments come from `CallbackStore` as `answer` asks.
    unsafe { answer(state, (key, key_bytes), sink, get) }
}

/// # Safety
/// As `vared_store_calls::add` in `bridge.h`.
unsafe extern "C" fn store_add(
    state: *mut c_void,
    key: *const c_char,
    key_bytes: usize,
    amount: i64,
    sum: *mut i64,
    sink: *mut RawSink,
) -> c_int {
    let add = |store: &dyn Store, key: &str| {
        let total = store.add(key, amount)?;
        // SAFETY: `sum` is a local variable of the calling C++ function.
        unsafe { sum.write(total) };
        Ok(())
    };
    // SAFETY: the arguments come from `CallbackStore` as `answer` asks.
    unsafe { answer(state, (key, key_bytes), sink, add) }
}

/// # Safety
/// As `vared_store_calls::check` in `bridge.h`.
unsafe extern "C" fn store_check(
    state: *mut c_void,
    key: *const c_char,
    key_bytes: usize,
    there: *mut c_int,
    sink: *mut RawSink,
) -> c_int {
    let check = |store: &dyn Store, key: &str| {
        let found = store.check(key)?;
        // SAFETY: `there` is a local variable of the calling C++ function.
        unsafe { there.write(c_int::from(found)) };
        Ok(())
    };
    // SAFETY: the arguments come from `CallbackStore` as `answer` asks.
    unsafe { answer(state, (key, key_bytes), sink, check) }
}

/// # Safety
/// As `vared_store_calls::drop` in `bridge.h`: called once.
unsafe extern "C" fn store_drop(state: *mut c_void) {
    // SAFETY: `state` is what `RemoteGroup::form` made with `Box::into_raw`, and nobody uses it any more.
    let store = unsafe { Box::from_raw(state.cast::<Arc<dyn Store>>()) };
    // A store whose drop panics must not unwind into C++.
    drop(catch_unwind(AssertUnwindSafe(move || drop(store))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_side_says_becomes_one_line() {
        let said = |text: &str| {
            let mut error = ErrorText::new();
            error.0[..text.len()].copy_from_slice(text.as_bytes());
            error.text()
        };
        assert_eq!(said("[gloo/transport/tcp/pair.cc:534] Connection closed "), "Connection closed");
        assert_eq!(
            said("NCCL error: network\n  Last error:\n\nConnection refused\n"),
            "NCCL error: network; Last error:; Connection refused"
        );
    }
}
