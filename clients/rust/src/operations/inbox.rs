//! Operations on the inbox: list, lease, stream, replay.

use triggers_protocol::api::{InboxReplay, LeaseRequest, ReplayAnswer};
use triggers_protocol::{EventStatus, Timestamp};

use crate::call::Call;
use crate::client::Client;
use crate::error::ClientError;
use crate::reply::Reply;
use crate::stream::EventStream;
use crate::{Event, InboxPage, LeaseAnswer};

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
    fn call(&self) -> Call {
        let call = Call::get(&["inbox"])
            .query_optional("limit", self.limit)
            .query_optional("cursor", self.cursor.as_deref())
            .query_optional("status", self.status)
            .query_optional("from_timestamp", self.from_timestamp)
            .query_optional("to_timestamp", self.to_timestamp);
        call.query_each("event_type", &self.event_types)
    }
}

impl Client {
    /// Lists a page of the inbox, oldest event first.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn list_inbox(&self, query: &InboxQuery) -> Result<Reply<InboxPage>, ClientError> {
        self.send(query.call()).await
    }

    /// Leases events. The caller acknowledges them or gives them back before the lease ends.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn lease_events(
        &self,
        request: &LeaseRequest,
    ) -> Result<Reply<LeaseAnswer>, ClientError> {
        self.send(Call::post(&["inbox", "lease"]).json(request)?).await
    }

    /// Has failed or delivered events delivered again. Some are left if the answer has a cursor.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn replay_inbox(
        &self,
        selection: &InboxReplay,
    ) -> Result<Reply<ReplayAnswer>, ClientError> {
        self.send(Call::post(&["inbox", "replay"]).json(selection)?).await
    }

    /// Opens a stream of the events of these types (all if there are none), from behind the event
    /// `after` or from now.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn stream_inbox(
        &self,
        event_types: &[String],
        after: Option<&str>,
    ) -> Result<EventStream, ClientError> {
        let call = Call::get(&["inbox", "stream"])
            .query_each("event_type", event_types)
            .header_optional("last-event-id", after)?;
        Ok(EventStream::new(self.clone(), self.open(call).await?))
    }

    /// Polls for received events, newest first, as automation services do.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn poll_events(
        &self,
        event_types: &[String],
        limit: Option<u32>,
    ) -> Result<Reply<Vec<Event>>, ClientError> {
        let call = Call::get(&["triggers", "poll"]).query_optional("limit", limit);
        self.send(call.query_each("event_type", event_types)).await
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
