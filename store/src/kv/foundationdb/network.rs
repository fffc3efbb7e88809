//! The client library's network thread, which all engines of the process share.
//!
//! Invariants:
//! - `FOUNDATION-NETWORK-1`: the first engine starts the thread, and it runs as long as the
//!   process: the library cannot start it twice.
//! - `FOUNDATION-NETWORK-2`: the thread stops before the process exits, since it must not run while
//!   the library's statics are destroyed. It is stopped from a thread of its own, because the
//!   library writes a trace line then, and the main thread's C++ thread-locals are gone at exit.
//!
//! The library reads further options from variables `FDB_NETWORK_OPTION_…`.

use super::error::{FoundationOpenError, text};
use foundationdb::api::{FdbApiBuilder, NetworkAutoStop};
use std::ffi::c_int;
use std::sync::{Mutex, OnceLock};
use triggers_protocol::lock::lock;

static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
/// [`stop`] drops it, which stops the thread.
static NETWORK: Mutex<Option<NetworkAutoStop>> = Mutex::new(None);

#[expect(
    unsafe_code,
    reason = "a function of the C library that every Rust program is linked with"
)]
unsafe extern "C" {
    safe fn atexit(callback: extern "C" fn()) -> c_int;
}

/// Starts the network thread if it is not running.
///
/// # Errors
/// `Client` if the library is too old or does not start.
pub(super) fn start() -> Result<(), FoundationOpenError> {
    STARTED.get_or_init(boot).clone().map_err(FoundationOpenError::Client)
}

fn boot() -> Result<(), String> {
    let builder = FdbApiBuilder::default().build().map_err(text)?;
    #[expect(
        unsafe_code,
        reason = "what it gives is dropped before the process exits: FOUNDATION-NETWORK-2"
    )]
    let network = unsafe { builder.boot() }.map_err(text)?;
    // Exit handlers run in reverse order, so this one runs before those of the library.
    if atexit(stop) != 0 {
        drop(network);
        return Err("cannot register an exit handler".into());
    }
    *lock(&NETWORK) = Some(network);
    Ok(())
}

extern "C" fn stop() {
    let Some(network) = lock(&NETWORK).take() else { return };
    let stopping = std::thread::Builder::new().spawn(move || drop(network));
    // If no thread can be started, the closure and with it the network is dropped right here.
    if let Ok(thread) = stopping {
        // A panic has printed its reason; the exit code stays that of the program.
        let _ = thread.join();
    }
}
