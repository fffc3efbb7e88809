//! Backups of the store, written by the node into a directory of its machine.
//!
//! `POST /v1/store/backup` with `{"directory": "/absolute/path"}` starts one; `GET` returns its
//! state.
//!
//! - `ADMIN-BACKUP-1`: one backup runs at a time.
//! - `ADMIN-BACKUP-2`: a directory that is not empty is rejected and left unchanged.

use crate::http::error::ApiError;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use triggers_protocol::ErrorCode;
use triggers_protocol::lock::lock;
use triggers_store::kv::Store;

/// The running or latest backup; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Backups(Arc<Mutex<Backup>>);

/// State of a backup.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Backup {
    /// No backup was requested since the node started.
    #[default]
    None,
    /// The backup is being written.
    Running {
        /// Target directory of the backup.
        directory: PathBuf,
    },
    /// The backup is complete.
    Done {
        /// Target directory of the backup.
        directory: PathBuf,
        /// Number of copied key-value pairs.
        pairs: u64,
        /// Total size of keys and values in bytes.
        bytes: u64,
    },
    /// The backup failed.
    Failed {
        /// Target directory of the backup.
        directory: PathBuf,
        /// Reason of the failure.
        reason: String,
    },
}

/// Request body of `POST /v1/store/backup`.
#[derive(Debug, Serialize, Deserialize)]
pub struct BackupRequest {
    /// Absolute path on the machine of the node; empty or not yet existing.
    pub directory: PathBuf,
}

impl Backups {
    /// The running or latest backup.
    pub(super) fn latest(&self) -> Backup {
        lock(&self.0).clone()
    }

    /// Starts a backup of `store` into `directory`.
    pub(super) fn start(&self, store: Store, directory: PathBuf) -> Result<Backup, ApiError> {
        if !directory.is_absolute() {
            return Err(ApiError::validation("directory", "must be an absolute path"));
        }
        let running = Backup::Running { directory: directory.clone() };
        let mut backup = lock(&self.0);
        if matches!(*backup, Backup::Running { .. }) {
            let message = "a backup is running; wait until it ends";
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        *backup = running.clone();
        tokio::spawn(self.clone().run(store, directory));
        Ok(running)
    }

    async fn run(self, store: Store, directory: PathBuf) {
        let copied = store.backup(directory.clone()).await;
        *lock(&self.0) = match copied {
            Ok(copied) => {
                let (pairs, bytes) = (copied.pairs, copied.bytes);
                tracing::info!(directory = %directory.display(), pairs, bytes, "backup complete");
                Backup::Done { directory, pairs, bytes }
            }
            Err(error) => {
                tracing::error!(directory = %directory.display(), %error, "backup failed");
                Backup::Failed { directory, reason: error.to_string() }
            }
        };
    }
}
