//! Scopes: the permissions of an API key.
//!
//! Invariants:
//! - `SCOPE-1`: `admin` includes every other scope.
//! - `SCOPE-2`: a set of scopes is printed in a fixed order.

use crate::Malformed;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

crate::text_form::named_enum! {
    /// A permission of a key.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
    pub enum Scope {
        /// Post events to the inbox.
        #[serde(rename = "events:write")]
        EventsWrite = "events:write",
        /// List the inbox, and read events and statistics.
        #[serde(rename = "inbox:read")]
        InboxRead = "inbox:read",
        /// Acknowledge and delete events.
        #[serde(rename = "inbox:ack")]
        InboxAck = "inbox:ack",
        /// Manage the tenant's subscriptions.
        #[serde(rename = "subscriptions:manage")]
        SubscriptionsManage = "subscriptions:manage",
        /// Manage the tenant's keys.
        #[serde(rename = "keys:manage")]
        KeysManage = "keys:manage",
        /// Every operation, for all tenants.
        #[serde(rename = "admin")]
        Admin = "admin",
    }
}

impl Scope {
    /// Parses a scope as written in JSON.
    ///
    /// # Errors
    /// [`Malformed`] with the list of scopes.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| {
            Malformed(format!("must be one of {}", Self::ALL.map(Self::as_str).join(", ")))
        })
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Scopes(u16);

impl Scopes {
    /// The default scopes of a tenant's key: all except `admin`.
    pub fn tenant_default() -> Self {
        Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).collect()
    }

    /// Tests whether the set includes `scope` or `admin`.
    pub fn allows(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u16) != 0 || self.0 & (1 << Scope::Admin as u16) != 0
    }

    /// Tests whether this set allows every scope of `other`.
    pub fn covers(self, other: Scopes) -> bool {
        other.iter().all(|scope| self.allows(scope))
    }

    /// The scopes of the set, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & (1 << *scope as u16) != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | (1 << scope as u16)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_includes_everything_and_names_parse_back() {
        let admin: Scopes = [Scope::Admin].into_iter().collect();
        assert!(admin.covers(Scope::ALL.into_iter().collect()));
        assert!(!Scopes::tenant_default().allows(Scope::Admin));
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()).unwrap(), scope);
            assert_eq!(serde_json::json!(scope), scope.as_str());
        }
        assert!(Scope::parse("root").is_err());
    }
}
