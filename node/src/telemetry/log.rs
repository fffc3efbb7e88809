//! Log lines: format, filter, and the handle that changes the filter of a running node.
//!
//! - `LOG-1`: lines go to standard error only, so they never mix with the output of a command.
//! - `LOG-2`: a rejected filter leaves the current one in place.
//!
//! Colours are used only on a terminal. `lines` writes lines without blocking; `request` adds the
//! id of the request to a line.

pub(super) mod lines;
mod request;

use super::error::{FilterError, TelemetryError};
use lines::Lines;
use request::WithRequest;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};
use triggers_cluster_config::{LogFormat, LogOptions};
use triggers_protocol::lock::lock;

/// Longest filter in bytes.
const FILTER_LENGTH_MAX: usize = 1_024;

/// Directives appended to every filter: the details of these crates contain payloads or are noise.
const QUIET: &str = "ractor_cluster=warn,deadpool=error,tokio_postgres=warn,rustls=warn";

/// How long a stopping process waits for its last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads and changes the current filter; cheap to clone.
#[derive(Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    text: Arc<Mutex<String>>,
    lines: Lines,
}

/// Guard that, when dropped, waits up to a second for queued lines to be written.
pub struct FlushGuard(Lines);

impl Drop for FlushGuard {
    fn drop(&mut self) {
        self.0.flush(FLUSH_TIMEOUT);
    }
}

impl LogHandle {
    /// The current filter as it was set.
    pub fn filter(&self) -> String {
        lock(&self.text).clone()
    }

    /// A guard that a process must drop last.
    pub fn flush_guard(&self) -> FlushGuard {
        FlushGuard(self.lines.clone())
    }

    /// Replaces the filter.
    pub fn set_filter(&self, text: &str) -> Result<(), FilterError> {
        let filter = parse(text)?;
        let mut current = lock(&self.text);
        self.filter
            .reload(filter)
            .map_err(|error| FilterError(format!("cannot be changed: {error}")))?;
        text.clone_into(&mut current);
        Ok(())
    }
}

/// Installs the log subscriber.
pub(super) fn start(options: &LogOptions) -> Result<LogHandle, TelemetryError> {
    let (filter, handle) = reload::Layer::new(parse(&options.filter)?);
    let lines = Lines::start(std::io::stderr()).map_err(TelemetryError::Lines)?;
    let writer = lines.clone();
    let layer = fmt::layer().with_writer(move || writer.clone());
    let layer = match options.format {
        LogFormat::Human => {
            let has_colours = std::io::stderr().is_terminal();
            let layer = layer.map_event_format(|format| WithRequest {
                format: format.with_ansi(has_colours),
                is_json: false,
            });
            layer.with_ansi(has_colours).boxed()
        }
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_span_list(false);
            layer.map_event_format(|format| WithRequest { format, is_json: true }).boxed()
        }
    };
    tracing::subscriber::set_global_default(Registry::default().with(filter).with(layer))?;
    Ok(LogHandle { filter: handle, text: Arc::new(Mutex::new(options.filter.clone())), lines })
}

fn parse(text: &str) -> Result<EnvFilter, FilterError> {
    if text.trim().is_empty() || text.len() > FILTER_LENGTH_MAX {
        return Err(FilterError(format!("must be 1 to {FILTER_LENGTH_MAX} characters")));
    }
    EnvFilter::builder().parse(format!("{text},{QUIET}")).map_err(|error| {
        FilterError(format!(
            "must be a level or levels by module, such as info,triggers_store=debug: {error}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_parsed_or_rejected() {
        for good in ["info", "warn,triggers_store=debug", "off", "info,triggers_node::edge=trace"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        let long = "x".repeat(FILTER_LENGTH_MAX + 1);
        for bad in ["", " ", "info,triggers_store=loud", "a=b=c", "[", &long] {
            assert!(parse(bad).is_err(), "TELEMETRY-1: {bad}");
        }
    }

    #[test]
    fn a_rejected_filter_changes_nothing() {
        let (layer, filter) = reload::Layer::new(parse("info").unwrap());
        let lines = Lines::start(std::io::sink()).unwrap();
        let handle = LogHandle { filter, text: Arc::new(Mutex::new("info".to_owned())), lines };
        handle.set_filter("debug").unwrap();
        assert!(handle.set_filter("x=loud").is_err());
        assert_eq!(handle.filter(), "debug", "LOG-2");
        drop(layer);
        assert!(handle.set_filter("warn").is_err(), "the subscriber is gone");
        assert_eq!(handle.filter(), "debug");
    }
}
