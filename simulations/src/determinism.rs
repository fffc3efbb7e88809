//! Replaces what the operating system brings into a run: random numbers, clocks and addresses. In a
//! simulated process all three depend on the seed only.
//!
//! The C functions `getrandom` and `clock_gettime` are defined here and take precedence over those
//! of the C library. The seeds of hash maps and of tokio's `select!`, and every `Instant` and
//! `SystemTime`, come from them. Other deterministic simulators (madsim) do the same. Addresses are
//! fixed by a restart of the program without address space randomization.
//! Invariants: `DETERMINISM-1` until [`begin`] both functions ask the kernel; `DETERMINISM-2` after
//! it their results do not depend on the machine; `DETERMINISM-3` a process makes one run, because
//! task ids and actor ids are counted per process.
//! The random numbers are not secret.
#![allow(unsafe_code, reason = "the C library's functions have the C library's types")]

use std::ffi::{c_int, c_uint, c_void};
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// 2026-01-01T00:00:00Z, the time at which every run begins.
pub const EPOCH_MS: u64 = 1_767_225_600_000;

static IS_SIMULATED: AtomicBool = AtomicBool::new(false);
static RANDOM: AtomicU64 = AtomicU64::new(0);
static NOW_NS: AtomicU64 = AtomicU64::new(0);

/// Switches the process to random numbers from `seed` and to the time of [`set_now`].
pub fn begin(seed: u64) {
    RANDOM.store(seed, Ordering::SeqCst);
    set_now(Duration::ZERO);
    IS_SIMULATED.store(true, Ordering::SeqCst);
}

/// Sets the simulated time since the run began.
pub fn set_now(now: Duration) {
    let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    NOW_NS.store(EPOCH_MS * 1_000_000 + now_ns, Ordering::SeqCst);
}

/// Restarts the program without address space randomization, unless it is off already. Child
/// processes inherit the setting. If the kernel does not allow it, the program goes on: then only
/// the order of addresses may differ between runs.
pub fn fix_addresses() {
    const ASK: libc::c_ulong = 0xffff_ffff;
    // SAFETY: `personality` takes a number and touches no memory of this process.
    let now = unsafe { libc::personality(ASK) };
    if now < 0 || now & libc::ADDR_NO_RANDOMIZE != 0 {
        return;
    }
    let wanted = libc::c_ulong::from((now | libc::ADDR_NO_RANDOMIZE).cast_unsigned());
    // SAFETY: as above.
    if unsafe { libc::personality(wanted) } < 0 {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let _failed = std::process::Command::new(program).args(std::env::args_os().skip(1)).exec();
    }
}

/// Replaces the C library's `getrandom`.
///
/// # Safety
/// `buffer` must be writable for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    if !IS_SIMULATED.load(Ordering::SeqCst) {
        // SAFETY: the caller guarantees valid arguments.
        let written = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return written as isize;
    }
    // SAFETY: the caller guarantees it.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        let state = RANDOM.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..chunk.len()]);
    }
    length as isize
}

/// Replaces the C library's `clock_gettime`.
///
/// # Safety
/// `time` must point to a `timespec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    if !IS_SIMULATED.load(Ordering::SeqCst) {
        // SAFETY: the caller guarantees valid arguments.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    }
    let now_ns = NOW_NS.load(Ordering::SeqCst);
    // SAFETY: the caller guarantees it.
    let time = unsafe { &mut *time };
    time.tv_sec = (now_ns / 1_000_000_000) as libc::time_t;
    time.tv_nsec = (now_ns % 1_000_000_000) as libc::c_long;
    0
}
