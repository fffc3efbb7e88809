//! The committer task: sends each group of independent commits to the database in one round trip.
//!
//! Invariants:
//! - `POSTGRES-COMMITTER-1`: a commit is answered after the database has made its group durable.
//! - `POSTGRES-COMMITTER-2`: if the outcome of a group is unknown, all of its commits get
//!   `MaybeCommitted`, and the group is not sent again.
//!
//! While one group is in flight, the next one gathers; there is no timer.

use super::group::{CommitGroup, PendingCommit};
use super::{PostgresOptions, PostgresPools, TIMEOUT, error};
use crate::kv::overlay::Write;
use crate::kv::{Fault, StoreError};
use deadpool_postgres::Object;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Interval of health checks while no commits arrive.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const COMMIT: &str = "SELECT * FROM triggers.commit_v1(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";

/// Runs until all senders are gone and all queued commits are answered.
pub(super) async fn run(
    pools: Arc<PostgresPools>,
    mut queue: mpsc::Receiver<PendingCommit>,
    options: PostgresOptions,
) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match timeout(PROBE_INTERVAL, queue.recv()).await {
                Ok(Some(commit)) => waiting.push_back(commit),
                Ok(None) => return,
                Err(_) => {
                    pools.probe().await;
                    continue;
                }
            }
        }
        while waiting.len() < options.commit_queue_max
            && let Ok(next) = queue.try_recv()
        {
            waiting.push_back(next);
        }
        let group = CommitGroup::gather(
            &mut waiting,
            options.group_transactions_max,
            options.group_bytes_max,
        );
        metrics::histogram!("triggers_store_group_transactions").record(group.commits.len() as f64);
        let verdicts = commit(&pools, &group.commits).await;
        pools.note(verdicts.as_ref().err());
        for (number, commit) in (0..).zip(group.commits) {
            let verdict = verdicts.as_ref().map_err(Clone::clone);
            let verdict = verdict.and_then(|rejections| rejections.verdict(number));
            // The caller may have stopped waiting; the commit stands all the same.
            let _ = commit.answer.send(verdict);
        }
    }
}

/// Commits of a group that had no effect, by their number.
struct Rejections {
    conflicts: Vec<i32>,
    corrupt: Vec<i32>,
}

impl Rejections {
    fn verdict(&self, number: i32) -> Result<(), StoreError> {
        if self.corrupt.contains(&number) {
            let reason = "an addition to a value that is not a counter";
            return Err(StoreError::fatal(Fault::Corrupt, reason));
        }
        if self.conflicts.contains(&number) {
            return Err(StoreError::Retryable("conflict: a key that was read has changed".into()));
        }
        Ok(())
    }
}

async fn commit(
    pools: &PostgresPools,
    commits: &[PendingCommit],
) -> Result<Rejections, StoreError> {
    let client = pools.committers.get().await.map_err(|failed| pools.unreachable(&failed))?;
    let statement = timeout(TIMEOUT, client.prepare_cached(COMMIT)).await;
    let statement = match statement {
        Ok(prepared) => prepared.map_err(|failed| error::of_read(&failed))?,
        Err(_) => {
            drop(Object::take(client));
            return Err(StoreError::Retryable("the database did not answer in time".into()));
        }
    };
    let columns = Columns::of(commits);
    let [key, range, clear, write, add] = &columns.numbers;
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 16] = [
        key,
        &columns.keys,
        &columns.key_values,
        range,
        &columns.range_lows,
        &columns.range_highs,
        &columns.range_digests,
        clear,
        &columns.clear_lows,
        &columns.clear_highs,
        write,
        &columns.write_keys,
        &columns.write_values,
        add,
        &columns.add_keys,
        &columns.add_deltas,
    ];
    match timeout(TIMEOUT, client.query_one(&statement, &parameters)).await {
        Ok(Ok(row)) => {
            let unreadable =
                |failed: tokio_postgres::Error| StoreError::MaybeCommitted(error::text(&failed));
            let column = |number: usize| row.try_get::<_, Vec<i32>>(number).map_err(unreadable);
            Ok(Rejections { conflicts: column(0)?, corrupt: column(1)? })
        }
        Ok(Err(failed)) => Err(error::of_commit(&failed)),
        Err(_) => {
            drop(Object::take(client));
            Err(StoreError::MaybeCommitted("the database did not answer in time".into()))
        }
    }
}

/// Parameters of `commit_v1`. `numbers` maps each row to its commit.
#[derive(Default)]
struct Columns<'a> {
    /// For keys, ranges, cleared ranges, writes and adds, in this order.
    numbers: [Vec<i32>; 5],
    keys: Vec<&'a [u8]>,
    key_values: Vec<Option<&'a [u8]>>,
    range_lows: Vec<&'a [u8]>,
    range_highs: Vec<&'a [u8]>,
    range_digests: Vec<&'a [u8]>,
    clear_lows: Vec<&'a [u8]>,
    clear_highs: Vec<&'a [u8]>,
    write_keys: Vec<&'a [u8]>,
    write_values: Vec<Option<&'a [u8]>>,
    add_keys: Vec<&'a [u8]>,
    add_deltas: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(commits: &'a [PendingCommit]) -> Self {
        let mut columns = Self::default();
        for (number, commit) in (0..).zip(commits) {
            columns.push(number, commit);
        }
        columns
    }

    fn push(&mut self, number: i32, commit: &'a PendingCommit) {
        let [keys, ranges, clears, writes, adds] = &mut self.numbers;
        for (key, value) in &commit.keys {
            keys.push(number);
            self.keys.push(key);
            self.key_values.push(value.as_deref());
        }
        for (range, digest) in &commit.ranges {
            ranges.push(number);
            self.range_lows.push(&range.begin);
            self.range_highs.push(&range.end);
            self.range_digests.push(digest);
        }
        for range in &commit.cleared {
            clears.push(number);
            self.clear_lows.push(&range.begin);
            self.clear_highs.push(&range.end);
        }
        for (key, write) in &commit.writes {
            match write {
                Write::Add(delta) => {
                    adds.push(number);
                    self.add_keys.push(key);
                    self.add_deltas.push(*delta);
                }
                Write::Set(value) => {
                    writes.push(number);
                    self.write_keys.push(key);
                    self.write_values.push(Some(value));
                }
                Write::Clear => {
                    writes.push(number);
                    self.write_keys.push(key);
                    self.write_values.push(None);
                }
            }
        }
    }
}
