//! Settings of a store, written when it is created: the number of partitions and a secret.
//!
//! - `SETTINGS-1`: no setting ever changes: tenants keep their partitions, cursors stay valid.

use super::{TableError, keys};
use crate::kv::{Fault, StoreError, Transaction};

/// The settings of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// Number of partitions.
    pub partitions: u16,
    /// Secret that signs cursors.
    pub cursor_secret: [u8; 32],
}

/// Reads the store's settings, or stores the proposed ones if the store is new.
///
/// # Errors
/// [`TableError::Store`], with the fault `Corrupt` if the settings are incomplete or malformed.
pub async fn create_or_get(
    tx: &mut dyn Transaction,
    proposed: &StoreSettings,
) -> Result<StoreSettings, TableError> {
    let stored = (tx.get(keys::PARTITIONS).await?, tx.get(keys::CURSOR_SECRET).await?);
    let (partitions, secret) = match stored {
        (Some(partitions), Some(secret)) => (partitions, secret),
        (None, None) => {
            tx.set(keys::PARTITIONS, &proposed.partitions.to_be_bytes());
            tx.set(keys::CURSOR_SECRET, &proposed.cursor_secret);
            return Ok(proposed.clone());
        }
        _ => return Err(corrupt()),
    };
    Ok(StoreSettings {
        partitions: u16::from_be_bytes(partitions[..].try_into().map_err(|_| corrupt())?),
        cursor_secret: secret[..].try_into().map_err(|_| corrupt())?,
    })
}

fn corrupt() -> TableError {
    StoreError::fatal(Fault::Corrupt, "the store's settings are incomplete or malformed").into()
}
