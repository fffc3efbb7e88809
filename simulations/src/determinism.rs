//! What of the operating system reaches into a run: random numbers, clocks and addresses. In a simulated process all three
//! are a function of the seed.
//!
//! The C functions `getrandom` and `clock_gettime` are defined here, before the C library's: the seeds of hash maps and of
//! tokio's `select!`, and every `Instant` and `SystemTime`, come through them. The same way is gone by other deterministic
//! simulators (madsim). Addresses are fixed by a second start of the program with address space randomization switched off.
//! Invariants: `DETERMINISM-1` until [`begin`] both functions do what the kernel does; `DETERMINISM-2` afterwards nothing of
//! the machine is in their answers; `DETERMINISM-3` one run a process: task ids and actor ids count on from run to run.
//! It is not a source of secrets.
#![allow(unsafe_code, reason = "the C library's functions have the C library's types")]

use std::ffi::{c_int, c_uint, c_void};
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// 2026-01-01T00:00:00Z: when every run begins.
pub const EPOCH_MS: u64 = 1_767_225_600_000;

static IS_SIMULATED: AtomicBool = AtomicBool::new(false);
static RANDOM: AtomicU64 = AtomicU64::new(0);
static NOW_NS: AtomicU64 = AtomicU64::new(0);

/// From now on randomness comes from the seed and time from [`set_now`].
pub fn begin(seed: u64) {
    RANDOM.store(seed, Ordering::SeqCst);
    set_now(Duration::ZERO);
    IS_SIMULATED.store(true, Ordering::SeqCst);
}

/// Sets the time since the run began.
pub fn set_now(now: Duration) {
    let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    NOW_NS.store(EPOCH_MS * 1_000_000 + now_ns, Ordering::SeqCst);
}

/// Starts the program again without randomized addresses, unless that is so already. Programs that it starts inherit it.
/// Where the kernel refuses, the run goes on: then only the order of addresses could differ.
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

/// Replaces the C library's function of this name.
///
/// # Safety
/// `buffer` must be writable for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    if !IS_SIMULATED.load(Ordering::SeqCst) {
        // SAFETY: the arguments are the caller's.
        let written = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return written as isize;
    }
    // SAFETY: the caller says so.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        let state = RANDOM.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..chunk.len()]);
    }
    length as isize
}

/// Replaces the C library's function of this name.
///
/// # Safety
/// `time` must point to a `timespec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    if !IS_SIMULATED.load(Ordering::SeqCst) {
        // SAFETY: the arguments are the caller's.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    }
    let now_ns = NOW_NS.load(Ordering::SeqCst);
    // SAFETY: the caller says so.
    let time = unsafe { &mut *time };
    time.tv_sec = (now_ns / 1_000_000_000) as libc::time_t;
    time.tv_nsec = (now_ns % 1_000_000_000) as libc::c_long;
    0
}
