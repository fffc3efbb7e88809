//! Everything that the program prints.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where the program prints")]

use super::RunSpec;
use crate::plan::Plan;
use crate::run::RunOutcome;
use crate::trace::Trace;
use crate::world;
use serde_json::json;
use std::fmt::{self, Display};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Prints a line on stdout.
pub(super) fn print(line: fmt::Arguments<'_>) {
    println!("{line}");
}

/// Prints an error on stderr.
pub(super) fn print_error(error: impl Display) {
    eprintln!("triggers-sim: {error}");
}

/// Replaces the progress line, if stderr is a terminal.
pub(super) fn print_progress(line: fmt::Arguments<'_>) {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[2K{line}");
    }
}

/// Prints the outcome of a run for people.
pub(super) fn text(plan: &Plan, outcome: &RunOutcome, trace: &Trace, spec: &RunSpec) {
    for line in trace.take_lines() {
        println!(
            "{:>10.3} ms  {:<10} {}",
            line.at.as_secs_f64() * 1_000.0,
            line.subject,
            line.text
        );
    }
    let (faults, operations) = (plan.faults.len(), plan.operations.len());
    println!(
        "scenario {}, seed {}: {faults} faults, {operations} operations",
        plan.scenario, plan.seed
    );
    println!(
        "{:.3} s simulated; trace {:016x} of {} events",
        outcome.simulated.as_secs_f64(),
        outcome.digest.hash,
        outcome.digest.events
    );
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
    for line in trace.take_lines() {
        let at_ms = line.at.as_secs_f64() * 1_000.0;
        println!("{}", json!({ "at_ms": at_ms, "subject": line.subject, "text": line.text }));
    }
    println!(
        "{}",
        json!({
            "scenario": plan.scenario,
            "seed": plan.seed,
            "trace": format!("{:016x}", outcome.digest.hash),
            "events": outcome.digest.events,
            "operations": outcome.operations,
            "fired": outcome.fired,
            "violations": outcome.violations,
        })
    );
}

/// Puts the nodes' log lines of this level and above into the trace.
pub(super) fn trace_logs(level: &str, trace: &Trace) -> Result<(), String> {
    let filter: tracing_subscriber::filter::LevelFilter =
        level.parse().map_err(|_| format!("--log {level:?}: must be a log level such as info"))?;
    let layer = TraceLayer(trace.clone()).with_filter(filter);
    tracing_subscriber::registry().with(layer).try_init().map_err(|error| error.to_string())
}

struct TraceLayer(Trace);

impl<S: Subscriber> Layer<S> for TraceLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = FieldText(String::new());
        event.record(&mut fields);
        let (at, host) = world::current_host();
        let metadata = event.metadata();
        self.0.note(
            at,
            &host,
            format_args!("[{} {}]{}", metadata.level(), metadata.target(), fields.0),
        );
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
