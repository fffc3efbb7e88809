//! Permissions as types, so that a handler's signature says what a key needs.
//!
//! Invariant: `PERMISSION-1` each type stands for exactly one scope. Whether a scope includes another is decided by
//! [`triggers_protocol::Scopes::allows`] alone; nothing is decided here.

use triggers_protocol::Scope;

/// A scope as a type.
pub trait Permission: Send + Sync + 'static {
    /// The scope that a key must have.
    const SCOPE: Scope;
}

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl Permission for $name {
            const SCOPE: Scope = Scope::$name;
        }
    )*};
}

permissions! {
    /// `events:write`
    EventsWrite;
    /// `inbox:read`
    InboxRead;
    /// `inbox:ack`
    InboxAck;
    /// `subscriptions:manage`
    SubscriptionsManage;
    /// `keys:manage`
    KeysManage;
    /// `admin`
    Admin;
}
