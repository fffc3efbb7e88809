//! The parameters of the operations that list.

use crate::call::Call;
use triggers_protocol::{EventStatus, Timestamp};

/// Which page of a list to read. The default is the first page.
#[derive(Debug, Clone, Default)]
pub struct PageQuery {
    /// Entries on the page, 1 to 200.
    pub limit: Option<u32>,
    /// The cursor of the page before.
    pub cursor: Option<String>,
}

impl PageQuery {
    pub(super) fn add_to(&self, call: Call) -> Call {
        call.query_optional("limit", self.limit).query_optional("cursor", self.cursor.as_deref())
    }
}

/// Which attempts of a subscription to list.
pub type AttemptsQuery = PageQuery;

/// Which entries of the audit to read.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// The page of the list.
    pub page: PageQuery,
    /// The tenant; the key's own if absent. Another tenant needs an admin key.
    pub tenant_id: Option<String>,
}

impl AuditQuery {
    pub(super) fn call(&self) -> Call {
        let call = self.page.add_to(Call::get(&["audit"]));
        call.query_optional("tenant_id", self.tenant_id.as_deref())
    }
}

/// Which events of the inbox to list. The default lists the received ones.
#[derive(Debug, Clone, Default)]
pub struct InboxQuery {
    /// Events on the page, 1 to 200.
    pub limit: Option<u32>,
    /// The cursor of the page before.
    pub cursor: Option<String>,
    /// Event types, or prefixes such as `order.*`; all if empty.
    pub event_types: Vec<String>,
    /// Events in this status only.
    pub status: Option<EventStatus>,
    /// Events accepted at this time or later.
    pub from_timestamp: Option<Timestamp>,
    /// Events accepted at this time or earlier.
    pub to_timestamp: Option<Timestamp>,
}

impl InboxQuery {
    pub(super) fn call(&self) -> Call {
        Call::get(&["inbox"])
            .query_optional("limit", self.limit)
            .query_optional("cursor", self.cursor.as_deref())
            .query_optional("status", self.status)
            .query_optional("from_timestamp", self.from_timestamp)
            .query_optional("to_timestamp", self.to_timestamp)
            .query_each("event_type", &self.event_types)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_only_what_is_set() {
        assert_eq!(InboxQuery::default().call().path_and_query(), "/v1/inbox");
        let query = InboxQuery {
            limit: Some(5),
            cursor: Some("a/b".to_owned()),
            event_types: vec!["a".to_owned(), "b.*".to_owned()],
            status: Some(EventStatus::Failed),
            ..InboxQuery::default()
        };
        let expected = "/v1/inbox?limit=5&cursor=a%2Fb&status=failed&event_type=a&event_type=b.%2A";
        assert_eq!(query.call().path_and_query(), expected);
    }
}
