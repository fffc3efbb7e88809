//! Sends webhooks over HTTP and decides which targets may be called.
//!
//! ```text
//! HttpSender ─ target: check the URL ─ request: body, signatures ─ pool of connections ─ answer
//!   └ connector: timeout, TLS ─ TCP ─ resolver: look up the name ─ addresses: may it be called?
//! ```
//! Partners choose the targets, so each webhook is a request that a stranger aims from inside the
//! operator's network. The URL is checked when it is set and again by each node before it calls it.
//! The addresses of its host name are checked whenever a connection is opened.
//!
//! - `WEBHOOK-HTTP-1`: no connection is opened to an unchecked address.
//! - `WEBHOOK-HTTP-2`: every attempt ends within its timeout. Reading an answer never takes more
//!   memory than the options allow.
//! - `WEBHOOK-HTTP-3`: failure reasons are shown to partners. They say nothing about this node or
//!   its network.
//!
//! The sender follows no redirects and reads no proxy settings. It does not judge answers:
//! `triggers-actors` does.

use crate::certificates::FileError;

pub use connector::{SystemTcp, TcpConnector};
pub use fault::UNSENT;
pub use sender::HttpSender;
pub use target::{Target, TargetPolicy};

mod addresses;
mod answer;
mod connector;
mod fault;
mod os_error;
mod pool;
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
    /// An entry of `delivery.allowed_targets` is not a network.
    #[error("delivery.allowed_targets: {network:?} must be a network, such as 10.1.0.0/16")]
    Network {
        /// The configured text.
        network: String,
    },
    /// The file of certificate authorities cannot be used.
    #[error(transparent)]
    CaFile(#[from] FileError),
    /// The TLS provider rejects its own default settings.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}
