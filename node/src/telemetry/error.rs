//! Errors of setting up logs and metrics.

/// Why logs or metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The configured filter is invalid.
    #[error("log.filter {0}")]
    Filter(#[from] FilterError),
    /// The log writer thread could not be started.
    #[error("the log writer thread cannot be started: {0}")]
    Lines(#[source] std::io::Error),
    /// The process already has a log subscriber.
    #[error("a log subscriber is already installed: {0}")]
    Subscriber(#[from] tracing::subscriber::SetGlobalDefaultError),
    /// The process already has a metrics recorder, or the buckets are invalid.
    #[error("the metrics recorder cannot be installed: {0}")]
    Recorder(#[from] metrics_exporter_prometheus::BuildError),
}

/// An invalid log filter. The message follows the name of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(pub(super) String);
