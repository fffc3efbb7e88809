//! The allocator of the process, and its settings.

use std::ffi::{c_int, c_long};
use std::time::Duration;

/// One thread allocates a request and another frees it, which fragments the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3: for how many milliseconds freed memory is kept before the system gets it back.
const PURGE_DELAY: c_int = 15;
const PURGE_DELAY_MS: c_long = 10_000;
/// The allocator looks what it can give back when it is used: this often if it is not.
const GIVING_BACK_INTERVAL: Duration = Duration::from_secs(10);

/// Requests and the store's tables take and free memory all the time. To give it back and get it again costs more than what is done
/// in it, since all threads are interrupted for that; and a huge page is cleared as a whole, in the middle of a request.
#[expect(unsafe_code, reason = "it is a setting of the allocator; no other thread runs yet")]
pub(crate) fn set_up() {
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) }
    // Where that is not possible it is slower, and right.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    // Without it a node that has nothing to do keeps more than it uses, as after a start that has read back a long log.
    drop(std::thread::Builder::new().name("memory".into()).spawn(give_back));
}

#[expect(unsafe_code, reason = "any thread may ask the allocator to look what is free")]
fn give_back() {
    loop {
        std::thread::sleep(GIVING_BACK_INTERVAL);
        unsafe { libmimalloc_sys::mi_collect(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "it reads a setting of the allocator")]
    fn the_setting_is_the_one_that_is_meant() {
        const AS_DELIVERED_MS: c_long = 1_000;
        assert_eq!(unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }, AS_DELIVERED_MS);
        set_up();
        assert_eq!(unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }, PURGE_DELAY_MS);
    }
}
