//! Memory of features, kept for the next ones.

/// Tells the C allocator, which libtorch takes its memory on the CPU from, to keep what is freed. By default features of more
/// than 32 MiB are mapped anew for every layer and cleared page by page: a tenth of the time of an X3D, more with larger
/// batches. What the process holds is then the most that it ever needed, until it ends.
///
/// To be called before there are threads: the allocator's settings are not guarded.
pub fn keep_freed() {
    const BYTES: libc::c_int = 1 << 30;
    // Features are freed by other threads than took them, and only the main arena holds more than 64 MiB.
    let settings = [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, BYTES), (libc::M_TRIM_THRESHOLD, i32::MAX)];
    for (setting, value) in settings {
        // SAFETY: sets a number of the allocator; no other thread is there to read it meanwhile.
        let _refused_is_only_slower = unsafe { libc::mallopt(setting, value) };
    }
}
