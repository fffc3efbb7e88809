//! The requests that a worker sends, and what it reads from the answers.
//!
//! A script is a fixed cycle of operations. Each worker starts at another position, so that the
//! workers do not all send the same operation at once. The script follows inbox cursors and
//! remembers ids to acknowledge.
//!
//! - `SCRIPT-1`: the shares of the mode mixed are exact over ten requests, except that an
//!   acknowledgement without a known id reads a page instead.
//! - `SCRIPT-2`: at most one page of ids is remembered.
//! - `SCRIPT-3`: in the mode drain nine of ten events are acknowledged, each once.

use super::baseline::BaselineShape;
use super::plan::Mode;
use super::requests::RequestParts;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Uri};
use serde::Deserialize;
use std::sync::Arc;
use triggers_client::percent_encoded;

/// One request of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Send one event.
    Single,
    /// Send a batch.
    Batch,
    /// Read a page of the inbox.
    Page,
    /// Acknowledge the events whose ids are remembered.
    Acknowledge,
}

use Operation::{Acknowledge, Batch, Page, Single};

/// 60 % single, 20 % batch, 10 % page, 10 % acknowledgement; the page comes before the
/// acknowledgement of its events.
const MIXED: [Operation; 10] =
    [Single, Single, Batch, Single, Page, Single, Batch, Single, Acknowledge, Single];

/// Ten single events and one acknowledgement of nine of them.
const DRAIN: [Operation; 11] =
    [Single, Single, Single, Single, Single, Single, Single, Single, Single, Single, Acknowledge];
const DRAIN_ACKNOWLEDGED: usize = 9;

/// Number of events that an answer reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Events accepted, or read in a load that reads.
    pub events: u64,
    /// Rejected items of a batch.
    pub items_failed: u64,
}

#[derive(Deserialize)]
struct PageAnswer {
    #[serde(default)]
    events: Vec<EventId>,
    cursor: Option<String>,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
struct EventId {
    event_id: String,
}

/// The counts in the answer to a batch, of events or of acknowledgements.
#[derive(Debug, Deserialize)]
pub struct BatchAnswer {
    /// Items that succeeded.
    pub success_count: u64,
    /// Items that failed.
    pub failure_count: u64,
}

/// The sequence of requests of one worker.
#[derive(Debug)]
pub struct Script {
    parts: Arc<RequestParts>,
    cycle: &'static [Operation],
    worker: usize,
    sequence: usize,
    cursor: Option<String>,
    ids: Vec<String>,
}

impl Script {
    /// Makes the script of one worker. The modes consume and push have other workers; a script
    /// for them would send single events.
    pub fn new(parts: Arc<RequestParts>, mode: Mode, worker: usize) -> Self {
        let cycle: &'static [Operation] = match mode {
            Mode::Single | Mode::Baseline(BaselineShape::Single) => &[Single],
            Mode::Consume(_) | Mode::Push => &[Single],
            Mode::Batch | Mode::Baseline(BaselineShape::Batch) => &[Batch],
            Mode::Read | Mode::Baseline(BaselineShape::Read) => &[Page],
            Mode::Mixed => &MIXED,
            Mode::Drain => &DRAIN,
        };
        Self { parts, cycle, worker, sequence: worker, cursor: None, ids: Vec::new() }
    }

    /// The operation to send next.
    pub fn next_operation(&mut self) -> Operation {
        self.sequence = self.sequence.wrapping_add(1);
        match self.cycle[self.sequence % self.cycle.len()] {
            Acknowledge if self.ids.is_empty() && self.cycle.contains(&Page) => Page,
            Acknowledge if self.ids.is_empty() => Single,
            operation => operation,
        }
    }

    /// Whether the script needs the body of the answer.
    pub fn wants_body(&self, operation: Operation) -> bool {
        operation != Single || self.is_draining()
    }

    fn is_draining(&self) -> bool {
        self.cycle.contains(&Acknowledge) && !self.cycle.contains(&Page)
    }

    /// The request of an operation. A second call returns the same request.
    pub fn request(&self, operation: Operation) -> Request<Full<Bytes>> {
        let parts = &*self.parts;
        let (uri, body) = match operation {
            Single => (parts.single_uri.clone(), self.body_of(&parts.singles)),
            Batch => (parts.batch_uri.clone(), self.body_of(&parts.batches)),
            Page => return parts.get(self.page_uri(), self.worker),
            Acknowledge => (parts.acknowledge_uri.clone(), self.acknowledgement()),
        };
        parts.post(uri, self.worker, body)
    }

    fn body_of(&self, pool: &[Bytes]) -> Bytes {
        pool.get(self.sequence % pool.len().max(1)).cloned().unwrap_or_default()
    }

    fn page_uri(&self) -> Uri {
        let path = match &self.cursor {
            Some(cursor) => format!("/v1/inbox?limit=50&cursor={}", percent_encoded(cursor)),
            None => "/v1/inbox?limit=50".to_owned(),
        };
        // If the cursor is too long for a URI, start at the beginning of the inbox.
        self.parts.target(&path).unwrap_or_else(|_| Uri::from_static("/v1/inbox?limit=50"))
    }

    fn acknowledgement(&self) -> Bytes {
        // Ids come from an answer, so encode them to keep the request well-formed.
        Bytes::from(serde_json::json!({ "event_ids": self.ids }).to_string())
    }

    /// Reads from an answer in 2xx what the script needs, and counts its events.
    pub fn read_answer(&mut self, operation: Operation, body: &[u8]) -> EventCounts {
        match operation {
            Single => {
                if self.is_draining()
                    && self.ids.len() < DRAIN_ACKNOWLEDGED
                    && let Ok(EventId { event_id }) = serde_json::from_slice(body)
                {
                    self.ids.push(event_id);
                }
                EventCounts { events: 1, items_failed: 0 }
            }
            Batch => match serde_json::from_slice::<BatchAnswer>(body) {
                Ok(answer) => {
                    EventCounts { events: answer.success_count, items_failed: answer.failure_count }
                }
                Err(_) => EventCounts { events: 0, items_failed: 1 },
            },
            Page => self.read_page(body),
            Acknowledge => {
                self.ids.clear();
                let answer = serde_json::from_slice::<BatchAnswer>(body);
                EventCounts {
                    events: 0,
                    items_failed: answer.map_or(1, |answer| answer.failure_count),
                }
            }
        }
    }

    fn read_page(&mut self, body: &[u8]) -> EventCounts {
        let Ok(page) = serde_json::from_slice::<PageAnswer>(body) else {
            self.cursor = None;
            return EventCounts { events: 0, items_failed: 1 };
        };
        self.cursor = if page.has_more { page.cursor } else { None };
        let is_reading = self.cycle == [Page];
        let events = if is_reading { page.events.len() as u64 } else { 0 };
        if self.cycle.contains(&Acknowledge) {
            self.ids = page.events.into_iter().map(|event| event.event_id).collect();
        }
        EventCounts { events, items_failed: 0 }
    }

    /// Forgets the cursor or the ids of a request that was answered outside 2xx.
    pub fn failed(&mut self, operation: Operation) {
        match operation {
            Page => self.cursor = None,
            Acknowledge => self.ids.clear(),
            Single | Batch => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::AUTHORIZATION;
    use triggers_client::BaseAddress;

    use super::super::plan::Plan;
    use super::*;

    fn script(mode: Mode, worker: usize) -> Script {
        let plan = Plan {
            mode,
            url: Some("http://127.0.0.1:1/prefix".to_owned()),
            keys: vec!["trg_test_a".to_owned(), "trg_test_b".to_owned()],
            connections: 2,
            duration_seconds: 1,
            warmup_seconds: 0,
            rate_events_per_second: 0,
            payload_bytes: 64,
            batch_size: 3,
            ..crate::tests::plan(mode)
        };
        let address = BaseAddress::parse("http://127.0.0.1:1/prefix").unwrap();
        Script::new(RequestParts::new(&plan, &address).unwrap(), mode, worker)
    }

    const PAGE: &[u8] =
        br#"{"events":[{"event_id":"a","payload":{}},{"event_id":"b"}],"cursor":"c+1",
        "has_more":true}"#;

    #[test]
    fn the_shares_of_mixed_are_exact_once_ids_are_known() {
        let mut script = script(Mode::Mixed, 3);
        script.ids = vec!["a".to_owned()];
        let mut counts = [0; 4];
        for _ in 0..100 {
            counts[script.next_operation() as usize] += 1;
        }
        assert_eq!(counts, [60, 20, 10, 10]);
    }

    #[test]
    fn without_ids_a_page_is_read_instead_of_an_acknowledgement() {
        let mut script = script(Mode::Mixed, 0);
        assert!((0..100).all(|_| script.next_operation() != Acknowledge));
    }

    #[test]
    fn nine_of_ten_are_drained() {
        let mut script = script(Mode::Drain, 3);
        let (mut sent, mut acknowledged) = (0, Vec::new());
        for _ in 0..1_100 {
            let operation = script.next_operation();
            assert!(script.wants_body(operation));
            let body = format!(r#"{{"event_id":"{sent}","payload":{{}}}}"#);
            if operation == Acknowledge {
                acknowledged.extend(script.ids.clone());
                script.read_answer(
                    operation,
                    br#"{"results":[],"failure_count":0,"success_count":9}"#,
                );
            } else {
                sent += script.read_answer(operation, body.as_bytes()).events;
            }
        }
        let distinct: std::collections::BTreeSet<_> = acknowledged.iter().collect();
        assert_eq!((sent, acknowledged.len()), (1_000, distinct.len()), "SCRIPT-3");
        assert!((890..=900).contains(&acknowledged.len()), "SCRIPT-3: {}", acknowledged.len());
    }

    #[test]
    fn pages_are_followed_and_their_ids_acknowledged() {
        let mut script = script(Mode::Mixed, 0);
        assert_eq!(script.read_answer(Page, PAGE), EventCounts::default());
        assert_eq!(
            script.request(Page).uri().to_string(),
            "/prefix/v1/inbox?limit=50&cursor=c%2B1"
        );
        assert_eq!(script.acknowledgement(), r#"{"event_ids":["a","b"]}"#);
        let counts = script
            .read_answer(Acknowledge, br#"{"success_count":1,"failure_count":1,"results":[]}"#);
        assert_eq!(counts.items_failed, 1);
        assert!(script.ids.is_empty());
    }

    #[test]
    fn keys_are_used_in_turn_and_rejected_items_are_counted() {
        let mut first = script(Mode::Batch, 0);
        let second = script(Mode::Batch, 1);
        assert_eq!(first.request(Batch).headers()[AUTHORIZATION], "Bearer trg_test_a");
        assert_eq!(second.request(Batch).headers()[AUTHORIZATION], "Bearer trg_test_b");
        let counts =
            first.read_answer(Batch, br#"{"results":[],"failure_count":1,"success_count":2}"#);
        assert_eq!(counts, EventCounts { events: 2, items_failed: 1 });
    }

    #[test]
    fn a_load_that_reads_counts_what_it_read() {
        let mut script = script(Mode::Read, 0);
        assert_eq!(script.read_answer(Page, PAGE).events, 2);
        assert!(script.ids.is_empty());
    }
}
