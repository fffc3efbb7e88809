//! How one member calls another: in bytes, with an end.
//!
//! Invariants: `TRANSPORT-1` a call ends within its time; `TRANSPORT-2` after [`PeerError::Unreachable`] nothing was sent,
//! after [`PeerError::Unknown`] the member may have done what it was asked; `TRANSPORT-3` what is under way from one member
//! is bounded where it arrives.
//! [`super::ractor`] is the way in production; tests and simulations bring their own.

use std::collections::BTreeMap;
use std::time::Duration;
use triggers_store::kv::BoxFuture;

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// There is no link to the member: nothing was sent.
    #[error("there is no link to the member")]
    Unreachable,
    /// The link was lost or time was up: the member may have done what it was asked.
    #[error("the member did not answer")]
    Unknown,
}

/// How the link to a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// It answers.
    Up,
    /// It does not, or there is none.
    Down,
}

/// The way to the other members.
pub trait PeerTransport: Send + Sync + 'static {
    /// Sends bytes to a member and waits for its answer.
    ///
    /// # Errors
    /// [`PeerError`].
    fn call<'a>(
        &'a self,
        peer: &'a str,
        message: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, PeerError>>;

    /// Says which members there are, and where; links to others are given up.
    fn meet(&self, peers: BTreeMap<String, String>);

    /// How the links are.
    fn links(&self) -> BTreeMap<String, LinkState>;
}

/// What answers the calls of other members.
pub trait PeerService: Send + Sync + 'static {
    /// Answers one call. `from` is who calls.
    fn serve(&self, from: String, message: Vec<u8>) -> BoxFuture<'_, Vec<u8>>;
}
