//! How the process keeps memory during training.

/// Lets the process keep the memory it frees, from here on.
///
/// An update allocates and frees the same activations, many of them some megabytes, again and again. By default
/// glibc returns blocks of that size to the system and clears every page anew on the next update. A training process
/// is better served from its own heap. Other C libraries are left as they are.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "glibc's settings are C functions")]
    // SAFETY: mallopt may be called at any time; it takes no pointers.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}
