//! Log lines: format, filter, and the handle that changes the filter of a running node.
//!
//! Invariants: `LOG-1` lines go to the standard error stream only, so that what a command prints stays its own; `LOG-2`
//! a filter that is refused leaves the one in effect. Colours are used only for people at a terminal. How lines get out
//! without anybody waiting for them is in `lines`, what they say of the request they belong to in `request`.

pub(super) mod lines;
mod request;

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};
use triggers_cluster_config::{LogFormat, LogOptions};

use super::error::{FilterError, TelemetryError};
use lines::Lines;
use request::WithRequest;

/// Characters that a filter may have.
const FILTER_LENGTH_MAX: usize = 1_024;

/// What these tell in detail holds payloads or says nothing new, so that no filter lets it through.
const QUIET: &str = "ractor_cluster=warn,deadpool=error,tokio_postgres=warn,rustls=warn";

/// How long the end of a process waits for its last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads and changes the filter in effect; cheap to clone.
#[derive(Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    text: Arc<Mutex<String>>,
    lines: Lines,
}

/// Waits for the last lines to be written when it is dropped, for a second at most.
pub struct LastLines(Lines);

impl Drop for LastLines {
    fn drop(&mut self) {
        self.0.flush(FLUSH_TIMEOUT);
    }
}

impl LogHandle {
    /// The filter in effect, as it was given.
    pub fn filter(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the end of the process has to drop last.
    pub fn last_lines(&self) -> LastLines {
        LastLines(self.lines.clone())
    }

    /// Puts another filter into effect.
    ///
    /// # Errors
    /// [`FilterError`] if it is not understood.
    pub fn set_filter(&self, text: &str) -> Result<(), FilterError> {
        let filter = parse(text)?;
        let mut current = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        self.filter
            .reload(filter)
            .map_err(|error| FilterError(format!("cannot be changed: {error}")))?;
        text.clone_into(&mut current);
        Ok(())
    }
}

/// Installs the subscriber.
pub(super) fn start(options: &LogOptions) -> Result<LogHandle, TelemetryError> {
    let (filter, handle) = reload::Layer::new(parse(&options.filter)?);
    let lines = Lines::start(std::io::stderr()).map_err(TelemetryError::Lines)?;
    let writer = lines.clone();
    let layer = fmt::layer().with_writer(move || writer.clone());
    let layer = match options.format {
        LogFormat::Human => {
            let has_colours = std::io::stderr().is_terminal();
            let layer = layer.with_ansi(has_colours);
            layer
                .map_event_format(|it| WithRequest {
                    format: it.with_ansi(has_colours),
                    is_json: false,
                })
                .boxed()
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
    fn filters_are_understood_or_refused() {
        for good in ["info", "warn,triggers_store=debug", "off", "info,triggers_node::edge=trace"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        let long = "x".repeat(FILTER_LENGTH_MAX + 1);
        for bad in ["", " ", "info,triggers_store=loud", "a=b=c", "[", &long] {
            assert!(parse(bad).is_err(), "TELEMETRY-1: {bad}");
        }
    }

    #[test]
    fn a_refused_filter_leaves_the_one_in_effect() {
        let (layer, filter) = reload::Layer::new(parse("info").unwrap());
        let lines = Lines::start(std::io::sink()).unwrap();
        let handle = LogHandle { filter, text: Arc::new(Mutex::new("info".to_owned())), lines };
        handle.set_filter("debug").unwrap();
        assert!(handle.set_filter("x=loud").is_err());
        assert_eq!(handle.filter(), "debug", "LOG-2");
        drop(layer);
        assert!(handle.set_filter("warn").is_err(), "the subscriber has gone");
        assert_eq!(handle.filter(), "debug");
    }
}
