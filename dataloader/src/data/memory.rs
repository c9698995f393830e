//! Memory of batches, kept for the next ones.

/// Tells the C allocator to keep what is freed. By default a batch of some MiB, and its message, are mapped anew and
/// cleared page by page: a third of the time that sending it takes. What the process holds is then the most that it needed
/// at once, but no more than `SPARE_BYTES` of it unused at the end of its heap.
///
/// To be called before there are threads: the allocator's settings are not guarded.
pub fn keep_freed() {
    // Batches are freed by other threads than made them, and only the main arena holds more than 64 MiB.
    let settings = [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, proto::MAX_MESSAGE_BYTES as libc::c_int),
        (libc::M_TRIM_THRESHOLD, SPARE_BYTES),
    ];
    for (setting, value) in settings {
        // SAFETY: sets a number of the allocator; no other thread is there to read it meanwhile.
        let _refused_is_only_slower = unsafe { libc::mallopt(setting, value) };
    }
}

/// What is freed at the end of the heap is given back when it is more than this.
const SPARE_BYTES: libc::c_int = 512 << 20;
