//! The metrics recorder, its histogram buckets, and the handle that renders it.
//!
//! - `MEASURES-1`: the suffix of the name of a histogram is its unit and selects the buckets:
//!   `_age_seconds`, `_seconds`, or counts.
//! - `MEASURES-2`: recorded values are aggregated every `UPKEEP_INTERVAL`, so that memory stays
//!   bounded when nothing scrapes the metrics.

use super::log::lines::LINES_DROPPED;
use super::process;
use crate::http::server::CONNECTIONS_REJECTED;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::time::Duration;

/// Interval of the upkeep task.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Bucket bounds in seconds, from a read in memory to the longest request.
const SECONDS: [f64; 18] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.007_5, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5, 10.0, 30.0,
];
/// Bucket bounds in seconds, from one commit to the end of a long retry policy.
const AGES: [f64; 12] =
    [0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0, 21_600.0, 86_400.0];
/// Bucket bounds for counts.
const NUMBERS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];

/// Names and descriptions of the counters.
const COUNTERS: &[(&str, &str)] = &[
    (CONNECTIONS_REJECTED, "Connections closed because their address had too many"),
    ("triggers_admission_rejections_total", "Requests, responses and streams rejected, by limit"),
    (LINES_DROPPED, "Log lines dropped because the queue was full"),
    ("triggers_inbox_failures_total", "Inbox actors that failed"),
    ("triggers_store_paced_groups_total", "Groups delayed because the log is filling up"),
    ("triggers_store_flushed_keys_total", "Keys flushed into the data file"),
    ("triggers_delivery_attempt_failures_total", "Delivery attempts that failed inside the node"),
    ("triggers_webhook_requests_total", "Webhooks sent, by class of status or kind of failure"),
    ("triggers_webhooks_unsent_total", "Webhooks that this node could not send, by its fault"),
    ("triggers_webhook_requests_resent_total", "Webhooks sent again: kept connection had ended"),
    ("triggers_webhook_breakers_opened_total", "Circuit breakers opened by failing endpoints"),
    ("triggers_subscriptions_disabled_total", "Subscriptions that the node disabled, by reason"),
    ("triggers_swept_total", "Rows removed by the sweeper"),
    ("triggers_partition_takeovers_total", "Partitions taken over from nodes that stopped"),
    ("triggers_partition_transfers_total", "Partitions transferred to another node"),
    ("triggers_clock_steps_total", "Steps of the wall clock, by direction"),
    ("triggers_memberships_lost_total", "Times this node could not write its heartbeat in time"),
    ("triggers_link_changes_total", "Links to other nodes that came up or went down"),
    ("triggers_peer_rejections_total", "Calls of peers rejected because too many were in flight"),
    ("triggers_requests_without_owner_total", "Requests that no owner answered"),
];
/// Names and descriptions of the gauges.
const GAUGES: &[(&str, &str)] = &[
    ("triggers_build_info", "Always 1; the version is a label"),
    ("triggers_http_connections", "Open connections"),
    ("triggers_inboxes_open", "Inboxes in memory"),
    ("triggers_webhooks_in_flight", "Places for webhooks in flight that are taken"),
    ("triggers_webhook_endpoints_slow", "Subscriptions whose endpoint is slow"),
    ("triggers_store_log_segments", "Segments of the log"),
    ("triggers_store_log_segments_sealed", "Segments of the log waiting to be flushed"),
    ("triggers_clock_lead_seconds", "Time by which due times are ahead of the wall clock"),
    ("triggers_clock_disbelieved_seconds", "Time by which the wall clock is ahead of belief"),
    ("triggers_cluster_nodes", "Nodes with a row in the store"),
    ("triggers_partitions_owned", "Partitions that this node serves"),
    (process::RESIDENT, "Memory of the process, the store's pages included"),
    (process::OPEN_FILES, "Open file descriptors, connections included"),
    (process::THREADS, "Threads of the process"),
];
/// Names and descriptions of the histograms.
const HISTOGRAMS: &[(&str, &str)] = &[
    (
        "triggers_http_request_duration_seconds",
        "Time to respond, by route, method, class of status",
    ),
    ("triggers_inbox_batch_events", "Events in one commit of an inbox"),
    ("triggers_store_group_transactions", "Transactions in one synchronised write"),
    ("triggers_store_flush_seconds", "Duration of flushing a log segment into the data file"),
    ("triggers_delivery_age_seconds", "Time from accepting an event to the end of its delivery"),
    ("triggers_webhook_duration_seconds", "Time of an attempt to send a webhook"),
    ("triggers_partition_transfer_seconds", "Duration of a partition transfer"),
    ("triggers_forward_seconds", "Time from forwarding a request to the answer of the owner"),
];

/// Renders all metrics; cheap to clone.
#[derive(Clone)]
pub struct MetricsHandle(PrometheusHandle);

impl MetricsHandle {
    /// All metrics in the Prometheus text format; process metrics are read now.
    pub fn render(&self) -> String {
        process::refresh();
        self.0.run_upkeep();
        self.0.render()
    }

    /// Runs the upkeep that bounds memory, for ever.
    async fn keep_up(self) {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            interval.tick().await;
            self.0.run_upkeep();
        }
    }
}

/// Installs the metrics recorder.
pub(super) fn start() -> Result<MetricsHandle, BuildError> {
    let handle = MetricsHandle(builder()?.install_recorder()?);
    for (name, text) in COUNTERS {
        metrics::describe_counter!(*name, *text);
    }
    for (name, text) in GAUGES {
        metrics::describe_gauge!(*name, *text);
    }
    for (name, text) in HISTOGRAMS {
        metrics::describe_histogram!(*name, *text);
    }
    for counter in [CONNECTIONS_REJECTED, LINES_DROPPED] {
        metrics::counter!(counter).absolute(0);
    }
    metrics::gauge!("triggers_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        // The task ends with the runtime. Like the recorder it belongs to the process, not to a
        // node.
        runtime.spawn(handle.clone().keep_up());
    }
    Ok(handle)
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets(&NUMBERS)?
        .set_buckets_for_metric(Matcher::Suffix("_age_seconds".to_owned()), &AGES)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_the_buckets() {
        let recorder = builder().unwrap().build_recorder();
        let handle = MetricsHandle(recorder.handle());
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("a_wait_seconds").record(0.002);
            metrics::histogram!("a_batch_events").record(3.0);
            metrics::histogram!("a_thing_age_seconds").record(7_000.0);
            let text = handle.render();
            assert!(text.contains("a_wait_seconds_bucket{le=\"0.0005\"} 0"), "{text}");
            assert!(text.contains("a_wait_seconds_bucket{le=\"0.002\"} 1"), "{text}");
            assert!(text.contains("a_thing_age_seconds_bucket{le=\"21600\"} 1"), "{text}");
            assert!(text.contains("a_batch_events_bucket{le=\"4\"} 1"), "{text}");
            assert!(!cfg!(target_os = "linux") || text.contains(process::RESIDENT), "{text}");
        });
    }
}
