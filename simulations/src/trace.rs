//! The account of a run: every event of it goes into a digest, so that two runs can be compared, and into lines of text if
//! somebody wants to read them.
//!
//! Invariants: `TRACE-1` the digest is the same whether lines are kept or not; `TRACE-2` nothing is in it that is not of the
//! run: no address, no real time.

use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Since the run began.
    pub at: Duration,
    /// The host, or what else it is about.
    pub subject: String,
    /// What happened.
    pub text: String,
}

/// A trace; cheap to clone.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    hasher: DefaultHasher,
    count: u64,
    lines: Option<Vec<Line>>,
    text: String,
}

impl Trace {
    /// An empty trace, which keeps lines if it is told to.
    pub fn new(keeps_lines: bool) -> Self {
        let lines = keeps_lines.then(Vec::new);
        Self(Arc::new(Mutex::new(Inner {
            hasher: DefaultHasher::new(),
            count: 0,
            lines,
            text: String::new(),
        })))
    }

    /// Takes note of what happened.
    pub fn note(&self, at: Duration, subject: &str, text: fmt::Arguments<'_>) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        inner.text.clear();
        // Writing to a text cannot fail.
        let _ = inner.text.write_fmt(text);
        inner.hasher.write_u128(at.as_nanos());
        inner.hasher.write(subject.as_bytes());
        inner.hasher.write(inner.text.as_bytes());
        inner.count += 1;
        if let Some(lines) = &mut inner.lines {
            lines.push(Line { at, subject: subject.to_owned(), text: inner.text.clone() });
        }
    }

    /// The digest of everything so far, and how many events it is of.
    pub fn digest(&self) -> (u64, u64) {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.hasher.finish(), inner.count)
    }

    /// The lines, if they were kept.
    pub fn take_lines(&self) -> Vec<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lines.take().unwrap_or_default()
    }
}

/// Bytes as they stand in a trace: how many, and a digest.
pub struct Digest<'a>(pub &'a [u8]);

impl fmt::Display for Digest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hasher = DefaultHasher::new();
        hasher.write(self.0);
        write!(f, "{} bytes #{:08x}", self.0.len(), hasher.finish() as u32)
    }
}
