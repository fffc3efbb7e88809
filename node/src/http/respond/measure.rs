//! Measures the latency of requests by route, method and status class.
//!
//! Handles of histograms are kept, so that recording takes no lock and builds no labels.
//!
//! - `MEASURE-1`: the routes bound the number of series. All unknown paths count as one route, and
//!   all unusual methods as one method.

use arc_swap::ArcSwap;
use axum::http::{Method, StatusCode};
use metrics::Histogram;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Label of requests whose path has no route.
pub(super) const UNKNOWN_ROUTE: &str = "none";
/// Name of the latency metric.
pub(crate) const REQUEST_DURATION: &str = "triggers_http_request_duration_seconds";

const METHODS: [&str; 8] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Histograms of one route, by method and status class.
type RouteMeasures = [[OnceLock<Histogram>; CLASSES.len()]; METHODS.len()];

/// Histograms of all routes.
#[derive(Default)]
pub(super) struct Measures {
    /// Replaced when a route gets its first request.
    routes: ArcSwap<HashMap<Box<str>, Arc<RouteMeasures>>>,
}

impl Measures {
    /// Records the latency of a request.
    pub(super) fn record(
        &self,
        route: &str,
        method: &Method,
        status: StatusCode,
        elapsed: Duration,
    ) {
        let (method, class) = (method_index(method), class_index(status));
        let known = self.routes.load();
        let added;
        let measures = match known.get(route) {
            Some(measures) => measures,
            None => {
                added = self.add(route);
                &added
            }
        };
        let histogram = measures[method][class].get_or_init(|| {
            let labels = [
                ("route", route.to_owned()),
                ("method", METHODS[method].to_owned()),
                ("status", CLASSES[class].to_owned()),
            ];
            metrics::histogram!(REQUEST_DURATION, &labels)
        });
        histogram.record(elapsed.as_secs_f64());
    }

    /// Adds a route, unless it was added concurrently, and returns its histograms.
    fn add(&self, route: &str) -> Arc<RouteMeasures> {
        let fresh = Arc::<RouteMeasures>::default();
        self.routes.rcu(|routes| {
            let mut routes = HashMap::clone(routes);
            routes.entry(route.into()).or_insert_with(|| fresh.clone());
            routes
        });
        self.routes.load().get(route).cloned().unwrap_or(fresh)
    }
}

fn method_index(method: &Method) -> usize {
    METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(METHODS.len() - 1)
}

fn class_index(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_and_status_has_a_label() {
        for (method, name) in
            [(Method::GET, "GET"), (Method::TRACE, "other"), (Method::DELETE, "DELETE")]
        {
            assert_eq!(METHODS[method_index(&method)], name);
        }
        for (status, name) in [(100, "1xx"), (204, "2xx"), (431, "4xx"), (503, "5xx"), (999, "5xx")]
        {
            assert_eq!(CLASSES[class_index(StatusCode::from_u16(status).unwrap())], name);
        }
    }

    #[test]
    fn a_route_is_registered_once() {
        let measures = Measures::default();
        for _ in 0..3 {
            measures.record(
                "/v1/events",
                &Method::POST,
                StatusCode::CREATED,
                Duration::from_millis(1),
            );
        }
        measures.record("/v1/inbox", &Method::GET, StatusCode::OK, Duration::from_millis(1));
        assert_eq!(measures.routes.load().len(), 2);
        assert!(Arc::ptr_eq(&measures.add("/v1/events"), &measures.add("/v1/events")));
    }
}
