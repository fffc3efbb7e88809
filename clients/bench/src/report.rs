//! The result of a load: one line for machines, lines for people, and remarks about how reliable
//! the numbers are.
//!
//! The machine line has exactly the members of `Summary`, on which scripts rely. Latencies are in
//! milliseconds with three decimals. Percentiles come from the histogram.

use super::pace::Adherence;
use super::plan::Plan;
use super::tally::{Answered, Tallies, Window};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The members of the machine line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// `single`, `batch`, `mixed`, `drain`, `read` or `baseline`.
    pub mode: &'static str,
    /// Number of connections.
    pub connections: u32,
    /// Measured time in seconds.
    pub duration_seconds: f64,
    /// Answers in 2xx a second.
    pub requests_per_second: f64,
    /// Events accepted (or read) a second.
    pub events_per_second: f64,
    /// Failures by status, those without an answer under `transport`, rejected items of batches
    /// under `item`.
    pub errors: BTreeMap<String, u64>,
    /// Latencies of answers in 2xx.
    pub latency_ms: Latency,
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// Half of the requests were at least this fast.
    pub p50: f64,
    /// 90 % were at least this fast.
    pub p90: f64,
    /// 95 % were at least this fast.
    pub p95: f64,
    /// 99 % were at least this fast.
    pub p99: f64,
    /// 99.9 % were at least this fast.
    pub p999: f64,
    /// All were at least this fast.
    pub max: f64,
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The content of the machine line.
    pub summary: Summary,
    /// Answers in 2xx.
    pub requests: u64,
    /// Events accepted (or read).
    pub events: u64,
    adherence: Option<Adherence>,
    unanswered: u64,
    interrupted: bool,
}

impl Report {
    /// Makes the report from the counts.
    pub(super) fn new(
        plan: &Plan,
        tallies: &Tallies,
        measured_ns: u64,
        adherence: Option<Adherence>,
        unanswered: u64,
        interrupted: bool,
    ) -> Self {
        let total = tallies.total();
        let quantile = |share: f64| milliseconds(total.latency_us.value_at_quantile(share));
        let seconds = rounded(measured_ns as f64 / 1e9, 3);
        let rate =
            |count: u64| if seconds > 0.0 { rounded(count as f64 / seconds, 1) } else { 0.0 };
        let failures = total.failures.iter();
        let summary = Summary {
            mode: plan.mode.name(),
            connections: plan.connections,
            duration_seconds: seconds,
            requests_per_second: rate(total.requests),
            events_per_second: rate(total.events),
            errors: failures.map(|(failure, count)| (failure.to_string(), *count)).collect(),
            latency_ms: Latency {
                p50: quantile(0.5),
                p90: quantile(0.9),
                p95: quantile(0.95),
                p99: quantile(0.99),
                p999: quantile(0.999),
                max: milliseconds(total.latency_us.max()),
            },
        };
        let (requests, events) = (total.requests, total.events);
        Self { summary, requests, events, adherence, unanswered, interrupted }
    }

    /// Remarks for the reader of the numbers.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.interrupted {
            notes.push("stopped early: the numbers cover the time until then".to_owned());
        }
        if let Some(adherence) = self.adherence.filter(Adherence::is_behind) {
            notes.push(format!(
                "could not keep up with {} events/s: {} of {} scheduled requests were not sent by \
                 the end; latencies of those are missing, so the real ones are worse",
                adherence.rate,
                adherence.due - adherence.sent,
                adherence.due
            ));
        }
        if self.unanswered > 0 {
            notes.push(format!(
                "{} requests had no answer when the run ended; they are not counted",
                self.unanswered
            ));
        }
        let hints = [
            ("401", "the key is not known to this node"),
            ("403", "the key lacks a scope this load needs (events:write, inbox:read, inbox:ack)"),
            (
                "429",
                "the rate limit or the tenant's quota was reached; a load test needs a key with a \
                 higher rate limit",
            ),
        ];
        for (status, hint) in hints {
            if let Some(count) = self.summary.errors.get(status) {
                notes.push(format!("{count} answers were {status}: {hint}"));
            }
        }
        notes
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pace = match self.adherence {
            Some(adherence) => {
                format!("{} events/s on schedule, latency from the intended time", adherence.rate)
            }
            None => "as fast as the connections allow".to_owned(),
        };
        let Summary { mode, connections, duration_seconds, errors, .. } = &self.summary;
        let latency = self.summary.latency_ms;
        writeln!(formatter, "{mode}, {connections} connections, {duration_seconds} s, {pace}")?;
        writeln!(formatter, "requests/s  {:.1}", self.summary.requests_per_second)?;
        writeln!(formatter, "events/s    {:.1}", self.summary.events_per_second)?;
        writeln!(
            formatter,
            "latency ms  p50 {:.3}  p90 {:.3}  p95 {:.3}  p99 {:.3}  p99.9 {:.3}  max {:.3}",
            latency.p50, latency.p90, latency.p95, latency.p99, latency.p999, latency.max
        )?;
        let errors: Vec<_> =
            errors.iter().map(|(name, count)| format!("{name}: {count}")).collect();
        let errors = if errors.is_empty() { "none".to_owned() } else { errors.join("  ") };
        write!(formatter, "errors      {errors}")
    }
}

/// The progress line.
pub(super) fn progress_line(
    window: Window,
    now_ns: u64,
    before: Answered,
    now: Answered,
    span_ns: u64,
) -> String {
    let second_ns = 1_000_000_000;
    if now_ns < window.begin_ns {
        let left = (window.begin_ns - now_ns).div_ceil(second_ns);
        return format!("warming up, {left} s to go");
    }
    let measured_ns = now_ns.min(window.end_ns) - window.begin_ns;
    if measured_ns < second_ns / 2 {
        return "warmed up, measuring".to_owned();
    }
    // Answers before the window are not counted, so their time does not count either.
    let seconds = (span_ns.min(measured_ns) as f64 / 1e9).max(1e-3);
    let rate = |before: u64, now: u64| (now.saturating_sub(before) as f64 / seconds).round() as u64;
    format!(
        "{} of {} s: {} requests/s, {} events/s, {} errors",
        (measured_ns + second_ns / 2) / second_ns,
        (window.end_ns - window.begin_ns) / second_ns,
        rate(before.requests, now.requests),
        rate(before.events, now.events),
        now.failures
    )
}

fn milliseconds(microseconds: u64) -> f64 {
    rounded(microseconds as f64 / 1_000.0, 3)
}

fn rounded(value: f64, decimals: i32) -> f64 {
    let factor = 10_f64.powi(decimals);
    (value * factor).round() / factor
}
