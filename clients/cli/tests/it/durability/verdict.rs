//! The checks of the durability tests: the answers that the writers got against the node's state.
//!
//! The invariants are defined in `durability.rs`. The checks use the public API: each answered
//! event by its id, then the complete inbox in every status.

use super::load::{Answered, Ledger};
use crate::harness::listing::{self, Listed, STATUSES};
use crate::harness::{Client, listing::raw_payload};
use futures_util::StreamExt;
use std::collections::HashMap;

const READS_IN_FLIGHT: usize = 8;

/// DURABILITY-1: reads every answered event by its id.
pub async fn read_back(client: &Client, ledger: &Ledger) {
    futures_util::stream::iter(&ledger.answered)
        .for_each_concurrent(READS_IN_FLIGHT, |answered| read_one(client, answered))
        .await;
}

async fn read_one(client: &Client, answered: &Answered) {
    let answer = client.get(&format!("/v1/events/{}", answered.event_id)).await;
    assert_eq!(
        answer.status,
        200,
        "DURABILITY-1: lost {}: {}",
        answered.post.event_type,
        answer.text()
    );
    assert_eq!(
        answer.string("/event_type"),
        answered.post.event_type,
        "DURABILITY-1: the id names this event"
    );
    assert_eq!(raw_payload(&answer), answered.post.payload, "DURABILITY-1: byte for byte");
}

/// DURABILITY-4: checks the ids in the order of the steps against the greatest answered so far.
pub fn ids_grow(ledger: &Ledger) {
    enum Step<'a> {
        Began(&'a Answered),
        Answered(&'a Answered),
    }
    let mut steps: Vec<(u64, Step<'_>)> = Vec::new();
    for answered in &ledger.answered {
        steps.push((answered.post.began, Step::Began(answered)));
        steps.push((answered.at, Step::Answered(answered)));
    }
    steps.sort_by_key(|(at, _)| *at);
    let mut greatest: &str = "";
    for (_, step) in &steps {
        match step {
            Step::Began(answered) => {
                let id = answered.event_id.as_str();
                assert!(
                    id > greatest,
                    "DURABILITY-4: {id} was posted after {greatest} was answered"
                );
            }
            Step::Answered(answered) => greatest = greatest.max(&answered.event_id),
        }
    }
}

/// Checks DURABILITY-1, 2, 3, 5 and 6 with the listing of every status.
pub async fn ledger_matches_listing(client: &Client, ledger: &Ledger) {
    let events = everything(client).await;
    let mut by_type: HashMap<&str, Vec<&Listed>> = HashMap::new();
    for event in &events {
        by_type.entry(&event.event_type).or_default().push(event);
    }
    for answered in &ledger.answered {
        let found =
            by_type.get(answered.post.event_type.as_str()).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(found.len(), 1, "DURABILITY-1: exactly once: {}", answered.post.event_type);
        assert_eq!(found[0].event_id, answered.event_id, "DURABILITY-1: under its id");
        assert_eq!(found[0].payload.get(), answered.post.payload, "DURABILITY-1: byte for byte");
        let id = &answered.event_id;
        if ledger.acknowledged.contains(id) {
            assert_eq!(found[0].status, "delivered", "DURABILITY-5: {id} was acknowledged");
        } else if !ledger.maybe_acknowledged.contains(id) {
            assert_eq!(found[0].status, "received", "DURABILITY-5: {id} was not acknowledged");
        }
    }
    let mut known = ledger.answered.len();
    for post in &ledger.unanswered {
        let found = by_type.get(post.event_type.as_str()).map(Vec::as_slice).unwrap_or_default();
        assert!(found.len() <= 1, "DURABILITY-2: at most once: {}", post.event_type);
        assert!(
            found.iter().all(|event| event.payload.get() == post.payload),
            "DURABILITY-2: complete or not at all"
        );
        known += found.len();
    }
    assert_eq!(events.len(), known, "every event was sent by a writer");
    assert_eq!(
        listed_acknowledged(&events, ledger),
        ledger.acknowledged.len(),
        "DURABILITY-5: none is missing"
    );
}

/// Lists the events of every status and checks DURABILITY-6.
async fn everything(client: &Client) -> Vec<Listed> {
    let mut events = Vec::new();
    for status in STATUSES {
        let listing = listing::all(client, &format!("limit=200&status={status}")).await;
        assert_eq!(
            listing.total_count,
            listing.events.len() as u64,
            "DURABILITY-6: the count of {status}"
        );
        assert!(
            listing.events.iter().all(|event| event.status == status),
            "listed under its own status"
        );
        events.extend(listing.events);
    }
    events
}

fn listed_acknowledged(events: &[Listed], ledger: &Ledger) -> usize {
    events.iter().filter(|event| ledger.acknowledged.contains(&event.event_id)).count()
}
