//! Errors of starting and running a node. Messages tell the operator what to do.

use crate::http::tls::TlsError;
use crate::webhook::SenderError;
use std::net::SocketAddr;
use std::path::PathBuf;
use triggers_actors::model::TableError;
use triggers_store::kv::embedded::OpenError;

/// A failed start or a fatal end of a node.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An option value was rejected by the part that uses it.
    #[error("{field}: {reason}")]
    Option {
        /// Name of the option or environment variable.
        field: &'static str,
        /// What is wrong with the value.
        reason: String,
    },
    /// The certificate or its private key is unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The webhook sender cannot be set up with these options.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// A listener cannot be bound.
    #[error("cannot listen on {address}: {source}; is another node running?")]
    Listen {
        /// Address of the listener.
        address: SocketAddr,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The data directory cannot be opened.
    #[error(transparent)]
    DataDirectory(#[from] OpenError),
    /// The database of the store cannot be used.
    #[error("the store's database: {0}")]
    Database(String),
    /// The actors did not start.
    #[error("the node did not start: {0}")]
    Node(#[from] triggers_actors::StartError),
    /// The first tenant or key could not be created.
    #[error("the first keys could not be created: {0}")]
    FirstKeys(#[from] TableError),
    /// Neither the store nor the configuration has an admin key.
    #[error(
        "there is no admin key: set TRIGGERS_ADMIN_KEY or admin.key_file to a key made by \
         `triggers keys generate`"
    )]
    NoAdminKey,
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// Logs or metrics could not be set up.
    #[error("telemetry: {0}")]
    Telemetry(String),
    /// The running node stopped because of a fault.
    #[error("the node has ended: {0}")]
    Fatal(String),
}
