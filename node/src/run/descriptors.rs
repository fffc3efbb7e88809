//! Makes the limit on open files and the bounds on connections agree before a node starts.
//!
//! - `DESCRIPTORS-1`: the soft limit is raised to the hard one.
//! - `DESCRIPTORS-2`: if connections and webhooks could together take more descriptors than there
//!   are, both bounds are lowered in proportion, so that neither takes what the other or the store
//!   needs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use triggers_cluster_config::NodeOptions;

/// Descriptors for the store, the runtimes, the listeners and links to other nodes.
/// Of a low limit they take half.
const RESERVED: usize = 64;

/// Too few descriptors for the configured bounds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooFew {
    limit: usize,
    needed: usize,
    connections_max: usize,
    webhooks_max: usize,
}

impl TooFew {
    /// Logs what was lowered.
    pub(super) fn log(&self) {
        let Self { limit, needed, connections_max, webhooks_max } = self;
        tracing::warn!(
            limit,
            needed,
            connections_max,
            webhooks_max,
            "the limit of open files (ulimit -n) is too low for listen.connections_max and \
             delivery.in_flight_max; both are lowered"
        );
    }
}

/// Raises the limit on open files as far as allowed, and lowers the bounds that do not fit.
pub(super) fn fit(options: &mut NodeOptions) -> Option<TooFew> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    // Some systems do not accept an unlimited number of files.
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { maximum } else { current };
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    lower(options, limit)
}

fn lower(options: &mut NodeOptions, limit: usize) -> Option<TooFew> {
    let (connections, webhooks) = (options.listen.connections_max, options.delivery.in_flight_max);
    let wanted = connections + webhooks;
    let needed = RESERVED + wanted;
    if limit >= needed {
        return None;
    }
    let free = limit - RESERVED.min(limit / 2);
    // At least a quarter for webhooks, whose number is small beside that of connections.
    let webhooks_max = (free * webhooks / wanted).max(free / 4).clamp(1, webhooks);
    let connections_max = free.saturating_sub(webhooks_max).clamp(1, connections);
    options.listen.connections_max = connections_max;
    options.delivery.in_flight_max = webhooks_max;
    options.delivery.tenant_in_flight_max = options.delivery.tenant_in_flight_max.min(webhooks_max);
    Some(TooFew { limit, needed, connections_max, webhooks_max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_fits_the_usual_limit() {
        let mut options = NodeOptions::default();
        assert_eq!(lower(&mut options, 20_000), None, "DESCRIPTORS-2");
        assert_eq!(options, NodeOptions::default());
    }

    proptest! {
        #[test]
        fn bounds_never_exceed_the_limit(limit in 0usize..12_000, webhooks in 1usize..5_000) {
            let mut options = NodeOptions::default();
            options.delivery.in_flight_max = webhooks;
            options.delivery.tenant_in_flight_max = webhooks;
            let before = options.clone();
            let lowered = lower(&mut options, limit);
            let (connections, webhooks) =
                (options.listen.connections_max, options.delivery.in_flight_max);
            prop_assert_eq!(lowered.is_none(), options == before);
            prop_assert!(options.delivery.tenant_in_flight_max <= webhooks);
            prop_assert!(connections >= 1 && webhooks >= 1);
            prop_assert!(
                connections + webhooks <= (limit - RESERVED.min(limit / 2)).max(2), "DESCRIPTORS-2"
            );
        }
    }
}
