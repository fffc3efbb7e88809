//! Opens the storage engine that the options select.
//!
//! An engine that is not part of this build is rejected with the name of the option and the way to
//! build it.

use super::error::StartError;
use std::sync::Arc;
use triggers_cluster_config::{NodeOptions, StoreEngine};
use triggers_store::kv::Engine;
use triggers_store::kv::embedded::{EmbeddedEngine, EmbeddedOptions};

/// Opens the configured engine.
pub(super) async fn open(options: &NodeOptions) -> Result<Arc<dyn Engine>, StartError> {
    match options.store.engine {
        StoreEngine::Embedded => {
            let store = &options.store;
            let options = EmbeddedOptions {
                directory: store.data_directory.clone(),
                map_bytes_max: store.map_bytes_max,
                log_bytes_max: store.log_bytes_max,
                commit_queue_max: store.commit_queue_max,
                group_transactions_max: store.group_transactions_max,
                group_bytes_max: store.group_bytes_max,
                readers_max: store.readers_max,
            };
            Ok(Arc::new(EmbeddedEngine::open(&options)?))
        }
        #[cfg(feature = "postgres")]
        StoreEngine::Postgres => postgres(options).await,
        #[cfg(not(feature = "postgres"))]
        StoreEngine::Postgres => Err(not_built("PostgreSQL", "postgres")),
        #[cfg(feature = "foundationdb")]
        StoreEngine::Foundationdb => foundationdb(options).await,
        #[cfg(not(feature = "foundationdb"))]
        StoreEngine::Foundationdb => Err(not_built("FoundationDB", "foundationdb")),
    }
}

#[cfg(feature = "postgres")]
async fn postgres(options: &NodeOptions) -> Result<Arc<dyn Engine>, StartError> {
    use triggers_store::kv::postgres::{PostgresEngine, PostgresOpenError, PostgresOptions};
    let store = &options.store;
    let password = store.postgres_password_file.as_ref().map(|path| {
        let text = std::fs::read_to_string(path);
        text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|source| StartError::File { path: path.clone(), source })
    });
    let postgres = PostgresOptions {
        url: store.postgres_url.clone().unwrap_or_default(),
        password: password.transpose()?,
        ca_file: store.postgres_ca_file.clone(),
        connections_max: store.postgres_connections_max,
        commit_queue_max: store.commit_queue_max,
        group_transactions_max: store.group_transactions_max,
        group_bytes_max: store.group_bytes_max,
    };
    match PostgresEngine::open(&postgres).await {
        Ok(engine) => Ok(Arc::new(engine)),
        Err(PostgresOpenError::Options(reason)) => {
            Err(StartError::Option { field: "store.postgres_url", reason })
        }
        Err(error) => Err(StartError::Database(error.to_string())),
    }
}

#[cfg(feature = "foundationdb")]
async fn foundationdb(options: &NodeOptions) -> Result<Arc<dyn Engine>, StartError> {
    use triggers_store::kv::foundationdb::{
        FoundationEngine, FoundationOpenError, FoundationOptions,
    };
    let foundation = FoundationOptions::new(options.store.foundationdb_cluster_file.clone());
    match FoundationEngine::open(&foundation).await {
        Ok(engine) => Ok(Arc::new(engine)),
        Err(FoundationOpenError::Options(reason)) => {
            Err(StartError::Option { field: "store.foundationdb_cluster_file", reason })
        }
        Err(error) => Err(StartError::Database(error.to_string())),
    }
}

#[cfg(not(all(feature = "postgres", feature = "foundationdb")))]
fn not_built(what: &str, feature: &str) -> StartError {
    let reason = format!("this build has no {what}; build it with `--features {feature}`");
    StartError::Option { field: "store.engine", reason }
}
