//! The name of a tenant: the unit of isolation, ordering and ownership.
//!
//! Invariant: `TENANT-1` 1 to 63 characters of `[a-z0-9_-]`, the first a letter or digit. No tenant id therefore
//! contains the zero byte that ends it inside a store key, and none is a prefix of another once so ended.

use crate::Malformed;
use bincode::{Decode, Encode};
use std::sync::Arc;

/// A tenant's id; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// Checks and takes a tenant id.
    ///
    /// # Errors
    /// [`Malformed`] if `TENANT-1` does not hold.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let first_fits =
            text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !first_fits || text.len() > 63 || !text.bytes().all(allowed) {
            return Err(Malformed(
                "must be 1 to 63 characters of a-z, 0-9, '_' and '-', starting with a letter or digit".into(),
            ));
        }
        Ok(Self(text.into()))
    }

    /// An id made from 10 random bytes: `t` and 20 hexadecimal digits.
    pub fn from_random(bytes: [u8; 10]) -> Self {
        let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        Self(format!("t{digits}").into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for TenantId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for TenantId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_slugs_and_refuses_the_rest() {
        for good in ["a", "dev", "t0", "acme-corp_2", &"a".repeat(63)] {
            assert_eq!(TenantId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "A", "-a", "_a", "a b", "a\0", "é", &"a".repeat(64)] {
            assert!(TenantId::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(TenantId::parse(TenantId::from_random([255; 10]).as_str()).is_ok());
    }
}
