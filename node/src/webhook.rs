//! Webhooks over HTTP: where one may go, and the sender that takes it there.
//!
//! ```text
//! HttpSender ─ target: check the URL ─ request: body, signatures ─ pool of connections
//!   └ connector: time, TLS ─ TCP ─ resolver: look the name up ─ addresses: may it be called?
//! ```
//! A partner names the target, so each webhook is a request that a stranger aims from inside the operator's network. The
//! URL is checked when it is set and again at each attempt, the addresses behind its name whenever a connection is made.
//! Invariants: `WEBHOOK-HTTP-1` no connection is opened to an address that was not checked; `WEBHOOK-HTTP-2` every attempt
//! ends within its time, and what an endpoint answers never takes more memory than the options say; `WEBHOOK-HTTP-3`
//! reasons are for partners: they name nothing of this node or its network.
//! It follows no redirects, reads no proxy settings, repeats nothing, and does not judge an answer: that is the business
//! of `triggers-actors`.

use std::path::PathBuf;

pub use connector::{SystemTcp, TcpConnector};
pub use sender::HttpSender;
pub use target::{Target, TargetPolicy};

mod addresses;
mod connector;
mod fault;
mod request;
mod resolver;
mod retry_after;
mod sender;
mod target;

#[cfg(test)]
mod tests;

/// Why the sender could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// An allowed network is none.
    #[error("delivery.allowed_targets: {network:?} must be a network, such as 10.1.0.0/16")]
    Network {
        /// The text in its place.
        network: String,
    },
    /// The file with certificates cannot be read, or has none that can be used.
    #[error("delivery.tls_ca_file {}: {reason}", file.display())]
    CaFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS provider refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}
