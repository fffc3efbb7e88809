//! Prints the outcome of a run and the progress of many.

use super::RunSpec;
use crate::plan::Plan;
use crate::run::RunOutcome;
use crate::trace::{Trace, TraceDigest, TraceLine};
use crate::world;
use serde_json::json;
use std::fmt::{self, Display};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Replaces the progress line, if stderr is a terminal.
pub(super) fn print_progress(line: fmt::Arguments<'_>) {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[2K{line}");
    }
}

/// Prints the outcome of a run for people.
pub(super) fn text(plan: &Plan, outcome: &RunOutcome, trace: &Trace, spec: &RunSpec) {
    for TraceLine { at, subject, text } in trace.take_lines() {
        println!("{:>10.3} ms  {subject:<10} {text}", at.as_secs_f64() * 1_000.0);
    }
    let Plan { scenario, seed, faults, operations, .. } = plan;
    let (faults, operations) = (faults.len(), operations.len());
    println!("scenario {scenario}, seed {seed}: {faults} faults, {operations} operations");
    let (seconds, TraceDigest { hash, events }) = (outcome.simulated.as_secs_f64(), outcome.digest);
    println!("{seconds:.3} s simulated; trace {hash:016x} of {events} events");
    print_fired(outcome.fired.iter());
    if outcome.violations.is_empty() {
        println!("no violations");
        return;
    }
    println!("\n{} violations:\n", outcome.violations.len());
    for violation in &outcome.violations {
        println!("  {violation}\n");
    }
    println!("repeat with its trace:  {}", repeat_command(spec));
    println!("make it smaller:        {}", command("shrink", spec));
}

/// The command that repeats a run and prints its trace.
pub(super) fn repeat_command(spec: &RunSpec) -> String {
    format!("{} --trace", command("run", spec))
}

fn command(name: &str, spec: &RunSpec) -> String {
    let plan = match &spec.plan_file {
        Some(file) => format!("--plan {}", file.display()),
        None => format!("--scenario {} --seed {}", spec.scenario, spec.seed),
    };
    let bug = spec.bug.as_ref().map(|bug| format!(" --bug {bug}")).unwrap_or_default();
    format!("triggers-sim {name} {plan}{bug}")
}

/// Prints how often each kind of fault fired.
pub(super) fn print_fired<'a, N: Display>(fired: impl Iterator<Item = (N, &'a u64)>) {
    let all: Vec<String> = fired.map(|(name, count)| format!("{name} {count}")).collect();
    println!("faults fired: {}", if all.is_empty() { "none".to_owned() } else { all.join(", ") });
}

/// Prints the outcome of a run for programs: the trace lines if they were kept, then the report.
pub(super) fn json(plan: &Plan, outcome: &RunOutcome, trace: &Trace) {
    for TraceLine { at, subject, text } in trace.take_lines() {
        let at_ms = at.as_secs_f64() * 1_000.0;
        println!("{}", json!({ "at_ms": at_ms, "subject": subject, "text": text }));
    }
    let report = json!({
        "scenario": plan.scenario,
        "seed": plan.seed,
        "trace": format!("{:016x}", outcome.digest.hash),
        "events": outcome.digest.events,
        "operations": outcome.operations,
        "fired": outcome.fired,
        "violations": outcome.violations,
    });
    println!("{report}");
}

/// Puts the nodes' log lines of this level and above into the trace.
pub(super) fn trace_logs(level: LevelFilter, trace: &Trace) -> Result<(), String> {
    let layer = TraceLayer(trace.clone()).with_filter(level);
    tracing_subscriber::registry().with(layer).try_init().map_err(|error| error.to_string())
}

struct TraceLayer(Trace);

impl<S: Subscriber> Layer<S> for TraceLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = FieldText(String::new());
        event.record(&mut fields);
        let (at, host) = world::current_host();
        let (level, target) = (event.metadata().level(), event.metadata().target());
        self.0.note(at, &host, format_args!("[{level} {target}]{}", fields.0));
    }
}

struct FieldText(String);

impl Visit for FieldText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
