//! Latency of requests by route, method and class of status.
//!
//! A histogram is registered when its first request ends and its handle is kept, so that a request costs a look-up among
//! the routes, without a lock, and no labels are built for it.
//! Invariant: `MEASURE-1` the number of series is bounded by the routes there are: a path that no route has counts as one
//! route, a method that is none of the usual as one method.

use arc_swap::ArcSwap;
use axum::http::{Method, StatusCode};
use metrics::Histogram;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The route of requests that no route has.
pub(super) const UNKNOWN_ROUTE: &str = "none";
/// The metric's name.
pub(crate) const REQUEST_DURATION: &str = "triggers_http_request_duration_seconds";

const METHODS: [&str; 8] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The histograms of one route.
type RouteMeasures = [[OnceLock<Histogram>; CLASSES.len()]; METHODS.len()];

/// The histograms of all routes.
#[derive(Default)]
pub(super) struct Measures {
    /// Replaced as a whole when a route gets its first request, which happens as often as there are routes.
    routes: ArcSwap<HashMap<Box<str>, Arc<RouteMeasures>>>,
}

impl Measures {
    /// Counts a request that was answered.
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

    /// The route's histograms, added if nobody did so meanwhile.
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
    fn every_method_and_status_has_a_place() {
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
