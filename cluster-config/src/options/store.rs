//! Options of section `store`: the storage engine and its limits.
//!
//! The embedded engine stores events for a single node. The other engines use a database that the
//! nodes of a cluster share. An option of an engine that is not selected has no effect.
//!
//! The embedded engine makes a group of waiting transactions durable with one write to its log. The
//! contents of the log are also kept in memory until they are flushed into the data file. The data
//! file is memory-mapped: `map_bytes_max` reserves address space and bounds the file, but does not
//! allocate memory.
//!
//! Invariant `STORE-OPTIONS-1`: a password is never an option. The URL of PostgreSQL must not
//! contain one, and a fault in the URL does not quote it.

use crate::field::Bounds;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Size of a page of the data file.
const PAGE_BYTES: u64 = 4_096;

/// The storage engine of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreEngine {
    /// Files in `data_directory`, for a single node.
    #[default]
    Embedded,
    /// A PostgreSQL database that the nodes of a cluster share.
    Postgres,
    /// A FoundationDB cluster that the nodes of a cluster share.
    Foundationdb,
}

impl StoreEngine {
    /// Tests whether several nodes can share the store; they then need section `cluster`.
    pub const fn is_shared(self) -> bool {
        !matches!(self, Self::Embedded)
    }
}

section! {
    /// The storage engine and its limits.
    "store" => StoreOptions {
        /// embedded: files in data_directory, for a single node. postgres, foundationdb: a database
        /// that the nodes of a cluster share.
        engine: StoreEngine = StoreEngine::Embedded,
            Bounds::Choice(&["embedded", "postgres", "foundationdb"]);
        /// Directory of the embedded engine; it is created if missing. One node at a time uses it.
        data_directory: PathBuf = PathBuf::from("data"), Bounds::Described("a path");
        /// Size of the log of the embedded engine, in 24 segments that are created when needed.
        /// Transactions that are not yet in the data file are also held in memory, which takes
        /// about 4/3 of their size in the log. Writers are slowed down once half the log is used.
        log_bytes_max: u64 = 384 << 20, Bounds::Range(1 << 20, 64 << 30);
        /// Size to which the data file of the embedded engine may grow: a multiple of 4_096. It
        /// can be raised later.
        map_bytes_max: u64 = 64 << 30, Bounds::Range(16 << 20, 64 << 40);
        /// Transactions in the queue of the committer. Further ones wait to enter the queue; their
        /// requests are answered with 503 at the deadline.
        commit_queue_max: usize = 8_192, Bounds::Range(1, 1_048_576);
        /// Total size of the transactions that one write makes durable.
        group_bytes_max: usize = 8 << 20, Bounds::Range(1 << 16, 1 << 30);
        /// Number of transactions that one write makes durable.
        group_transactions_max: usize = 1_024, Bounds::Range(1, 65_536);
        /// Read transactions open at the same time.
        readers_max: u32 = 1_024, Bounds::Range(1, 65_536);
        /// Database of the engine postgres, in the form of libpq without a password:
        /// postgresql://user@host:port/database
        postgres_url: Option<String> = None,
            Bounds::Described("a URL without a password; empty: none");
        /// File with the password of the PostgreSQL user, read at start.
        postgres_password_file: Option<PathBuf> = None, Bounds::OPTIONAL_PATH;
        /// CA certificates in PEM that are trusted for the PostgreSQL server, besides public CAs.
        postgres_ca_file: Option<PathBuf> = None, Bounds::OPTIONAL_PATH;
        /// Connections to PostgreSQL for reading; a node opens one more for writing. The sum over
        /// all nodes must stay below max_connections of the server.
        postgres_connections_max: usize = 32, Bounds::Range(1, 10_000);
        /// Cluster file of the engine foundationdb. Defaults to that of the client library.
        foundationdb_cluster_file: Option<PathBuf> = None, Bounds::OPTIONAL_PATH;
    }
}

impl StoreOptions {
    /// A small data file, short queues, small groups and few connections.
    pub(crate) fn simulation() -> Self {
        Self {
            map_bytes_max: 16 << 20,
            log_bytes_max: 8 << 20,
            commit_queue_max: 16,
            group_bytes_max: 1 << 16,
            group_transactions_max: 8,
            readers_max: 16,
            postgres_connections_max: 4,
            ..Self::default()
        }
    }
}

rules! {
    ["store.data_directory"]
        |options| options.store.data_directory.as_os_str().is_empty()
        => "must not be empty";
    ["store.map_bytes_max"]
        |options| !options.store.map_bytes_max.is_multiple_of(PAGE_BYTES)
        => format!("must be a multiple of 4_096, but is {}", options.store.map_bytes_max);
    ["store.group_bytes_max", "store.map_bytes_max"]
        |options| options.store.group_bytes_max as u64 > options.store.map_bytes_max
        => "must be at most store.map_bytes_max: a larger group could not be written";
    ["store.postgres_url", "store.engine"]
        |options| options.store.engine == StoreEngine::Postgres
            && options.store.postgres_url.is_none()
        => "must be set, since store.engine is postgres";
    ["store.postgres_url"]
        |options| postgres_url_fault(options.store.postgres_url.as_deref()?).map(str::to_owned);
}

/// Describes a wrong scheme or a password in a PostgreSQL URL. The engine parses the rest.
fn postgres_url_fault(url: &str) -> Option<&'static str> {
    let rest = url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://"));
    let Some(rest) = rest else {
        return Some("must begin with postgresql:// or postgres://");
    };
    let in_credentials =
        rest.split_once('@').is_some_and(|(credentials, _)| credentials.contains(':'));
    let mut settings = rest.split_once('?').map_or("", |(_, settings)| settings).split('&');
    let in_settings = settings.any(|setting| setting.starts_with("password="));
    (in_credentials || in_settings)
        .then_some("must not contain a password: put it into store.postgres_password_file")
}

#[cfg(test)]
mod tests {
    use super::postgres_url_fault;

    #[test]
    fn urls_without_a_password_are_accepted() {
        let urls = [
            "postgresql://triggers@db.example:5432/triggers",
            "postgres://triggers@10.0.0.5/triggers?sslmode=require",
            "postgresql://db.example:5432/triggers",
            "postgresql:///triggers?host=/run/postgresql&application_name=a",
        ];
        for url in urls {
            assert_eq!(postgres_url_fault(url), None, "{url}");
        }
    }

    #[test]
    fn faults_of_urls_do_not_quote_the_password() {
        let urls = [
            "",
            "mysql://triggers@db/triggers",
            "host=db user=triggers password=s3cret",
            "postgresql://triggers:s3cret@db/triggers",
            "postgresql://triggers:@db/triggers",
            "postgres://triggers@db/triggers?sslmode=require&password=s3cret",
        ];
        for url in urls {
            let fault = postgres_url_fault(url).unwrap();
            assert!(!fault.contains("s3cret"), "{fault}");
        }
    }
}
