//! The allocator of the process, and its settings.

use std::ffi::{c_int, c_long};
use std::time::Duration;

/// One thread allocates a request and another frees it, which fragments the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3: the milliseconds for which it keeps freed memory.
const PURGE_DELAY: c_int = 15;
const PURGE_DELAY_MS: c_long = 10_000;
/// Interval at which an idle process returns freed memory. A busy allocator does so by itself.
const COLLECT_INTERVAL: Duration = Duration::from_secs(10);

/// Keeps freed memory for a while, and turns huge pages off.
///
/// Requests and the store allocate and free all the time. Returning memory to the system interrupts
/// all threads, which costs more than the work done in that memory. The kernel clears a huge page
/// at once, in the middle of a request.
#[expect(unsafe_code, reason = "it is a setting of the allocator; no other thread runs yet")]
pub(crate) fn set_up() {
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) }
    // Without it the process is only slower.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    // Otherwise an idle node keeps memory it no longer uses, such as after reading back a long log
    // at its start.
    drop(std::thread::Builder::new().name("memory".into()).spawn(collect));
}

#[expect(unsafe_code, reason = "any thread may ask the allocator to collect")]
fn collect() {
    loop {
        std::thread::sleep(COLLECT_INTERVAL);
        unsafe { libmimalloc_sys::mi_collect(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "it reads a setting of the allocator")]
    fn the_setting_is_the_intended_one() {
        const DEFAULT_MS: c_long = 1_000;
        assert_eq!(unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }, DEFAULT_MS);
        set_up();
        assert_eq!(unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }, PURGE_DELAY_MS);
    }
}
