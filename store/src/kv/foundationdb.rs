//! The FoundationDB engine: a part of the key space of a cluster that nodes share.
//!
//! ```text
//! transaction ── reads ──▶ a native transaction; its client library asks the cluster on a thread of its own
//!      └─ commit ──▶ a task: the writes, one native commit, and a fence if the outcome is not known
//! ```
//! Invariants: `FOUNDATION-1` transactions are FoundationDB's own, with no option that loosens them, so that `KV-1` and `KV-3`
//! are the cluster's; `FOUNDATION-2` a commit is never given up from here: a timeout inside the client makes it unknown,
//! never failed; `FOUNDATION-3` every wait for the cluster ends, whether the cluster is there or not.
//! After a failure the caller begins a new transaction: the client's own retries and their waits are not used for it.
//! It counts bytes as the other engines do. FoundationDB also counts conflict ranges and some bytes for each write, so it
//! may refuse a transaction of very many small writes that other engines take; that is `LimitExceeded` as well.
//! It manages no cluster; to build it takes libclang, to link and run it libfdb_c, 7.1 or later.

mod commit;
mod error;
mod keys;
mod network;
mod transaction;

pub use error::FoundationOpenError;

use super::limits::TRANSACTION_MS_MAX;
use super::{BoxFuture, Engine, StoreError, Transaction};
use foundationdb::options::DatabaseOption;
use foundationdb::{Database, FdbError, FdbResult};
use keys::Keyspace;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use transaction::FoundationTransaction;

/// Time between two questions whether the cluster is there.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Where the client library looks when it is given no file.
const DEFAULT_CLUSTER_FILE: &str = "$FDB_CLUSTER_FILE, ./fdb.cluster or the system's default file";

/// Which cluster, which part of it, and how long to wait.
#[derive(Debug, Clone)]
pub struct FoundationOptions {
    /// The cluster file; none for the client library's default. The client writes to it when the coordinators change.
    pub cluster_file: Option<PathBuf>,
    /// What every key begins with, 64 bytes at most: stores with other prefixes, none of which begins with another one,
    /// can be in the same cluster.
    pub prefix: Vec<u8>,
    /// Time from the begin of a transaction to its last read and the begin of its commit, in milliseconds;
    /// [`TRANSACTION_MS_MAX`] if that is less. It also ends the wait for the cluster's first answer.
    pub read_ms_max: u64,
    /// Time from the begin of a transaction to the outcome of its commit, in milliseconds; after it the outcome is not
    /// known, and the answer comes within five more seconds.
    pub commit_ms_max: u64,
}

impl FoundationOptions {
    /// Default limits for a cluster.
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
        let refused = |reason| {
            FoundationOpenError::Options(format!("the cluster file {}: {reason}", path.display()))
        };
        // The library would say only that there is no default one.
        std::fs::File::open(path).map_err(|error| refused(error.to_string()))?;
        path.to_str().map(Some).ok_or_else(|| refused("its path is not UTF-8".into()))
    }

    fn unusable(&self, failed: FdbError) -> FoundationOpenError {
        let path = self.cluster_file.as_ref().map(|path| path.display().to_string());
        FoundationOpenError::Connect {
            cluster_file: path.unwrap_or_else(|| DEFAULT_CLUSTER_FILE.into()),
            reason: error::text(failed),
        }
    }
}

/// The engine. Dropping it ends its probe; commits on their way come to their end in the background.
pub struct FoundationEngine {
    client: Arc<ClusterClient>,
    probe: JoinHandle<()>,
}

/// What transactions, commits and the probe have in common.
struct ClusterClient {
    database: Database,
    keys: Keyspace,
    options: FoundationOptions,
    runtime: Handle,
    /// Why the last question to the cluster had no answer.
    down: Mutex<Option<String>>,
}

impl FoundationEngine {
    /// Starts the client, which all engines of the process share, and waits until the cluster answers.
    ///
    /// # Errors
    /// [`FoundationOpenError`] if the options cannot be used, or the cluster does not answer within
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
        Box::pin(std::future::ready(
            transaction.map(|begun| Box::new(begun) as Box<dyn Transaction>),
        ))
    }

    /// Whether the cluster has answered the last question. A cluster that takes no writes answers no reads either: it
    /// gives out no read versions.
    fn health(&self) -> Result<(), StoreError> {
        let down = self.client.down.lock().unwrap_or_else(PoisonError::into_inner);
        down.as_ref().map_or(Ok(()), |reason| Err(StoreError::Retryable(reason.clone())))
    }
}

impl ClusterClient {
    /// Everything of an engine but the cluster's answer.
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

    /// Asks whether the cluster is there, again while that can help, until the timeout of the transaction.
    async fn check(&self) -> FdbResult<()> {
        let mut transaction = self.database.create_trx()?;
        loop {
            let Err(failed) = transaction.get(&self.keys.probe(), true).await else {
                return Ok(());
            };
            // When that does not help, the first failure says more than the timeout.
            transaction = transaction.on_error(failed).await.map_err(|_| failed)?;
        }
    }

    /// Asks for ever.
    async fn probe(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PROBE_INTERVAL).await;
            self.note(self.check().await.err().map(error::text));
        }
    }

    /// Remembers how the last question went.
    fn note(&self, failed: Option<String>) {
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
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

/// A timeout as the client takes it, where 0 would be none.
fn millis(ms: u64) -> i32 {
    i32::try_from(ms.max(1)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine would not open on it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_wait_for_a_cluster_that_is_not_there_ends() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nobody:listens@127.0.0.1:9\n").unwrap();
        let options = FoundationOptions {
            read_ms_max: 200,
            commit_ms_max: 400,
            ..FoundationOptions::new(Some(file.path().to_owned()))
        };
        let client = Arc::new(ClusterClient::connect(&options).unwrap());
        let begin = || Box::new(FoundationTransaction::new(client.clone()).unwrap());
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
