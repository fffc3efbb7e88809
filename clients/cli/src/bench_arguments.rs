//! `triggers bench`: the arguments, and how a load and its printed result come from them.
//!
//! Each number has bounds, so that a typing mistake does not become an excessive load. With
//! `--json` stdout gets exactly one line; progress, warnings and hints go to stderr. The crate
//! `triggers-bench` runs the load.

use super::connection::{ConnectionArguments, Role, URL_DEFAULT};
use super::exit::{CommandError, CommandResult};
use super::output;
use clap::{Args, ValueEnum, value_parser};
use std::path::{Path, PathBuf};
use triggers_bench::{AcknowledgeBy, BaselineShape, Mode, Plan};

/// Most keys that a file can have.
const KEYS_MAX: usize = 100_000;

/// Arguments of `triggers bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  triggers bench
      64 connections, one event a request, as fast as it goes
  triggers bench --mode batch --batch-size 500 --duration 30
  triggers bench --rate 2000 --duration 60
      2,000 events/s on schedule; latency counts from the intended time
  triggers bench --mode consume --backlog 200000 --connections 16 --ack lease
      200,000 events are accepted, then leased and acknowledged
  triggers bench --mode push --backlog 100000
  triggers bench --mode push --rate 2000
      webhooks to a receiver in this process; the node must allow http and loopback as targets
  triggers bench --mode baseline --connections 256
      what HTTP alone can do here, without a node

Modes:
  single   POST /v1/events
  batch    POST /v1/events/batch with --batch-size events
  read     GET /v1/inbox?limit=50, following the cursor
  mixed    60 % single, 20 % batches of 10, 10 % pages, 10 % acknowledgements
  drain    POST /v1/events, and nine of each connection's ten last acknowledged in one request
  consume  leases and acknowledgements of a --backlog until it is drained
  push     webhooks to --receivers, of a --backlog or of events posted at a --rate
  baseline a bare HTTP server in this process: answers of the same size, no store

Latency and requests/s count answers in 2xx only; the rest is listed by status. events/s counts \
events accepted, in the modes read, consume and push those read, acknowledged, or received as \
webhooks. In the mode push requests are webhooks, and latency counts from the intended time of the \
POST, or with a backlog from the begin of its delivery. A backlog has no warm-up and ends when it \
is drained or --duration is over. If the node runs on this machine, both share its cores.

The node's rate limit applies. The key of `triggers dev` has a high one; elsewhere an admin key \
makes \
a key for a load test:
  triggers keys create --name load --tenant acme --rate-limit-per-minute 100000000")]
pub struct BenchArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// Requests that the load consists of
    #[arg(long, value_enum, value_name = "MODE", default_value_t = ModeName::Single)]
    pub mode: ModeName,
    /// Connections held open, each with one request at a time
    #[arg(long, value_name = "N", default_value_t = 64,
        value_parser = value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Duration of the measurement, in seconds; with a backlog the longest
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
        value_parser = value_parser!(u64).range(1..=86_400))]
    pub duration: u64,
    /// Events a second on a fixed schedule (in the mode read: requests); 0 is as fast as the
    /// connections allow
    #[arg(long, value_name = "EVENTS_PER_S", default_value_t = 0,
        value_parser = value_parser!(u64).range(0..=10_000_000))]
    pub rate: u64,
    /// Size of a payload, in bytes
    #[arg(long, value_name = "N", default_value_t = 1_024,
        value_parser = value_parser!(u32).range(16..=1_048_576))]
    pub payload_bytes: u32,
    /// Events in a batch, in the mode batch and while a backlog is filled
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = value_parser!(u32).range(1..=1_000))]
    pub batch_size: u32,
    /// Duration of the load before the measurement, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1,
        value_parser = value_parser!(u64).range(0..=3_600))]
    pub warmup: u64,
    /// A file with one key a line (of many tenants, say), which the connections use in turn
    #[arg(long, value_name = "FILE")]
    pub keys_file: Option<PathBuf>,
    /// Events that the node accepts before the measurement, in the modes consume and push
    #[arg(long, value_name = "N", default_value_t = 0,
        value_parser = value_parser!(u64).range(0..=10_000_000))]
    pub backlog: u64,
    /// Events in a lease, in the mode consume
    #[arg(long, value_name = "N", default_value_t = 200,
        value_parser = value_parser!(u32).range(1..=200))]
    pub lease_limit: u32,
    /// How the mode consume acknowledges
    #[arg(long, value_enum, value_name = "HOW", default_value_t = AcknowledgeName::Batch)]
    pub ack: AcknowledgeName,
    /// Receivers in the mode push, each with a subscription; with a keys file of its tenants in
    /// turn
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = value_parser!(u32).range(1..=1_000))]
    pub receivers: u32,
    /// Webhooks in flight to one receiver
    #[arg(long, value_name = "N", default_value_t = 200,
        value_parser = value_parser!(u32).range(1..=1_000))]
    pub max_in_flight: u32,
    /// Which answer the mode baseline imitates
    #[arg(long, value_enum, value_name = "MODE", default_value_t = BaselineName::Single)]
    pub baseline_of: BaselineName,
}

/// Names of the modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeName {
    /// One event a request
    Single,
    /// Many events a request
    Batch,
    /// Writing, reading and acknowledging
    Mixed,
    /// Writing, and acknowledging most of it at once
    Drain,
    /// Reading the inbox
    Read,
    /// Leasing and acknowledging
    Consume,
    /// Receiving webhooks in this process
    Push,
    /// HTTP without a node
    Baseline,
}

/// How the mode consume acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AcknowledgeName {
    /// The events of a lease by their ids, in one request
    Batch,
    /// Each event in a request of its own, with its lease token
    Single,
    /// The whole lease in one request
    Lease,
}

/// What the mode baseline imitates, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BaselineName {
    /// The answer to one event
    Single,
    /// The answer to a batch
    Batch,
    /// A page of the inbox
    Read,
}

impl BenchArguments {
    fn mode(&self) -> Mode {
        let by = match self.ack {
            AcknowledgeName::Batch => AcknowledgeBy::Batch,
            AcknowledgeName::Single => AcknowledgeBy::Single,
            AcknowledgeName::Lease => AcknowledgeBy::Lease,
        };
        match (self.mode, self.baseline_of) {
            (ModeName::Single, _) => Mode::Single,
            (ModeName::Batch, _) => Mode::Batch,
            (ModeName::Mixed, _) => Mode::Mixed,
            (ModeName::Drain, _) => Mode::Drain,
            (ModeName::Read, _) => Mode::Read,
            (ModeName::Consume, _) => Mode::Consume(by),
            (ModeName::Push, _) => Mode::Push,
            (ModeName::Baseline, BaselineName::Single) => Mode::Baseline(BaselineShape::Single),
            (ModeName::Baseline, BaselineName::Batch) => Mode::Baseline(BaselineShape::Batch),
            (ModeName::Baseline, BaselineName::Read) => Mode::Baseline(BaselineShape::Read),
        }
    }

    fn plan(&self) -> Result<Plan, CommandError> {
        let mode = self.mode();
        let (url, keys) = match (&self.keys_file, mode) {
            (_, Mode::Baseline(_)) => (None, Vec::new()),
            (Some(file), _) => {
                let url = self.connection.url.as_deref().unwrap_or(URL_DEFAULT);
                (Some(url.to_owned()), keys(file)?)
            }
            (None, _) => {
                let target = self.connection.target(Role::Tenant)?;
                (Some(target.url), target.key.into_iter().collect())
            }
        };
        let plan = Plan {
            mode,
            url,
            keys,
            connections: self.connections,
            duration_seconds: self.duration,
            warmup_seconds: self.warmup,
            rate_events_per_second: self.rate,
            payload_bytes: self.payload_bytes as usize,
            batch_size: self.batch_size,
            backlog_events: self.backlog,
            lease_limit: self.lease_limit,
            receivers: self.receivers,
            max_in_flight: self.max_in_flight,
        };
        plan.check().map_err(CommandError::Usage)?;
        Ok(plan)
    }
}

/// Runs the load and prints the measurement.
///
/// # Errors
/// `CommandError::Usage` for arguments that exclude each other, `BenchError` if the load cannot
/// begin, `CommandError::Failed` if no request succeeded.
pub async fn run(arguments: BenchArguments) -> CommandResult {
    let plan = arguments.plan()?;
    let result = triggers_bench::run(plan, output::progress).await;
    output::progress_end();
    let report = result?;
    for note in report.notes() {
        output::note(&note);
    }
    if arguments.connection.json {
        output::json(&report.summary)?
    } else {
        output::line(&report.to_string())?
    }
    if report.requests == 0 && report.summary.duration_seconds > 0.0 {
        return Err(CommandError::Failed("not one request succeeded".to_owned()));
    }
    Ok(())
}

fn keys(file: &Path) -> Result<Vec<String>, CommandError> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| {
        CommandError::Usage(format!("cannot read the keys from {name}: {error}"))
    })?;
    let lines = text.lines().map(str::trim);
    let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<String> = keys.map(str::to_owned).collect();
    if keys.is_empty() || keys.len() > KEYS_MAX {
        let text = format!("{name} must hold 1 to {KEYS_MAX} keys, one a line");
        return Err(CommandError::Usage(text));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keys_file_has_one_key_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("keys");
        std::fs::write(&file, "# tenants\ntrg_live_a\n\n  trg_live_b \n").unwrap();
        assert_eq!(keys(&file).unwrap(), ["trg_live_a", "trg_live_b"]);
        std::fs::write(&file, "\n").unwrap();
        assert!(keys(&file).is_err());
    }
}
