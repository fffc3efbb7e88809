//! What is fixed for a whole store when it is created: the number of partitions and the secret that signs cursors.
//!
//! Invariant: `SETTINGS-1` neither ever changes: tenants would move to other partitions, and cursors would end.

use super::{TableError, keys};
use crate::kv::{Fault, StoreError, Transaction};

/// The settings of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// How many partitions there are.
    pub partitions: u16,
    /// Signs cursors.
    pub cursor_secret: [u8; 32],
}

/// Gives the store's settings; a new store takes the ones proposed.
///
/// # Errors
/// [`TableError::Store`]; `Corrupt` if what is stored has another form.
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
    StoreError::fatal(Fault::Corrupt, "the store's settings are incomplete").into()
}
