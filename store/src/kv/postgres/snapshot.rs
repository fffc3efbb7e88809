//! A snapshot of the database: a pooled connection with an open read-only transaction.
//!
//! Invariants:
//! - `POSTGRES-SNAPSHOT-1`: the transaction begins with the first read, in the same round trip.
//! - `POSTGRES-SNAPSHOT-2`: a connection returns to the pool only after its transaction ended. If
//!   it does not end in time, the connection is closed.

use super::{PostgresPools, TIMEOUT, error};
use crate::kv::limits::PAGE_BYTES_MAX;
use crate::kv::prefetch::{Fetched, Prefetch};
use crate::kv::{KeyRange, Page, RangeRead, StoreError};
use bytes::Bytes;
use deadpool_postgres::Object;
use futures_util::future::{join, join3, try_join_all};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use tokio::runtime::Handle;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const GET: &str = "SELECT value FROM triggers.kv WHERE key = $1";
const GET_ALL: &str = "SELECT key, value FROM triggers.kv WHERE key = ANY($1)";
const DIGEST: &str = "SELECT triggers.range_digest_v1($1, $2)";
/// Returns pairs up to and including the one whose bytes reach `$4`.
const PAGE: &str = "SELECT key, value FROM (
    SELECT key, value, sum(octet_length(key) + octet_length(value))
        OVER (ORDER BY key ROWS UNBOUNDED PRECEDING)
        - octet_length(key) - octet_length(value) AS before
    FROM (SELECT key, value FROM triggers.kv
        WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3) AS pairs
) AS summed WHERE before < $4 ORDER BY key";
static PAGE_REVERSE: LazyLock<String> =
    LazyLock::new(|| PAGE.replace("ORDER BY key", "ORDER BY key DESC"));

pub(super) struct PostgresSnapshot {
    /// `None` only during the drop.
    client: Option<Object>,
    has_begun: bool,
    runtime: Handle,
}

impl PostgresSnapshot {
    pub(super) async fn open(pools: &PostgresPools) -> Result<Self, StoreError> {
        let client = pools.readers.get().await.map_err(|error| pools.unreachable(&error))?;
        Ok(Self { client: Some(client), has_begun: false, runtime: pools.runtime.clone() })
    }

    pub(super) async fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let rows = self.query(GET, &[&key]).await?;
        rows.first().map(|row| bytes(row, 0)).transpose()
    }

    /// Reads keys and pages; all queries are in flight together.
    pub(super) async fn fetch(&mut self, reads: Prefetch) -> Result<Fetched, StoreError> {
        let has_begun = std::mem::replace(&mut self.has_begun, true);
        let values = self.values(&reads.keys);
        let pages = try_join_all(reads.pages.iter().map(|read| self.page_of(read)));
        let (begun, values, pages) = join3(self.begin(has_begun), values, pages).await;
        begun?;
        let mut fetched = Fetched { values: values?, ..Fetched::default() };
        for (read, page) in reads.pages.into_iter().zip(pages?) {
            fetched.add_page(read, page);
        }
        Ok(fetched)
    }

    async fn values(
        &self,
        keys: &BTreeSet<Vec<u8>>,
    ) -> Result<BTreeMap<Bytes, Option<Bytes>>, StoreError> {
        let wanted: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let mut values: BTreeMap<Bytes, Option<Bytes>> =
            keys.iter().map(|key| (Bytes::copy_from_slice(key), None)).collect();
        if !wanted.is_empty() {
            for row in self.send(GET_ALL, &[&wanted]).await? {
                values.insert(bytes(&row, 0)?, Some(bytes(&row, 1)?));
            }
        }
        Ok(values)
    }

    /// A digest of all keys and values of a range, by which a commit finds out that it changed.
    pub(super) async fn digest(&mut self, range: &KeyRange) -> Result<Bytes, StoreError> {
        let rows = self.query(DIGEST, &[&&range.begin[..], &&range.end[..]]).await?;
        let row = rows
            .first()
            .ok_or_else(|| StoreError::Retryable("the database returned no digest".into()))?;
        bytes(row, 0)
    }

    pub(super) async fn page(&mut self, read: &RangeRead) -> Result<Page, StoreError> {
        let has_begun = std::mem::replace(&mut self.has_begun, true);
        let (begun, page) = join(self.begin(has_begun), self.page_of(read)).await;
        begun.and(page)
    }

    async fn page_of(&self, read: &RangeRead) -> Result<Page, StoreError> {
        let statement = if read.is_reverse { PAGE_REVERSE.as_str() } else { PAGE };
        // One extra pair tells whether there are more.
        let limit = i64::try_from(read.limit).unwrap_or(i64::MAX).saturating_add(1);
        let bytes_max = i64::try_from(PAGE_BYTES_MAX).unwrap_or(i64::MAX);
        let (begin, end) = (&read.range.begin[..], &read.range.end[..]);
        let rows = self.send(statement, &[&begin, &end, &limit, &bytes_max]).await?;
        let pair = |row: &Row| Ok((bytes(row, 0)?, bytes(row, 1)?));
        let mut pairs = rows.iter().map(pair).collect::<Result<Vec<_>, StoreError>>()?;
        let found: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        let more = pairs.len() > read.limit || found >= PAGE_BYTES_MAX;
        pairs.truncate(read.limit);
        Ok(Page { pairs, has_more: more })
    }

    async fn query(
        &mut self,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let has_begun = std::mem::replace(&mut self.has_begun, true);
        let (begun, rows) = join(self.begin(has_begun), self.send(statement, parameters)).await;
        begun.and(rows)
    }

    fn client(&self) -> &Object {
        self.client.as_ref().expect("only the drop removes the client")
    }

    /// Begins the transaction, unless it has begun. Must be polled before the queries.
    async fn begin(&self, has_begun: bool) -> Result<(), StoreError> {
        if has_begun {
            return Ok(());
        }
        self.client().batch_execute(BEGIN).await.map_err(|failed| error::of_read(&failed))
    }

    async fn send(
        &self,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let rows = async {
            let statement = self.client().prepare_cached(statement).await?;
            self.client().query(&statement, parameters).await
        };
        rows.await.map_err(|failed| error::of_read(&failed))
    }
}

impl Drop for PostgresSnapshot {
    fn drop(&mut self) {
        let Some(client) = self.client.take().filter(|_| self.has_begun) else { return };
        self.runtime.spawn(async move {
            let ended = tokio::time::timeout(TIMEOUT, client.batch_execute("COMMIT")).await;
            if !matches!(ended, Ok(Ok(()))) {
                // Removes the connection from the pool and closes it (`POSTGRES-SNAPSHOT-2`).
                drop(Object::take(client));
            }
        });
    }
}

fn bytes(row: &Row, column: usize) -> Result<Bytes, StoreError> {
    let value: &[u8] = row.try_get(column).map_err(|failed| error::of_read(&failed))?;
    Ok(Bytes::copy_from_slice(value))
}
