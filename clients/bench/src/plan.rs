//! What load is asked for, and whether it can be.
//!
//! Invariant: a plan that passed `check` is bounded in connections, time and size, and nothing later widens it.
//!
//! It does not know the command line, which has the same bounds for better messages.

use super::ceiling::CeilingShape;

/// Largest body of a batch that a node takes, in bytes.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Room for what surrounds a payload in a batch, in bytes.
const ITEM_BYTES: usize = 48;

/// What a request of the load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `POST /v1/events`
    Single,
    /// `POST /v1/events/batch`
    Batch,
    /// Writes, reads and acknowledgements.
    Mixed,
    /// `POST /v1/events`, and nine of ten acknowledged at once.
    Drain,
    /// `GET /v1/inbox`
    Read,
    /// A server without a node behind it.
    Ceiling(CeilingShape),
}

impl Mode {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Batch => "batch",
            Self::Mixed => "mixed",
            Self::Drain => "drain",
            Self::Read => "read",
            Self::Ceiling(_) => "ceiling",
        }
    }
}

/// A load, complete.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What a request is.
    pub mode: Mode,
    /// Base address; none in the mode ceiling.
    pub url: Option<String>,
    /// API keys, used by the connections in turn; none in the mode ceiling.
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
}

impl Plan {
    /// Whether the plan is within its bounds.
    ///
    /// # Errors
    /// The first bound that is broken, in words.
    pub fn check(&self) -> Result<(), String> {
        let bounds = [
            ("connections", u64::from(self.connections), 1, 10_000),
            ("duration", self.duration_seconds, 1, 86_400),
            ("warmup", self.warmup_seconds, 0, 3_600),
            ("rate", self.rate_events_per_second, 0, 10_000_000),
            ("payload-bytes", self.payload_bytes as u64, 16, 1_048_576),
            ("batch-size", u64::from(self.batch_size), 1, 1_000),
        ];
        for (name, value, min, max) in bounds {
            if value < min || value > max {
                return Err(format!("{name} must be {min} to {max}, and is {value}"));
            }
        }
        if !matches!(self.mode, Mode::Ceiling(_)) && (self.url.is_none() || self.keys.is_empty()) {
            return Err("an address and at least one key are needed".to_owned());
        }
        let batch_bytes = self.batch_events() as usize * (self.payload_bytes + ITEM_BYTES);
        if batch_bytes > BATCH_BYTES_MAX {
            return Err(format!(
                "a batch would have {batch_bytes} bytes, a node takes {BATCH_BYTES_MAX}; make payload-bytes or batch-size smaller"
            ));
        }
        Ok(())
    }

    /// Events in a batch request of this load; 1 when there is none.
    pub fn batch_events(&self) -> u32 {
        match self.mode {
            Mode::Batch | Mode::Ceiling(CeilingShape::Batch) => self.batch_size,
            Mode::Mixed => 10,
            _ => 1,
        }
    }

    /// How many events ten requests count for on a schedule.
    pub fn events_per_ten_requests(&self) -> u64 {
        match self.mode {
            Mode::Batch | Mode::Ceiling(CeilingShape::Batch) => 10 * u64::from(self.batch_size),
            Mode::Mixed => 26,
            // Ten of eleven.
            Mode::Drain => 9,
            _ => 10,
        }
    }
}
