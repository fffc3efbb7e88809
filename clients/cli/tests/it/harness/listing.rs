//! Reads the inbox page by page as a consumer does, with payloads as raw bytes.
//!
//! Every page is checked: both forms of the cursor agree, events are in ascending order of id, and
//! a page with `has_more` has a cursor.

use super::{Answer, Client};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Every status of an event, as the query parameter names it.
pub const STATUSES: [&str; 4] = ["received", "queued", "delivered", "failed"];

/// An event of a page, with the raw text of its payload.
#[derive(Debug, Deserialize)]
pub struct Listed {
    pub event_id: String,
    pub event_type: String,
    pub status: String,
    pub created_at: String,
    pub payload: Box<RawValue>,
}

/// A page of `GET /v1/inbox`.
#[derive(Debug, Deserialize)]
pub struct Page {
    pub events: Vec<Listed>,
    pub cursor: Option<String>,
    pub has_more: bool,
    pub pagination: Pagination,
}

/// The second form of the paging state, and the total count.
#[derive(Debug, Deserialize)]
pub struct Pagination {
    pub limit: u64,
    pub cursor: Option<String>,
    pub has_more: bool,
    pub total_count: u64,
}

/// All events that a query matches, and the total count of the last page.
#[derive(Debug)]
pub struct Listing {
    pub events: Vec<Listed>,
    pub total_count: u64,
}

/// Reads one page; `query` has no question mark and no cursor.
pub async fn page(client: &Client, query: &str, cursor: Option<&str>) -> Page {
    let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
    let answer = client.get(&format!("/v1/inbox?{query}{cursor}")).await.expect(200);
    let page: Page = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|error| panic!("not a page ({error}): {}", answer.text()));
    assert_eq!(page.cursor, page.pagination.cursor, "both cursors agree");
    assert_eq!(page.has_more, page.pagination.has_more, "both has_more agree");
    assert!(page.pagination.limit >= page.events.len() as u64, "no more than asked for");
    assert!(!page.has_more || page.cursor.is_some(), "more without a cursor");
    assert!(page.events.is_sorted_by(|a, b| a.event_id < b.event_id), "oldest first, each once");
    page
}

/// Reads all pages from `cursor` on.
pub async fn follow(client: &Client, query: &str, mut cursor: Option<String>) -> Listing {
    let mut events: Vec<Listed> = Vec::new();
    loop {
        let page = page(client, query, cursor.as_deref()).await;
        if let (Some(last), Some(first)) = (events.last(), page.events.first()) {
            assert!(last.event_id < first.event_id, "pages follow one another without overlap");
        }
        let is_stuck = page.has_more && page.cursor == cursor;
        assert!(!is_stuck, "the cursor does not move");
        events.extend(page.events);
        if !page.has_more {
            return Listing { events, total_count: page.pagination.total_count };
        }
        cursor = page.cursor;
    }
}

/// Reads all pages of a query.
pub async fn all(client: &Client, query: &str) -> Listing {
    follow(client, query, None).await
}

/// The number of events of the tenant in status `received`.
pub async fn received_count(client: &Client) -> u64 {
    page(client, "limit=1", None).await.pagination.total_count
}

/// The payload of a single event exactly as the node sent it.
pub fn raw_payload(answer: &Answer) -> String {
    #[derive(Deserialize)]
    struct Event {
        payload: Box<RawValue>,
    }
    let event: Event = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|error| panic!("not an event ({error}): {}", answer.text()));
    event.payload.get().to_owned()
}
