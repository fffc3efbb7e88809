//! The result of a load: one line for machines, lines for people, and remarks about how reliable
//! the numbers are.
//!
//! The machine line has exactly the members of `Summary`, on which scripts rely. Members that only
//! some modes have are left out in the others. Latencies are in
//! milliseconds with three decimals. Percentiles come from the histogram.

use super::milestones::Tenths;
use super::pace::Adherence;
use super::plan::Plan;
use super::tally::{Answered, Tallies, Window};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The members of the machine line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// `single`, `batch`, `mixed`, `drain`, `read`, `consume`, `push` or `baseline`.
    pub mode: &'static str,
    /// Number of connections.
    pub connections: u32,
    /// Measured time in seconds.
    pub duration_seconds: f64,
    /// Answers in 2xx a second.
    pub requests_per_second: f64,
    /// Events accepted a second; in the modes read, consume and push those read, acknowledged, or
    /// received as webhooks.
    pub events_per_second: f64,
    /// Failures by status, those without an answer under `transport`, rejected items of batches
    /// under `item`.
    pub errors: BTreeMap<String, u64>,
    /// Latencies of answers in 2xx. In the mode push with a rate, from the intended time of the
    /// POST to the arrival of the webhook; with a backlog, from the begin of the delivery.
    pub latency_ms: Latency,
    /// Events a second in the first tenth of a backlog; only if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_tenth_per_second: Option<f64>,
    /// Events a second in the last tenth of a backlog; only if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_tenth_per_second: Option<f64>,
    /// Webhooks that arrived more than once; only in the mode push.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicates: Option<u64>,
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
    measured: Measured,
}

/// Everything that is measured beside the counts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Measured {
    /// Measured time in nanoseconds.
    pub measured_ns: u64,
    /// How closely a schedule was kept.
    pub adherence: Option<Adherence>,
    /// Requests without an answer at the end.
    pub unanswered: u64,
    /// Whether the load was interrupted.
    pub is_interrupted: bool,
    /// The rates at the beginning and at the end of a backlog.
    pub tenths: Option<Tenths>,
    /// Webhooks that arrived again; only in the mode push.
    pub duplicates: Option<u64>,
    /// Events of the backlog, or webhooks, that were not handed out.
    pub left: u64,
}

impl Report {
    /// Makes the report from the counts.
    pub(super) fn new(plan: &Plan, tallies: &Tallies, measured: Measured) -> Self {
        let total = tallies.total();
        let quantile = |share: f64| milliseconds(total.latency_us.value_at_quantile(share));
        let seconds = rounded(measured.measured_ns as f64 / 1e9, 3);
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
            first_tenth_per_second: measured.tenths.map(|it| rounded(it.first_per_second, 1)),
            last_tenth_per_second: measured.tenths.map(|it| rounded(it.last_per_second, 1)),
            duplicates: measured.duplicates,
        };
        let (requests, events) = (total.requests, total.events);
        Self { summary, requests, events, measured }
    }

    /// Remarks for the reader of the numbers.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let Measured { adherence, unanswered, is_interrupted, left, .. } = self.measured;
        if is_interrupted {
            notes.push("stopped early: the numbers cover the time until then".to_owned());
        }
        if let Some(adherence) = adherence.filter(Adherence::is_behind) {
            notes.push(format!(
                "could not keep up with {} events/s: {} of {} scheduled requests were not sent by \
                 the end; latencies of those are missing, so the real ones are worse",
                adherence.rate,
                adherence.due - adherence.sent,
                adherence.due
            ));
        }
        if unanswered > 0 {
            notes.push(format!(
                "{unanswered} requests had no answer when the run ended; they are not counted"
            ));
        }
        if left > 0 {
            notes.push(match self.summary.duplicates {
                Some(_) => format!("{left} webhooks had not arrived when the run ended"),
                None => format!("{left} events of the backlog were left when the run ended"),
            });
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
        let pace = match self.measured.adherence {
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
        if let (Some(first), Some(last)) =
            (self.summary.first_tenth_per_second, self.summary.last_tenth_per_second)
        {
            writeln!(formatter, "events/s    {first:.1} first tenth, {last:.1} last tenth")?;
        }
        if let Some(duplicates) = self.summary.duplicates {
            writeln!(formatter, "duplicates  {duplicates}")?;
        }
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
