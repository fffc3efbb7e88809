//! Logs and metrics of the process: the one place where something process-wide is installed.
//!
//! Log lines go to the standard error stream, for people or as JSON, through a filter that can be changed while the node
//! runs. Metrics are gathered by a recorder that the admin listener renders for Prometheus.
//! Invariants: `TELEMETRY-1` a filter that cannot be understood is an error, never a default; `TELEMETRY-2` [`start`]
//! succeeds once in a process: a second time is an error and changes nothing. A simulation does not call it: without a
//! subscriber and a recorder everything that is logged and measured goes nowhere, at no cost.

mod error;
mod log;
mod measures;
mod process;

pub use error::{FilterError, TelemetryError};
pub use log::{LastLines, LogHandle};
pub use measures::MetricsHandle;

use triggers_cluster_config::LogOptions;

/// What [`start`] installed; cheap to clone.
#[derive(Clone)]
pub struct Telemetry {
    /// Changes the filter of log lines.
    pub log: LogHandle,
    /// Renders the metrics.
    pub metrics: MetricsHandle,
}

/// Installs the subscriber of log lines and the recorder of metrics. Inside a tokio runtime, as a node calls it, the
/// metrics' memory is kept bounded from then on.
///
/// # Errors
/// [`TelemetryError`].
pub fn start(options: &LogOptions) -> Result<Telemetry, TelemetryError> {
    Ok(Telemetry { log: log::start(options)?, metrics: measures::start()? })
}
