//! Tenant ids. A tenant is the unit of isolation and of the order of events.
//!
//! Invariant `TENANT-1`: an id has 1 to 63 characters of `[a-z0-9_-]` and starts with a letter or
//! digit. It contains no zero byte. A store key ends the id with a zero byte, so that no encoded id
//! is a prefix of another.

use crate::Malformed;
use bincode::{Decode, Encode};
use std::sync::Arc;

/// The id of a tenant. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// Parses a tenant id.
    ///
    /// # Errors
    /// [`Malformed`] if the text violates `TENANT-1`.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let first_fits =
            text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !first_fits || text.len() > 63 || !text.bytes().all(allowed) {
            return Err(Malformed(
                "must be 1 to 63 characters of a-z, 0-9, '_' and '-', \
                 starting with a letter or digit"
                    .into(),
            ));
        }
        Ok(Self(text.into()))
    }

    /// Creates an id from 10 random bytes: `t` and 20 hexadecimal digits.
    pub fn from_random(bytes: [u8; 10]) -> Self {
        let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        Self(format!("t{digits}").into())
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

crate::text_form::text_form!(TenantId, |id| &id.0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_ids_are_accepted() {
        for good in ["a", "dev", "t0", "acme-corp_2", &"a".repeat(63)] {
            assert_eq!(TenantId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "A", "-a", "_a", "a b", "a\0", "é", &"a".repeat(64)] {
            assert!(TenantId::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(TenantId::parse(TenantId::from_random([255; 10]).as_str()).is_ok());
    }
}
