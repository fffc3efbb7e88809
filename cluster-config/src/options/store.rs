//! Options of section `store`: where events are kept, and how many may wait to be written.
//!
//! One engine keeps them for a node that stands alone, the others in a database that the nodes of a cluster share. An
//! option of an engine that is not chosen is checked alone and has no effect.
//!
//! The embedded engine gathers waiting transactions into a group, and makes the group durable with one write to its log. What is
//! in the log is in memory as well until it is flushed into the data file. That file is mapped: the size of the map is address
//! space and an upper bound of the file, not memory that is taken.
//!
//! Invariant STORE-OPTIONS-1: no password is an option. The URL of PostgreSQL must not hold one, and a fault in the URL
//! does not quote it.
//!
//! It is not the place of what one inbox gathers before it commits: that is in section `broker`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Value;

use crate::field::{Bounds, FieldType, Kind};
use crate::rule::Rule;

/// Size of a page of the map: 4 KiB.
const PAGE_BYTES: u64 = 4_096;

/// What keeps the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreEngine {
    /// A file in `data_directory`, for a node that stands alone.
    #[default]
    Embedded,
    /// A PostgreSQL database, for the nodes of a cluster.
    Postgres,
    /// FoundationDB, for the nodes of a cluster.
    Foundationdb,
}

impl StoreEngine {
    /// The name that a configuration gives the engine.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Postgres => "postgres",
            Self::Foundationdb => "foundationdb",
        }
    }

    /// Whether several nodes use it at the same time, and so need section `cluster`.
    pub const fn is_shared(self) -> bool {
        !matches!(self, Self::Embedded)
    }
}

impl FieldType for StoreEngine {
    const KIND: Kind = Kind::Text;

    fn to_value(&self) -> Option<Value> {
        Some(Value::String(self.name().to_owned()))
    }
}

section! {
    /// Where events are kept.
    "store" => StoreOptions {
        /// What keeps the events. embedded: a file in data_directory, for a node that stands alone.
        /// postgres, foundationdb: a database that the nodes of a cluster share.
        engine: StoreEngine = StoreEngine::Embedded, Bounds::Choice(&[
            StoreEngine::Embedded.name(),
            StoreEngine::Postgres.name(),
            StoreEngine::Foundationdb.name(),
        ]);
        /// Directory of the embedded engine; it is made if it is not there. One node at a time can use it.
        data_directory: PathBuf = PathBuf::from("data"), Bounds::Described("a path");
        /// Size of the log of the embedded engine, in 24 segments that are made when they are needed. What waits in it is in memory
        /// too, with about a third on top, until it is in the data file; writers slow down from half of it on.
        log_bytes_max: u64 = 384 << 20, Bounds::Whole(1 << 20, 64 << 30);
        /// Size to which the data file of the embedded engine may grow. A multiple of 4_096; it may be raised later.
        map_bytes_max: u64 = 64 << 30, Bounds::Whole(16 << 20, 64 << 40);
        /// Transactions that wait to be written; more wait for a place, and are refused with 503 at their deadline.
        commit_queue_max: usize = 8_192, Bounds::Whole(1, 1_048_576);
        /// Size of the transactions that are made durable with one write.
        group_bytes_max: usize = 8 << 20, Bounds::Whole(1 << 16, 1 << 30);
        /// Transactions that are made durable with one write.
        group_transactions_max: usize = 1_024, Bounds::Whole(1, 65_536);
        /// Read transactions that are open at the same time.
        readers_max: u32 = 1_024, Bounds::Whole(1, 65_536);
        /// Database of the engine postgres, as libpq has it: postgresql://user@host:port/database, without a password.
        postgres_url: Option<String> = None, Bounds::Described("a URL without a password; empty: none");
        /// File with the password of the user of PostgreSQL, if the server asks for one. Read at start.
        postgres_password_file: Option<PathBuf> = None, Bounds::Described("a path; empty: none");
        /// Certificates, PEM, that the server of PostgreSQL may have its own from, besides the public authorities.
        postgres_ca_file: Option<PathBuf> = None, Bounds::Described("a path; empty: none");
        /// Connections to PostgreSQL for reading; a node has one more for writing. All nodes together must stay below the
        /// max_connections of the server.
        postgres_connections_max: usize = 32, Bounds::Whole(1, 10_000);
        /// Cluster file of the engine foundationdb. Without it: the default of the client.
        foundationdb_cluster_file: Option<PathBuf> = None, Bounds::Described("a path; empty: none");
    }
}

impl StoreOptions {
    /// A small map, short queues and groups, few connections.
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

/// What the declarations above cannot say.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        fields: &["store.data_directory"],
        broken: |options| {
            options
                .store
                .data_directory
                .as_os_str()
                .is_empty()
                .then(|| "must not be empty".to_owned())
        },
    },
    Rule {
        fields: &["store.map_bytes_max"],
        broken: |options| {
            let bytes = options.store.map_bytes_max;
            (!bytes.is_multiple_of(PAGE_BYTES))
                .then(|| format!("must be a multiple of 4_096, but is {bytes}"))
        },
    },
    Rule {
        fields: &["store.group_bytes_max", "store.map_bytes_max"],
        broken: |options| {
            let store = &options.store;
            (store.group_bytes_max as u64 > store.map_bytes_max).then(|| {
                "must be at most store.map_bytes_max: a larger group could not be written"
                    .to_owned()
            })
        },
    },
    Rule {
        fields: &["store.postgres_url", "store.engine"],
        broken: |options| {
            let StoreOptions { engine, postgres_url, .. } = &options.store;
            (*engine == StoreEngine::Postgres && postgres_url.is_none())
                .then(|| "must be set, since store.engine is postgres".to_owned())
        },
    },
    Rule {
        fields: &["store.postgres_url"],
        broken: |options| {
            options.store.postgres_url.as_deref().and_then(postgres_url_fault).map(str::to_owned)
        },
    },
];

/// What is wrong with a URL of PostgreSQL as far as it can be told here, or nothing. The engine reads the rest of it.
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
        .then_some("must not hold a password: put it into store.postgres_password_file")
}

#[cfg(test)]
mod tests {
    use super::postgres_url_fault;

    #[test]
    fn urls_without_a_password_are_taken() {
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
    fn a_password_and_another_scheme_are_refused_without_being_quoted() {
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
