//! Why a node did not start, or why it ended.
//!
//! Invariant: the message says what the operator can do; it is the only thing that most of them see.

use crate::http::tls::TlsError;
use crate::webhook::SenderError;
use std::net::SocketAddr;
use std::path::PathBuf;
use triggers_store::kv::embedded::OpenError;
use triggers_store::tables::TableError;

/// A failed start, or a fatal end.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A value can be judged only by the part that uses it.
    #[error("{field}: {reason}")]
    Option {
        /// The field, or the environment variable.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The way of webhooks cannot be set up as the options say.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another node running?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The data directory cannot be opened.
    #[error(transparent)]
    DataDirectory(#[from] OpenError),
    /// The database cannot be used.
    #[error("the store's database: {0}")]
    Database(String),
    /// The actors did not start.
    #[error("the node did not start: {0}")]
    Node(#[from] triggers_actors::StartError),
    /// The first tenant or key could not be made.
    #[error("the first keys could not be made: {0}")]
    FirstKeys(#[from] TableError),
    /// Nobody could use the node.
    #[error(
        "there is no admin key: set TRIGGERS_ADMIN_KEY or admin.key_file to a key of your own, \
         made by `triggers keys generate`"
    )]
    NoAdminKey,
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Logs or metrics could not be set up.
    #[error("telemetry: {0}")]
    Telemetry(String),
    /// The running node gave up.
    #[error("the node has ended: {0}")]
    Fatal(String),
}
