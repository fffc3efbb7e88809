//! What the program prints.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where the program prints")]

use super::Which;
use crate::plan::Plan;
use crate::run::Outcome;
use crate::trace::Trace;
use crate::world;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Says a line on stdout.
pub(super) fn say(line: fmt::Arguments<'_>) {
    println!("{line}");
}

/// Says a line on stderr.
pub(super) fn complain(line: impl fmt::Display) {
    eprintln!("triggers-sim: {line}");
}

/// Says a line that the next one takes the place of, if somebody looks.
pub(super) fn progress(line: fmt::Arguments<'_>) {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[2K{line}");
    }
}

/// An outcome for people.
pub(super) fn text(plan: &Plan, outcome: &Outcome, trace: &Trace, which: &Which) {
    for line in trace.take_lines() {
        println!(
            "{:>10.3} ms  {:<10} {}",
            line.at.as_secs_f64() * 1_000.0,
            line.subject,
            line.text
        );
    }
    let (digest, events) = outcome.digest;
    let (faults, operations) = (plan.faults.len(), plan.operations.len());
    println!(
        "scenario {}, seed {}: {faults} faults, {operations} operations",
        plan.scenario, plan.seed
    );
    println!(
        "{:.3} s were simulated; trace {digest:016x} of {events} events",
        outcome.simulated.as_secs_f64()
    );
    fired(&outcome.fired);
    if outcome.violations.is_empty() {
        println!("nothing was found");
        return;
    }
    println!("\n{} violations:\n", outcome.violations.len());
    for violation in &outcome.violations {
        println!("  {violation}\n");
    }
    println!("again, with its trace:  {}", again(which, "run"));
    println!("smaller:                {}", again(which, "shrink").replace(" --trace", ""));
}

/// The command that repeats a run.
pub(super) fn again(which: &Which, command: &str) -> String {
    let plan = match &which.plan {
        Some(file) => format!("--plan {}", file.display()),
        None => format!("--scenario {} --seed {}", which.scenario, which.seed),
    };
    let bug = which.bug.as_ref().map(|bug| format!(" --bug {bug}")).unwrap_or_default();
    format!("triggers-sim {command} {plan}{bug} --trace")
}

/// How often each kind of fault has come.
pub(super) fn fired(fired: &BTreeMap<&'static str, u64>) {
    let all: Vec<String> = fired.iter().map(|(name, count)| format!("{name} {count}")).collect();
    println!(
        "faults that came: {}",
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    );
}

/// An outcome for programs: the lines of the trace if they were kept, and a last line that tells of all.
pub(super) fn json(plan: &Plan, outcome: &Outcome, trace: &Trace) {
    for line in trace.take_lines() {
        let at_ms = line.at.as_secs_f64() * 1_000.0;
        println!("{}", json!({ "at_ms": at_ms, "subject": line.subject, "text": line.text }));
    }
    let violations: Vec<_> = outcome
        .violations
        .iter()
        .map(|violation| json!({ "rule": violation.rule, "account": violation.account }))
        .collect();
    let (digest, events) = outcome.digest;
    println!(
        "{}",
        json!({
            "scenario": plan.scenario,
            "seed": plan.seed,
            "trace": format!("{digest:016x}"),
            "events": events,
            "operations": outcome.operations,
            "fired": outcome.fired,
            "violations": violations,
        })
    );
}

/// Puts the log lines of the nodes into the trace.
pub(super) fn log(level: &str, trace: &Trace) -> Result<(), String> {
    let filter: tracing_subscriber::filter::LevelFilter =
        level.parse().map_err(|_| format!("no level {level:?}"))?;
    let layer = IntoTrace(trace.clone()).with_filter(filter);
    tracing_subscriber::registry().with(layer).try_init().map_err(|error| error.to_string())
}

struct IntoTrace(Trace);

impl<S: Subscriber> Layer<S> for IntoTrace {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        let (at, host) = world::turn();
        let metadata = event.metadata();
        self.0.note(
            at,
            &host,
            format_args!("[{} {}]{}", metadata.level(), metadata.target(), fields.0),
        );
    }
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        // Writing to a text cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
