//! The FoundationDB engine: a part of the key space of a cluster that nodes share.
//!
//! ```text
//! transaction ── reads ──▶ a native transaction; the client library has a network thread
//!      └─ commit ──▶ a task: the writes, one native commit, and a fence if the outcome is unknown
//! ```
//! Invariants:
//! - `FOUNDATION-1`: transactions are FoundationDB's own, with no option that weakens them, so the
//!   cluster provides `KV-1` and `KV-3`.
//! - `FOUNDATION-2`: a timeout of the client makes the outcome of a commit unknown, not failed.
//! - `FOUNDATION-3`: every wait for the cluster has a timeout.
//!
//! After a failure the caller begins a new transaction; the client's own retries are not used.
//! FoundationDB also counts conflict ranges and overhead per write, so it may reject a transaction
//! of very many small writes that other engines accept, with `LimitExceeded`. Building needs
//! libclang; linking and running need libfdb_c 7.1 or later.

mod commit;
mod error;
mod keys;
mod network;
mod transaction;

pub use error::FoundationOpenError;

use super::limits::TRANSACTION_MS_MAX;
use super::transaction::OverlayTransaction;
use super::{BoxFuture, Engine, StoreError, Transaction};
use foundationdb::options::DatabaseOption;
use foundationdb::{Database, FdbError, FdbResult};
use keys::Keyspace;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use transaction::FoundationTransaction;
use triggers_protocol::lock::lock;

/// Interval of health checks.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Where the client library searches for a cluster file.
const DEFAULT_CLUSTER_FILE: &str = "$FDB_CLUSTER_FILE, ./fdb.cluster or the system's default file";

/// Cluster, key prefix and timeouts.
#[derive(Debug, Clone)]
pub struct FoundationOptions {
    /// Path of the cluster file; `None` for the client library's default. The client rewrites the
    /// file when the coordinators change.
    pub cluster_file: Option<PathBuf>,
    /// Prefix of every key, at most 64 bytes. Stores share a cluster if no prefix begins another.
    pub prefix: Vec<u8>,
    /// Maximum milliseconds from the begin of a transaction to its last read and the begin of its
    /// commit, at most [`TRANSACTION_MS_MAX`]. Also bounds the wait for the cluster at the start.
    pub read_ms_max: u64,
    /// Milliseconds from the begin of a transaction after which the outcome of its commit is
    /// unknown. The answer then comes within five more seconds.
    pub commit_ms_max: u64,
}

impl FoundationOptions {
    /// Options with default limits.
    pub fn new(cluster_file: Option<PathBuf>) -> Self {
        Self {
            cluster_file,
            prefix: b"triggers/".to_vec(),
            read_ms_max: TRANSACTION_MS_MAX,
            commit_ms_max: 10_000,
        }
    }

    fn cluster_file_text(&self) -> Result<Option<&str>, FoundationOpenError> {
        let Some(path) = &self.cluster_file else { return Ok(None) };
        let rejected = |reason| {
            FoundationOpenError::Options(format!("the cluster file {}: {reason}", path.display()))
        };
        // The client's error would mention only the default file.
        std::fs::File::open(path).map_err(|error| rejected(error.to_string()))?;
        path.to_str().map(Some).ok_or_else(|| rejected("its path must be UTF-8".into()))
    }

    fn unusable(&self, failed: FdbError) -> FoundationOpenError {
        let path = self.cluster_file.as_ref().map(|path| path.display().to_string());
        FoundationOpenError::Connect {
            cluster_file: path.unwrap_or_else(|| DEFAULT_CLUSTER_FILE.into()),
            reason: error::text(failed),
        }
    }
}

/// The FoundationDB engine. Dropping it ends its health checks; commits in flight finish.
pub struct FoundationEngine {
    client: Arc<ClusterClient>,
    probe: JoinHandle<()>,
}

/// Connection that transactions, commits and health checks share.
struct ClusterClient {
    database: Database,
    keys: Keyspace,
    options: FoundationOptions,
    runtime: Handle,
    /// Reason why the last health check failed; `None` if it succeeded.
    down: Mutex<Option<String>>,
}

impl FoundationEngine {
    /// Starts the client, which the process shares, and waits until the cluster answers.
    ///
    /// # Errors
    /// [`FoundationOpenError`] if the options are invalid, or the cluster does not answer within
    /// [`FoundationOptions::read_ms_max`].
    pub async fn open(options: &FoundationOptions) -> Result<Self, FoundationOpenError> {
        let client = Arc::new(ClusterClient::connect(options)?);
        client.check().await.map_err(|failed| options.unusable(failed))?;
        let probe = tokio::spawn(client.clone().probe());
        Ok(Self { client, probe })
    }
}

impl Drop for FoundationEngine {
    fn drop(&mut self) {
        self.probe.abort();
    }
}

impl Engine for FoundationEngine {
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        let transaction = FoundationTransaction::new(self.client.clone());
        Box::pin(std::future::ready(transaction.map(OverlayTransaction::boxed)))
    }

    /// Result of the last health check, a read: a cluster without writes gives no read versions.
    fn health(&self) -> Result<(), StoreError> {
        let down = lock(&self.client.down);
        down.as_ref().map_or(Ok(()), |reason| Err(StoreError::Retryable(reason.clone())))
    }
}

impl ClusterClient {
    /// Opens everything that does not need an answer of the cluster.
    fn connect(options: &FoundationOptions) -> Result<Self, FoundationOpenError> {
        let keys = Keyspace::new(&options.prefix)?;
        let cluster_file = options.cluster_file_text()?;
        network::start()?;
        let database = Database::new(cluster_file).map_err(|failed| options.unusable(failed))?;
        let options = FoundationOptions {
            read_ms_max: options.read_ms_max.min(TRANSACTION_MS_MAX),
            ..options.clone()
        };
        database
            .set_option(DatabaseOption::TransactionTimeout(millis(options.read_ms_max)))
            .map_err(|failed| options.unusable(failed))?;
        Ok(Self { database, keys, options, runtime: Handle::current(), down: Mutex::new(None) })
    }

    /// Checks whether the cluster answers; retries until the transaction's timeout.
    async fn check(&self) -> FdbResult<()> {
        let mut transaction = self.database.create_trx()?;
        loop {
            let Err(failed) = transaction.get(&self.keys.probe(), true).await else {
                return Ok(());
            };
            // If retrying does not help, the first error says more than the timeout.
            transaction = transaction.on_error(failed).await.map_err(|_| failed)?;
        }
    }

    /// Runs the health checks.
    async fn probe(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PROBE_INTERVAL).await;
            self.note(self.check().await.err().map(error::text));
        }
    }

    /// Records the result of a health check.
    fn note(&self, failed: Option<String>) {
        let mut down = lock(&self.down);
        match (&failed, &*down) {
            (Some(error), None) => {
                tracing::error!(error, "the FoundationDB cluster cannot be used")
            }
            (None, Some(_)) => tracing::info!("the FoundationDB cluster can be used again"),
            _ => {}
        }
        *down = failed;
    }
}

/// A timeout for the client, to which 0 means none.
fn millis(ms: u64) -> i32 {
    i32::try_from(ms.max(1)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses the client directly, because an engine would not open.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn waits_for_an_absent_cluster_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nobody:listens@127.0.0.1:9\n").unwrap();
        let options = FoundationOptions {
            read_ms_max: 200,
            commit_ms_max: 400,
            ..FoundationOptions::new(Some(file.path().to_owned()))
        };
        let client = Arc::new(ClusterClient::connect(&options).unwrap());
        let begin =
            || OverlayTransaction::boxed(FoundationTransaction::new(client.clone()).unwrap());
        let case = async {
            let error = begin().get(b"a").await.unwrap_err();
            assert!(matches!(error, StoreError::Retryable(_)), "{error}");
            let mut open = begin();
            open.set(b"a", b"1");
            let error = open.commit().await.unwrap_err();
            assert!(matches!(error, StoreError::MaybeCommitted(_)), "{error}");
            client.note(client.check().await.err().map(error::text));
            assert!(client.down.lock().unwrap().is_some());
        };
        tokio::time::timeout(Duration::from_secs(60), case).await.expect("the waits end");
    }
}
