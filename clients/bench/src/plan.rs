//! The plan of a load, and the check of its bounds.
//!
//! A plan that passed `check` is bounded in connections, time and size, and nothing widens it
//! later.

use super::baseline::BaselineShape;

/// Largest body of a batch that a node accepts, in bytes.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of an event in a batch beside its payload.
const ITEM_BYTES: usize = 48;
/// Smallest payload that has room for a time.
const PUSH_PAYLOAD_BYTES_MIN: usize = 64;

/// The requests that a load consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Requests to `POST /v1/events`.
    Single,
    /// Requests to `POST /v1/events/batch`.
    Batch,
    /// Writes, reads and acknowledgements.
    Mixed,
    /// `POST /v1/events`, and nine of ten acknowledged at once.
    Drain,
    /// Requests to `GET /v1/inbox`.
    Read,
    /// Leases and acknowledgements of a backlog.
    Consume(AcknowledgeBy),
    /// Webhooks to receivers in this process.
    Push,
    /// A server without a node behind it.
    Baseline(BaselineShape),
}

/// How leased events are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcknowledgeBy {
    /// The ids of a lease in one request.
    Batch,
    /// A request for each event, with its lease token.
    Single,
    /// The whole lease in one request, by its id.
    Lease,
}

impl Mode {
    /// The name of the mode in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Batch => "batch",
            Self::Mixed => "mixed",
            Self::Drain => "drain",
            Self::Read => "read",
            Self::Consume(_) => "consume",
            Self::Push => "push",
            Self::Baseline(_) => "baseline",
        }
    }
}

/// All settings of a load.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The kind of requests.
    pub mode: Mode,
    /// Base address; none in the mode baseline.
    pub url: Option<String>,
    /// API keys, used by the connections in turn; none in the mode baseline.
    pub keys: Vec<String>,
    /// Connections, 1 to 10,000.
    pub connections: u32,
    /// Measured time, 1 to 86,400 s.
    pub duration_seconds: u64,
    /// Time before measuring begins, at most 3,600 s.
    pub warmup_seconds: u64,
    /// Events a second on schedule; 0 for a closed loop.
    pub rate_events_per_second: u64,
    /// Payload size, 16 to 1,048,576 bytes.
    pub payload_bytes: usize,
    /// Events in a batch, 1 to 1,000.
    pub batch_size: u32,
    /// Events to accept before the measurement, at most 10,000,000; only for the modes consume and
    /// push.
    pub backlog_events: u64,
    /// Events in a lease, 1 to 200.
    pub lease_limit: u32,
    /// Receivers of webhooks, each with a subscription, 1 to 1,000.
    pub receivers: u32,
    /// Webhooks in flight to one receiver, 1 to 1,000.
    pub max_in_flight: u32,
}

impl Plan {
    /// Checks the bounds of the plan.
    ///
    /// # Errors
    /// The first exceeded bound, in words for people.
    pub fn check(&self) -> Result<(), String> {
        let bounds = [
            ("connections", u64::from(self.connections), 1, 10_000),
            ("duration", self.duration_seconds, 1, 86_400),
            ("warmup", self.warmup_seconds, 0, 3_600),
            ("rate", self.rate_events_per_second, 0, 10_000_000),
            ("payload-bytes", self.payload_bytes as u64, 16, 1_048_576),
            ("batch-size", u64::from(self.batch_size), 1, 1_000),
            ("backlog", self.backlog_events, 0, 10_000_000),
            ("lease-limit", u64::from(self.lease_limit), 1, 200),
            ("receivers", u64::from(self.receivers), 1, 1_000),
            ("max-in-flight", u64::from(self.max_in_flight), 1, 1_000),
        ];
        for (name, value, min, max) in bounds {
            if value < min || value > max {
                return Err(format!("{name} must be {min} to {max}, and is {value}"));
            }
        }
        if !matches!(self.mode, Mode::Baseline(_)) && (self.url.is_none() || self.keys.is_empty()) {
            return Err("an address and at least one key are needed".to_owned());
        }
        self.check_backlog()?;
        let batch_bytes = self.batch_events() as usize * (self.payload_bytes + ITEM_BYTES);
        if batch_bytes > BATCH_BYTES_MAX {
            return Err(format!(
                "a batch would have {batch_bytes} bytes, a node takes {BATCH_BYTES_MAX}; make \
                 payload-bytes or batch-size smaller"
            ));
        }
        Ok(())
    }

    /// The base address; empty in the mode baseline.
    pub fn base_url(&self) -> &str {
        self.url.as_deref().unwrap_or_default()
    }

    fn check_backlog(&self) -> Result<(), String> {
        let (backlog, rate) = (self.backlog_events, self.rate_events_per_second);
        let fault = match self.mode {
            Mode::Consume(_) if backlog == 0 => "the mode consume needs --backlog",
            Mode::Consume(_) if rate > 0 => "--rate does not apply to the mode consume",
            Mode::Push if (backlog == 0) == (rate == 0) => {
                "the mode push needs either --rate or --backlog"
            }
            Mode::Push if self.keys.len() > self.receivers as usize => {
                "--receivers must be at least as many as the keys"
            }
            Mode::Push if self.payload_bytes < PUSH_PAYLOAD_BYTES_MIN => {
                "--payload-bytes must be at least 64 in the mode push"
            }
            Mode::Consume(_) | Mode::Push => return Ok(()),
            _ if backlog > 0 => "--backlog applies to the modes consume and push only",
            _ => return Ok(()),
        };
        Err(fault.to_owned())
    }

    /// Events in a batch request of this load, or 1 if it sends no batches.
    pub fn batch_events(&self) -> u32 {
        match self.mode {
            Mode::Consume(_) => self.batch_size,
            Mode::Push if self.backlog_events > 0 => self.batch_size,
            Mode::Batch | Mode::Baseline(BaselineShape::Batch) => self.batch_size,
            Mode::Mixed => 10,
            _ => 1,
        }
    }

    /// The number of events that ten requests count for on a schedule.
    pub fn events_per_ten_requests(&self) -> u64 {
        match self.mode {
            Mode::Batch | Mode::Baseline(BaselineShape::Batch) => 10 * u64::from(self.batch_size),
            Mode::Mixed => 26,
            // Ten of eleven requests send an event.
            Mode::Drain => 9,
            _ => 10,
        }
    }
}
