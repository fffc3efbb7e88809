//! The client library's network thread, which all engines of the process share.
//!
//! Invariants: `FOUNDATION-NETWORK-1` it is started once, by the first engine, and lives as long as the process: the library
//! cannot start it twice; `FOUNDATION-NETWORK-2` it is stopped before the process exits, since it would go on while the
//! library's own state is taken apart. A process that is killed or aborted stops it as well.
//! Traces, TLS and further client libraries are set with the variables `FDB_NETWORK_OPTION_…` that the library reads.

use super::error::{FoundationOpenError, text};
use foundationdb::api::{FdbApiBuilder, NetworkAutoStop};
use std::ffi::c_int;
use std::sync::{Mutex, OnceLock, PoisonError};

static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
/// Taken, and so stopped, by [`stop`].
static NETWORK: Mutex<Option<NetworkAutoStop>> = Mutex::new(None);

#[expect(
    unsafe_code,
    reason = "a function of the C library that every Rust program is linked with"
)]
unsafe extern "C" {
    safe fn atexit(callback: extern "C" fn()) -> c_int;
}

/// Starts the network thread if this process has none yet.
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
    // Handlers run in the reverse order: registered now, this one runs before what the library has set up is torn down.
    if atexit(stop) != 0 {
        drop(network);
        return Err("no handler for the end of the process can be registered".into());
    }
    *NETWORK.lock().unwrap_or_else(PoisonError::into_inner) = Some(network);
    Ok(())
}

extern "C" fn stop() {
    drop(NETWORK.lock().unwrap_or_else(PoisonError::into_inner).take());
}
