//! The PostgreSQL engine: one table of keys and values in a database that nodes share.
//!
//! ```text
//! transaction ── reads ──▶ snapshot on a pooled connection (REPEATABLE READ, read only)
//!      └─ commit ──▶ queue ──▶ committer: groups commits ──▶ commit_v1 in the database: check the
//!                              reads, apply the writes, one durable commit, one round trip
//! ```
//! Invariants:
//! - `POSTGRES-1`: groups commit one after the other. Each holds one lock for its checks and
//!   writes, so its transactions are serialized there. Only the server holds the lock, never while
//!   it waits for a node.
//! - `POSTGRES-2`: a commit is answered once the server has made it durable. A server with `fsync`
//!   or `full_page_writes` off is rejected.
//! - `POSTGRES-3`: every wait for the server has a timeout.
//!
//! Conflicts are found by value: a value that changed and changed back is no conflict. (The
//! embedded engine finds them by sequence.) docs/adr/0009-postgresql-commits-in-groups.md explains
//! why the engine does not use `SERIALIZABLE`. The engine creates its table and functions
//! (`schema.sql`); it does not manage servers, backups or replicas.

mod committer;
mod error;
mod group;
mod snapshot;
mod transaction;

pub use error::PostgresOpenError;

use super::transaction::OverlayTransaction;
use super::{BoxFuture, Engine, StoreError, Transaction};
use deadpool_postgres::{Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use group::PendingCommit;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use transaction::PostgresTransaction;
use triggers_protocol::lock::lock;

/// Maximum wait for any answer of the server. Statements of the engine end after half of that.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum wait for a connection from the pool or a new one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Settings of every connection. Each statement looks up or walks the primary key, so no other
/// query plan is ever right. Statements end before the node stops waiting for them; so do
/// transactions of a node that froze.
const SETTINGS: &str = "-c default_transaction_isolation=read\\ committed -c synchronous_commit=on \
    -c statement_timeout=5000 -c idle_in_transaction_session_timeout=10000 -c enable_seqscan=off \
    -c enable_bitmapscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off";
const SCHEMA: &str = include_str!("postgres/schema.sql");

/// Address of the database, and limits.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// libpq URL without the password: `postgresql://user@host:port/database?sslmode=…`. Without
    /// `sslmode`, a server on another machine must use TLS.
    pub url: String,
    /// Password of the user, if the server asks for one.
    pub password: Option<String>,
    /// PEM file of certificate authorities to trust besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// Maximum number of connections for reading, and so of transactions that read at once.
    pub connections_max: usize,
    /// Commits that may wait for the committer; further callers wait to enqueue theirs.
    pub commit_queue_max: usize,
    /// Maximum number of commits in one group.
    pub group_transactions_max: usize,
    /// Approximate maximum bytes of one group.
    pub group_bytes_max: usize,
}

impl PostgresOptions {
    fn config(&self) -> Result<Config, PostgresOpenError> {
        let mut config: Config = self.url.parse().map_err(|failed| {
            PostgresOpenError::Options(format!("the URL: {}", error::text(&failed)))
        })?;
        if config.get_password().is_some() {
            return Err(PostgresOpenError::Options("the URL must not hold the password".into()));
        }
        if !self.url.contains("sslmode=") {
            config.ssl_mode(if is_local(&config) { SslMode::Disable } else { SslMode::Require });
        }
        if let Some(password) = &self.password {
            config.password(password);
        }
        let settings =
            config.get_options().map_or(SETTINGS.to_owned(), |own| format!("{own} {SETTINGS}"));
        config
            .options(settings)
            .application_name("triggers")
            .target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(TIMEOUT)
            .keepalives_idle(TIMEOUT);
        Ok(config)
    }

    fn tls(&self) -> Result<MakeRustlsConnect, PostgresOpenError> {
        let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = &self.ca_file {
            let failed = |reason: String| {
                PostgresOpenError::Options(format!("{}: {reason}", path.display()))
            };
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                roots.add(certificate).map_err(|error| failed(error.to_string()))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| PostgresOpenError::Options(error.to_string()))?;
        Ok(MakeRustlsConnect::new(builder.with_root_certificates(roots).with_no_client_auth()))
    }
}

fn is_local(config: &Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    })
}

/// The PostgreSQL engine. Dropping it finishes queued commits in the background.
pub struct PostgresEngine {
    pools: Arc<PostgresPools>,
    commits: mpsc::Sender<PendingCommit>,
}

/// Connections that transactions and the committer share.
struct PostgresPools {
    readers: Pool,
    committers: Pool,
    runtime: Handle,
    /// Reason why the last request failed; `None` if it succeeded.
    down: Mutex<Option<String>>,
}

impl PostgresEngine {
    /// Connects, checks that the server is durable, and creates the table and functions.
    ///
    /// # Errors
    /// [`PostgresOpenError`] if the options or the server are not usable.
    pub async fn open(options: &PostgresOptions) -> Result<Self, PostgresOpenError> {
        let readers = pool(options, options.connections_max)?;
        let pools = Arc::new(PostgresPools {
            readers,
            committers: pool(options, 1)?,
            runtime: Handle::current(),
            down: Mutex::new(None),
        });
        prepare(&pools).await?;
        let (commits, queue) = mpsc::channel(options.commit_queue_max);
        tokio::spawn(committer::run(pools.clone(), queue, options.clone()));
        Ok(Self { pools, commits })
    }
}

fn pool(options: &PostgresOptions, size: usize) -> Result<Pool, PostgresOpenError> {
    let config = options.config()?;
    // Hosts are tried one after the other.
    let create_timeout =
        CONNECT_TIMEOUT * u32::try_from(config.get_hosts().len().max(1)).unwrap_or(u32::MAX);
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = if config.get_ssl_mode() == SslMode::Disable {
        Manager::from_config(config, NoTls, recycling)
    } else {
        Manager::from_config(config, options.tls()?, recycling)
    };
    let builder = Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(CONNECT_TIMEOUT))
        .create_timeout(Some(create_timeout))
        .recycle_timeout(Some(CONNECT_TIMEOUT));
    builder.build().map_err(|error| PostgresOpenError::Options(error.to_string()))
}

/// Checks the server's settings and creates the schema.
async fn prepare(pools: &PostgresPools) -> Result<(), PostgresOpenError> {
    let failed =
        |error: &(dyn std::error::Error + 'static)| PostgresOpenError::Connect(error::text(error));
    let client = pools.committers.get().await.map_err(|error| failed(&error))?;
    for setting in ["fsync", "full_page_writes"] {
        let row = client
            .query_one(&format!("SHOW {setting}"), &[])
            .await
            .map_err(|error| failed(&error))?;
        if row.try_get::<_, &str>(0).map_err(|error| failed(&error))? != "on" {
            return Err(PostgresOpenError::NotDurable(format!("{setting} is off")));
        }
    }
    // Under a lock, because two nodes that create the same function at once would fail.
    let schema = format!("SELECT pg_advisory_xact_lock(7310302157342270837);\n{SCHEMA}");
    client.batch_execute(&schema).await.map_err(|error| failed(&error))
}

impl Engine for PostgresEngine {
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        let transaction = PostgresTransaction::new(self.pools.clone(), self.commits.downgrade());
        Box::pin(std::future::ready(Ok(OverlayTransaction::boxed(transaction))))
    }

    fn health(&self) -> Result<(), StoreError> {
        let down = lock(&self.pools.down);
        down.as_ref().map_or(Ok(()), |reason| Err(StoreError::Retryable(reason.clone())))
    }
}

impl PostgresPools {
    /// Checks whether the database answers, and records the result.
    async fn probe(&self) {
        let answered = async {
            let client = self.committers.get().await.map_err(|failed| self.unreachable(&failed))?;
            client.batch_execute("").await.map_err(|failed| error::of_read(&failed))
        };
        let outcome = timeout(TIMEOUT, answered).await;
        let outcome = outcome.unwrap_or_else(|_| {
            Err(StoreError::Retryable("the database did not answer in time".into()))
        });
        self.note(outcome.as_ref().err());
    }

    /// Records the result of the last request. A rejected commit counts as an answer.
    fn note(&self, failed: Option<&StoreError>) {
        let mut down = lock(&self.down);
        match (failed, &*down) {
            (Some(error), None) => tracing::error!(%error, "the database cannot be used"),
            (None, Some(_)) => tracing::info!("the database can be used again"),
            _ => {}
        }
        *down = failed.map(ToString::to_string);
    }

    /// The error for a failed connection: nothing was sent.
    fn unreachable(&self, failed: &PoolError) -> StoreError {
        StoreError::Retryable(format!("no connection to the database: {}", error::text(failed)))
    }
}
