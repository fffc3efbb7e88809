//! Logs and metrics: the only module that installs something process-wide.
//!
//! Log lines go to standard error, for people or as JSON, through a filter that can be changed
//! while the node runs. The admin listener renders the metrics for Prometheus.
//!
//! - `TELEMETRY-1`: an invalid filter is an error, never replaced by a default.
//! - `TELEMETRY-2`: [`start`] succeeds once in a process. A second call is an error and changes
//!   nothing.
//!
//! Simulations do not call it: without a subscriber and a recorder, logs and metrics cost nothing.

mod error;
mod log;
mod measures;
mod process;

pub use error::TelemetryError;
pub use log::{FlushGuard, LogHandle};
pub use measures::MetricsHandle;

use triggers_cluster_config::LogOptions;

/// Handles to what [`start`] installed; cheap to clone.
#[derive(Clone)]
pub struct Telemetry {
    /// Reads and changes the log filter.
    pub log: LogHandle,
    /// Renders metrics for Prometheus.
    pub metrics: MetricsHandle,
}

/// Installs the log subscriber and the metrics recorder. When called inside a tokio runtime, it
/// also starts the task that bounds the memory of the metrics.
pub fn start(options: &LogOptions) -> Result<Telemetry, TelemetryError> {
    Ok(Telemetry { log: log::start(options)?, metrics: measures::start()? })
}
