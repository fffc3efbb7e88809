//! The conformance suite: what transactions guarantee on every engine.
//!
//! `conformance!` makes one module per engine and one test per case. A case is a function over a
//! [`Subject`]. It uses only the `kv` traits, names no engine, and uses only the keys of its
//! subject. Engines may find conflicts by version or by value, so no case changes a value and
//! changes it back.

pub mod adds;
pub mod conflicts;
pub mod limits;
pub mod model;
pub mod pipelines;
pub mod ranges;
pub mod reads;
pub mod runs;
pub mod serializability;

use std::time::Duration;

/// Fails a case that hangs.
pub async fn within_deadline(case: impl Future<Output = ()>) {
    let deadline = Duration::from_secs(60);
    tokio::time::timeout(deadline, case).await.expect("the case ends before its deadline");
}

macro_rules! cases {
    ($make:path, $group:ident, [$($case:ident),* $(,)?]) => {
        mod $group {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    // `None` if the engine's server is not installed.
                    let subject = Option::<$crate::subject::Subject>::from($make().await);
                    let Some(subject) = subject else { return };
                    let case = $crate::conformance::$group::$case(&subject);
                    $crate::conformance::within_deadline(case).await;
                }
            )*
        }
    };
}
pub(crate) use cases;

macro_rules! conformance {
    ($($engine:ident => $make:path;)*) => {
        $(
            mod $engine {
                use $crate::conformance::cases;

                cases!($make, reads, [
                    own_writes, pairs_of_keys, one_snapshot, everything_committed_before,
                    dropped_without_commit, empty_value, many_transactions_at_once,
                ]);
                cases!($make, ranges, [
                    empty_and_inverted, from_the_empty_key, prefix_of_0xff, limit_and_more, reverse,
                    limit_of_zero, own_writes_merged, cleared_range_inside,
                    all_but_the_last_cleared, page_bytes,
                ]);
                cases!($make, adds, [
                    absent, wraps, after_set, after_clear, with_clear_range, read_in_between,
                    to_a_malformed_counter, to_an_own_malformed_counter,
                    a_malformed_one_in_a_group,
                ]);
                cases!($make, limits, [
                    key_bytes, value_bytes, transaction_bytes, keys_of_reads,
                    a_violation_fails_the_transaction,
                ]);
                cases!($make, conflicts, [
                    write_skew, pair_of_keys, fetched_in_advance, lost_update, phantom,
                    phantom_by_removal, absent_key,
                    page_end, beyond_the_page, snapshot_reads, added_conflict, blind_writes, adds,
                    own_writes, read_only, deleted_range,
                ]);
                cases!($make, runs, [
                    commits, retries_conflicts, retries_a_real_conflict, gives_up_at_the_deadline,
                    begins_nothing_late, deadline_before_the_commit, deadline_during_the_commit,
                    unknown_is_returned, unknown_is_retried, unknown_stays_unknown,
                    errors_of_the_closure, fatal_is_returned,
                ]);
                cases!($make, pipelines, [each_sees_the_previous_one, a_conflict_is_not_ordered]);
                cases!($make, model, [random_calls]);
                cases!($make, serializability, [random_transactions]);
            }
        )*
    };
}
pub(crate) use conformance;
