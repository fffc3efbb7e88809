//! A backup of the store, made by the node into a directory of its machine.
//!
//! `POST /v1/store/backup` with `{"directory": "/absolute/path"}` begins one, `GET` tells how it goes. Invariants: `ADMIN-BACKUP-1`
//! there is one at a time; `ADMIN-BACKUP-2` a directory that is not empty is refused, and nothing of it is changed.

use crate::http::edge::EdgeState;
use crate::http::error::ApiError;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use triggers_protocol::ErrorCode;

/// The backup that runs, or the last one.
#[derive(Debug, Clone, Default)]
pub struct Backups(Arc<Mutex<Backup>>);

/// How a backup goes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Backup {
    /// There was none since the node has started.
    #[default]
    None,
    /// It is being made.
    Running {
        /// Where.
        directory: PathBuf,
    },
    /// It was made.
    Done {
        /// Where.
        directory: PathBuf,
        /// Pairs that were copied.
        pairs: u64,
        /// Bytes of their keys and values.
        bytes: u64,
    },
    /// It could not be made.
    Failed {
        /// Where.
        directory: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The body of a request.
#[derive(Debug, Serialize, Deserialize)]
pub struct BackupRequest {
    /// Directory on the node's machine: empty, or not there yet.
    pub directory: PathBuf,
}

impl Backups {
    fn lock(&self) -> MutexGuard<'_, Backup> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers with the state of the latest backup.
pub(super) async fn get_backup(State(backups): State<Backups>) -> Json<Backup> {
    Json(backups.lock().clone())
}

/// Begins a backup.
pub(super) async fn post_backup(
    State(backups): State<Backups>,
    State(edge): State<EdgeState>,
    body: Bytes,
) -> Result<(StatusCode, Json<Backup>), ApiError> {
    let BackupRequest { directory } = serde_json::from_slice(&body).map_err(|error| {
        if error.is_data() {
            ApiError::validation("directory", "must be a string")
        } else {
            ApiError::new(ErrorCode::InvalidJson, "the body must be JSON")
        }
    })?;
    if !directory.is_absolute() {
        return Err(ApiError::validation("directory", "must be an absolute path"));
    }
    let running = Backup::Running { directory: directory.clone() };
    {
        let mut backup = backups.lock();
        if matches!(*backup, Backup::Running { .. }) {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                "a backup is being made; wait for its end",
            ));
        }
        *backup = running.clone();
    }
    let store = edge.store.clone();
    tokio::spawn(async move {
        let copied = store.backup(directory.clone()).await;
        *backups.lock() = match copied {
            Ok(copied) => {
                tracing::info!(directory = %directory.display(), pairs = copied.pairs, bytes = copied.bytes, "backup made");
                Backup::Done { directory, pairs: copied.pairs, bytes: copied.bytes }
            }
            Err(error) => {
                tracing::error!(directory = %directory.display(), %error, "backup failed");
                Backup::Failed { directory, reason: error.to_string() }
            }
        };
    });
    Ok((StatusCode::ACCEPTED, Json(running)))
}
