//! The load generator as a whole: a short run against its own baseline, and the form of its report.
//!
//! Counts are compared with each other, never with the clock, so that a slow machine does not fail
//! a test. The machine line is compared as text, because scripts read it.

use super::tally::{Failure, Sample, Tallies, Window};
use super::*;
use serde_json::Value;
use std::collections::BTreeMap;

pub(crate) fn plan(mode: Mode) -> Plan {
    Plan {
        mode,
        url: None,
        keys: Vec::new(),
        connections: 4,
        duration_seconds: 1,
        warmup_seconds: 0,
        rate_events_per_second: 0,
        payload_bytes: 256,
        batch_size: 10,
        backlog_events: 0,
        lease_limit: 200,
        receivers: 1,
        max_in_flight: 200,
    }
}

fn report(adherence: Option<pace::Adherence>) -> Report {
    let tallies = Tallies::new(2);
    let window = Window::new(0, 10);
    for (worker, result) in
        [Ok(10), Ok(10), Err(Failure::Status(429)), Err(Failure::Transport)].into_iter().enumerate()
    {
        tallies.record(
            worker,
            window,
            Sample { begin_ns: 0, end_ns: 2_000_000, result, items_failed: 0 },
        );
    }
    let measured = Measured { measured_ns: 10_000_000_000, adherence, ..Measured::default() };
    Report::new(&plan(Mode::Batch), &tallies, measured)
}

#[test]
fn the_machine_line_has_exactly_these_members() {
    let line = serde_json::to_string(&report(None).summary).unwrap();
    assert_eq!(
        line,
        "{\"mode\":\"batch\",\"connections\":4,\"duration_seconds\":10.0,\
         \"requests_per_second\":0.2,\
         \"events_per_second\":2.0,\"errors\":{\"429\":1,\"transport\":1},\
         \"latency_ms\":{\"p50\":2.0,\"p90\":2.0,\
         \"p95\":2.0,\"p99\":2.0,\"p999\":2.0,\"max\":2.0}}"
    );
    serde_json::from_str::<BTreeMap<String, Value>>(&line).unwrap();
}

#[test]
fn the_notes_name_what_limits_the_numbers() {
    let text = report(None).to_string();
    assert!(text.contains("p99.9 2.0") && text.contains("429: 1  transport: 1"), "{text}");
    assert!(report(None).notes().iter().any(|note| note.contains("rate limit")));
    let behind = pace::Adherence { rate: 5_000, due: 50_000, sent: 40_000 };
    let notes = report(Some(behind)).notes();
    assert!(
        notes
            .iter()
            .any(|note| note.contains("could not keep up with 5000 events/s: 10000 of 50000")),
        "{notes:?}"
    );
    let kept = pace::Adherence { rate: 5_000, due: 50_000, sent: 49_990 };
    assert!(!report(Some(kept)).notes().iter().any(|note| note.contains("keep up")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_shape_of_the_baseline_is_loaded_without_an_error() {
    for (shape, events_per_request) in
        [(BaselineShape::Single, 1), (BaselineShape::Batch, 10), (BaselineShape::Read, 50)]
    {
        let report = run(plan(Mode::Baseline(shape)), |_| ()).await.unwrap();
        assert!(report.requests > 0, "{shape:?}");
        assert_eq!(report.events, report.requests * events_per_request, "{shape:?}");
        assert_eq!(report.summary.errors, BTreeMap::new(), "{shape:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_sends_no_more_than_it_says() {
    let mut plan = plan(Mode::Baseline(BaselineShape::Single));
    plan.rate_events_per_second = 50;
    let report = run(plan, |_| ()).await.unwrap();
    assert!((1..=50).contains(&report.requests), "{}", report.requests);
    assert_eq!(report.summary.errors, BTreeMap::new());
}

#[tokio::test]
async fn an_unreachable_address_is_reported_at_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let plan =
        Plan { url: Some(url.clone()), keys: vec!["trg_test_a".to_owned()], ..plan(Mode::Single) };
    let error = run(plan, |_| ()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot reach {url}: connection refused; is the node running?")
    );
}

#[test]
fn a_plan_outside_its_bounds_is_rejected() {
    assert!(plan(Mode::Single).check().unwrap_err().contains("key"));
    let mut large = plan(Mode::Baseline(BaselineShape::Batch));
    large.batch_size = 1_000;
    large.payload_bytes = 100_000;
    assert!(large.check().unwrap_err().contains("smaller"));
    let many = Plan { connections: 10_001, ..plan(Mode::Baseline(BaselineShape::Single)) };
    assert!(many.check().unwrap_err().contains("connections must be 1 to 10000"));
}
