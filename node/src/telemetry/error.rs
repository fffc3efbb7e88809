//! Why logs or metrics could not be set up.

/// Why logs or metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter in the options.
    #[error("log.filter {0}")]
    Filter(#[from] FilterError),
    /// The thread that writes lines.
    #[error("log lines have no thread that writes them: {0}")]
    Lines(#[source] std::io::Error),
    /// There is a subscriber already.
    #[error("log lines have a subscriber already: {0}")]
    Subscriber(#[from] tracing::subscriber::SetGlobalDefaultError),
    /// There is a recorder already, or its buckets are not usable.
    #[error("metrics cannot be recorded: {0}")]
    Recorder(#[from] metrics_exporter_prometheus::BuildError),
}

/// A log filter that cannot be used. The message follows the field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(pub(super) String);
