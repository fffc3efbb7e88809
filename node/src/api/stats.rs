//! `GET /v1/stats`: a tenant in numbers.
//!
//! `STATS-1`: the counts are the stored ones, exact at the moment of reading; the rates are those
//! of the last minute on the node that owns the tenant. The node's own metrics are on the admin
//! listener.

use crate::api::prelude::*;
use triggers_actors::Statistics;
use triggers_protocol::api::{Stats, StatsCounts};
use triggers_protocol::{EventStatus, Timestamp};

/// Approximate bytes of the response.
const STATS_BYTES: usize = 384;

/// The routes of this resource.
pub(crate) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new().routes(routes!(get_stats))
}

fn stats(statistics: &Statistics, now: Timestamp) -> Stats {
    let count = |status| statistics.counts.get(status).max(0);
    Stats {
        counts: StatsCounts {
            received: count(EventStatus::Received),
            queued: count(EventStatus::Queued),
            delivered: count(EventStatus::Delivered),
            failed: count(EventStatus::Failed),
        },
        ingested_per_second: statistics.ingested_per_second,
        delivered_per_second: statistics.delivered_per_second,
        oldest_undelivered_at: statistics.oldest_waiting,
        oldest_undelivered_age_seconds: statistics
            .oldest_waiting
            .map(|oldest| now.since(oldest).as_secs_f64()),
    }
}

/// Read a tenant's statistics
#[utoipa::path(
    get, path = "/v1/stats", tag = "inbox", operation_id = "getStats",
    responses((status = 200, description = "The tenant in numbers", body = Stats)),
    security(("api_key" = ["inbox:read"]), ("bearer" = ["inbox:read"])),
)]
async fn get_stats(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxRead>,
) -> Result<Response, ApiError> {
    let statistics = edge.router.statistics(&caller.tenant, edge.deadline()).await?;
    respond(StatusCode::OK, &stats(&statistics, edge.environment.now()), STATS_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use triggers_actors::model::inbox::Counts;

    #[test]
    fn the_age_is_from_now_back_to_the_oldest() {
        let mut counts = Counts::default();
        counts.add(EventStatus::Received, 3);
        let oldest_waiting = Some(Timestamp::from_millis(1_000));
        let statistics = Statistics {
            counts,
            oldest_waiting,
            ingested_per_second: 1.0,
            delivered_per_second: 0.0,
        };
        let json = stats(&statistics, Timestamp::from_millis(2_500));
        assert_eq!((json.counts.received, json.oldest_undelivered_age_seconds), (3, Some(1.5)));
        let json =
            stats(&Statistics { oldest_waiting: None, ..statistics }, Timestamp::from_millis(0));
        assert_eq!(json.oldest_undelivered_age_seconds, None);
    }
}
