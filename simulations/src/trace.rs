//! The record of a run. Every event goes into a digest, so that two runs can be compared, and on
//! request into lines of text.
//!
//! Invariants: `TRACE-1` the digest does not depend on whether lines are kept; `TRACE-2` the trace
//! contains nothing from outside the run: no memory address and no real time.

use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use triggers_protocol::lock::lock;

/// One line of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceLine {
    /// Simulated time since the run began.
    pub at: Duration,
    /// The host, or the part of the world, that the event belongs to.
    pub subject: String,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceDigest {
    pub hash: u64,
    pub events: u64,
}

/// A trace; cheap to clone.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<TraceBuffer>>);

struct TraceBuffer {
    hasher: DefaultHasher,
    events: u64,
    lines: Option<Vec<TraceLine>>,
    text: String,
}

impl Trace {
    /// Creates an empty trace, which keeps its lines if `keeps_lines` is set.
    pub fn new(keeps_lines: bool) -> Self {
        Self(Arc::new(Mutex::new(TraceBuffer {
            hasher: DefaultHasher::new(),
            events: 0,
            lines: keeps_lines.then(Vec::new),
            text: String::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, TraceBuffer> {
        lock(&self.0)
    }

    pub fn note(&self, at: Duration, subject: &str, text: fmt::Arguments<'_>) {
        let mut buffer = self.lock();
        let buffer = &mut *buffer;
        buffer.text.clear();
        // Writing to a string cannot fail.
        let _ = buffer.text.write_fmt(text);
        buffer.hasher.write_u128(at.as_nanos());
        buffer.hasher.write(subject.as_bytes());
        buffer.hasher.write(buffer.text.as_bytes());
        buffer.events += 1;
        if let Some(lines) = &mut buffer.lines {
            lines.push(TraceLine { at, subject: subject.to_owned(), text: buffer.text.clone() });
        }
    }

    pub fn digest(&self) -> TraceDigest {
        let buffer = self.lock();
        TraceDigest { hash: buffer.hasher.finish(), events: buffer.events }
    }

    /// Removes and returns the lines, if they were kept.
    pub fn take_lines(&self) -> Vec<TraceLine> {
        self.lock().lines.take().unwrap_or_default()
    }
}

/// Formats bytes for a trace: their number and a hash.
pub struct BytesDigest<'a>(pub &'a [u8]);

impl fmt::Display for BytesDigest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hasher = DefaultHasher::new();
        hasher.write(self.0);
        write!(f, "{} bytes #{:08x}", self.0.len(), hasher.finish() as u32)
    }
}
