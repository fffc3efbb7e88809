//! The signals that end a node: SIGTERM and SIGINT.
//!
//! The first one starts the drain; a second one, at any time of it, ends the node at once, with requests unanswered and
//! with the exit code of a fatal fault (5), so that nobody takes it for an orderly end.

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// If the handlers cannot be installed.
pub(super) async fn stop_requested() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
