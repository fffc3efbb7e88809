//! The recorder of metrics, its buckets, and the handle that renders it.
//!
//! Invariants: `MEASURES-1` a histogram's unit is the end of its name, and the unit decides the buckets: `_age_seconds`,
//! `_seconds`, or a number of things; `MEASURES-2` what was recorded is taken into the buckets every `UPKEEP_INTERVAL`, so that memory
//! stays bounded when nobody scrapes.

use super::log::lines::LINES_DROPPED;
use super::process;
use crate::http::server::CONNECTIONS_REFUSED;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::time::Duration;

/// Time between two upkeeps.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// From a read in memory to the longest a request may take.
const SECONDS: [f64; 18] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.007_5, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5, 10.0, 30.0,
];
/// From the next commit to the end of the longest retry policy that is usual.
const AGES: [f64; 12] =
    [0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0, 21_600.0, 86_400.0];
const NUMBERS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];

/// Renders the metrics; cheap to clone.
#[derive(Clone)]
pub struct MetricsHandle(PrometheusHandle);

impl MetricsHandle {
    /// Every metric in the text format of Prometheus, with fresh ones of the process.
    pub fn render(&self) -> String {
        process::refresh();
        self.0.run_upkeep();
        self.0.render()
    }

    /// Keeps memory bounded; it never ends.
    async fn keep_up(self) {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            ticks.tick().await;
            self.0.run_upkeep();
        }
    }
}

/// Installs the recorder.
pub(super) fn start() -> Result<MetricsHandle, BuildError> {
    let handle = builder()?.install_recorder()?;
    metrics::describe_histogram!(
        "triggers_http_request_duration_seconds",
        metrics::Unit::Seconds,
        "Time from a request's head to its response, by route, method and class of status"
    );
    metrics::describe_gauge!("triggers_http_connections", "Open connections");
    metrics::describe_counter!(
        CONNECTIONS_REFUSED,
        "Connections closed because their address had as many as it may"
    );
    metrics::describe_counter!(LINES_DROPPED, "Log lines that nobody took in time");
    for counter in [CONNECTIONS_REFUSED, LINES_DROPPED] {
        metrics::counter!(counter).absolute(0);
    }
    describe_broker();
    describe_cluster();
    metrics::describe_gauge!("triggers_build_info", "Always 1; the version is a label");
    metrics::gauge!("triggers_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    process::describe();
    let handle = MetricsHandle(handle);
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        // It ends with the runtime: like the recorder it belongs to the process and to no node.
        runtime.spawn(handle.clone().keep_up());
    }
    Ok(handle)
}

/// What inboxes, deliveries and the store count.
fn describe_broker() {
    metrics::describe_gauge!("triggers_inboxes_open", "Inboxes in memory");
    metrics::describe_counter!(
        "triggers_inbox_failures_total",
        "Inboxes that failed and were built again"
    );
    metrics::describe_histogram!("triggers_inbox_batch_events", "Events of one commit of an inbox");
    metrics::describe_histogram!(
        "triggers_store_group_transactions",
        "Transactions of one synchronised write"
    );
    metrics::describe_counter!(
        "triggers_store_paced_groups_total",
        "Groups that waited because the log fills up"
    );
    metrics::describe_histogram!(
        "triggers_store_flush_seconds",
        "Flushes of the log into the data file"
    );
    metrics::describe_counter!(
        "triggers_store_flushed_keys_total",
        "Keys that were flushed into the data file"
    );
    metrics::describe_gauge!("triggers_store_log_segments", "Segments of the log");
    metrics::describe_gauge!(
        "triggers_store_log_segments_sealed",
        "Segments of the log that wait to be flushed"
    );
    metrics::describe_histogram!(
        "triggers_delivery_age_seconds",
        metrics::Unit::Seconds,
        "Time from an event's acceptance to the end of the attempt that delivered it"
    );
    metrics::describe_counter!(
        "triggers_delivery_attempt_failures_total",
        "Attempts that broke inside the node"
    );
    metrics::describe_counter!(
        "triggers_webhook_breakers_opened_total",
        "Times an endpoint began to be left alone"
    );
    metrics::describe_counter!(
        "triggers_subscriptions_disabled_total",
        "Subscriptions that the node disabled, by reason"
    );
    metrics::describe_counter!(
        "triggers_swept_total",
        "Rows removed because they had reached their age"
    );
}

/// What a node counts of its cluster.
fn describe_cluster() {
    let seconds = metrics::Unit::Seconds;
    metrics::describe_gauge!("triggers_cluster_nodes", "Members that have a row in the store");
    metrics::describe_gauge!("triggers_partitions_owned", "Partitions that this node serves");
    metrics::describe_counter!(
        "triggers_partition_takeovers_total",
        "Partitions taken that had no owner to serve them"
    );
    metrics::describe_counter!(
        "triggers_partition_transfers_total",
        "Partitions handed over to another member"
    );
    metrics::describe_histogram!(
        "triggers_partition_transfer_seconds",
        seconds,
        "Time that a hand-over took"
    );
    metrics::describe_counter!(
        "triggers_memberships_lost_total",
        "Times this node could not write its beat in time"
    );
    metrics::describe_counter!(
        "triggers_link_changes_total",
        "Links to members that came up or went down"
    );
    metrics::describe_counter!(
        "triggers_peer_rejections_total",
        "Calls of members refused because of too many under way"
    );
    metrics::describe_histogram!(
        "triggers_relay_seconds",
        seconds,
        "Time from sending a request to its owner to the answer"
    );
    metrics::describe_counter!(
        "triggers_requests_without_owner_total",
        "Requests for which no owner answered"
    );
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
            assert!(
                !cfg!(target_os = "linux") || text.contains("process_resident_memory_bytes"),
                "{text}"
            );
        });
    }
}
