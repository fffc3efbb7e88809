//! Cases: which commits conflict, and which must not.
//!
//! A transaction conflicts if another commit changed something that it read or named with
//! `add_conflict`. It must not conflict over keys that it only wrote, added to, or read as a
//! snapshot: throughput depends on that. Engines that compare values do not see a value that
//! changed and changed back, so no case does that.

use crate::subject::Subject;
use triggers_store::kv::{Prefetch, RangeRead, StoreError, Transaction, decode_counter};

fn assert_conflict(outcome: Result<(), StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Retryable(_))), "{outcome:?}");
}

async fn read(open: &mut dyn Transaction, subject: &Subject, name: &str) {
    open.get(&subject.key(name)).await.unwrap();
}

pub async fn write_skew(subject: &Subject) {
    let (mut left, mut right) = (subject.begin().await, subject.begin().await);
    read(&mut *left, subject, "a").await;
    read(&mut *right, subject, "b").await;
    left.set(&subject.key("b"), b"left");
    right.set(&subject.key("a"), b"right");
    left.commit().await.unwrap();
    assert_conflict(right.commit().await);
    assert_eq!(subject.value("a").await, None);
}

/// Reads `a` and `b` as a pair, then changes `b` in another transaction, then commits a write.
async fn after_a_pair(subject: &Subject, is_checked: bool) -> Result<(), StoreError> {
    let [a, b] = ["a", "b"].map(|name| subject.key(name));
    let mut open = subject.begin().await;
    open.get_pair([&a, &b], is_checked).await.unwrap();
    subject.put("b", if is_checked { "1" } else { "2" }).await;
    open.set(&subject.key("z"), b"1");
    open.commit().await
}

pub async fn pair_of_keys(subject: &Subject) {
    assert_conflict(after_a_pair(subject, true).await);
    after_a_pair(subject, false).await.unwrap();
}

/// Fetches `a` and `b` in advance, reads `a`, changes `name` in another transaction, then commits.
async fn after_a_prefetch(subject: &Subject, name: &str) -> Result<(), StoreError> {
    let mut open = subject.begin().await;
    let mut reads = Prefetch::default();
    reads.key(subject.key("a"));
    reads.key(subject.key("b"));
    reads.first(subject.all(), 10);
    open.prefetch(reads).await.unwrap();
    read(&mut *open, subject, "a").await;
    subject.put(name, "new").await;
    open.set(&subject.key("z"), b"1");
    open.commit().await
}

pub async fn fetched_in_advance(subject: &Subject) {
    after_a_prefetch(subject, "b").await.unwrap();
    assert_conflict(after_a_prefetch(subject, "a").await);
}

pub async fn lost_update(subject: &Subject) {
    subject.put("a", "0").await;
    let (mut left, mut right) = (subject.begin().await, subject.begin().await);
    for open in [&mut left, &mut right] {
        read(&mut **open, subject, "a").await;
    }
    left.set(&subject.key("a"), b"left");
    right.set(&subject.key("a"), b"right");
    left.commit().await.unwrap();
    assert_conflict(right.commit().await);
    assert_eq!(subject.value("a").await.unwrap(), "left");
}

/// Reads one page of `a..m`, then commits `change` in another transaction, then commits a write to
/// `z`.
async fn after_a_page(
    subject: &Subject,
    limit: usize,
    change: impl AsyncFnOnce(&mut dyn Transaction),
) -> Result<(), StoreError> {
    let mut open = subject.begin().await;
    let read = RangeRead::first(subject.range("a", "m"), limit);
    open.range(read).await.unwrap();
    subject.commit(change).await.unwrap();
    open.set(&subject.key("z"), b"1");
    open.commit().await
}

pub async fn phantom(subject: &Subject) {
    subject.put("b", "1").await;
    let insert = async |open: &mut dyn Transaction| open.set(&subject.key("c"), b"1");
    assert_conflict(after_a_page(subject, 9, insert).await);
    let outside = async |open: &mut dyn Transaction| open.set(&subject.key("m"), b"1");
    after_a_page(subject, 9, outside).await.unwrap();
}

pub async fn phantom_by_removal(subject: &Subject) {
    subject.put("b", "1").await;
    let remove = async |open: &mut dyn Transaction| open.clear_range(subject.range("a", "c"));
    assert_conflict(after_a_page(subject, 9, remove).await);
    assert_eq!(subject.value("z").await, None);
}

pub async fn absent_key(subject: &Subject) {
    let mut open = subject.begin().await;
    read(&mut *open, subject, "a").await;
    subject.put("a", "1").await;
    open.set(&subject.key("z"), b"1");
    assert_conflict(open.commit().await);
}

pub async fn page_end(subject: &Subject) {
    for name in ["b", "d", "f"] {
        subject.put(name, "1").await;
    }
    let between = async |open: &mut dyn Transaction| open.set(&subject.key("c"), b"1");
    assert_conflict(after_a_page(subject, 2, between).await);
    let last = async |open: &mut dyn Transaction| open.set(&subject.key("c"), b"2");
    assert_conflict(after_a_page(subject, 2, last).await);
}

pub async fn beyond_the_page(subject: &Subject) {
    for name in ["b", "d", "f"] {
        subject.put(name, "1").await;
    }
    let behind = async |open: &mut dyn Transaction| open.set(&subject.key("e"), b"1");
    after_a_page(subject, 2, behind).await.unwrap();
}

pub async fn snapshot_reads(subject: &Subject) {
    let mut open = subject.begin().await;
    open.get_snapshot(&subject.key("a")).await.unwrap();
    let read = RangeRead::first(subject.all(), 9);
    open.range_snapshot(read).await.unwrap();
    subject.put("a", "1").await;
    open.set(&subject.key("z"), b"1");
    open.commit().await.unwrap();
}

pub async fn added_conflict(subject: &Subject) {
    let mut open = subject.begin().await;
    open.get_snapshot(&subject.key("a")).await.unwrap();
    open.add_conflict(subject.range("a", "m")).await.unwrap();
    subject.put("c", "1").await;
    open.set(&subject.key("z"), b"1");
    assert_conflict(open.commit().await);
    let mut open = subject.begin().await;
    open.get_snapshot(&subject.key("a")).await.unwrap();
    open.add_conflict(subject.range("a", "m")).await.unwrap();
    subject.put("m", "1").await;
    open.set(&subject.key("z"), b"1");
    open.commit().await.unwrap();
}

pub async fn blind_writes(subject: &Subject) {
    let (mut left, mut right) = (subject.begin().await, subject.begin().await);
    left.set(&subject.key("a"), b"left");
    right.set(&subject.key("a"), b"right");
    right.clear_range(subject.range("b", "c"));
    left.commit().await.unwrap();
    right.commit().await.unwrap();
    assert_eq!(subject.value("a").await.unwrap(), "right");
}

pub async fn adds(subject: &Subject) {
    let (mut left, mut right) = (subject.begin().await, subject.begin().await);
    left.add(&subject.key("n"), 1);
    right.add(&subject.key("n"), 2);
    left.commit().await.unwrap();
    right.commit().await.unwrap();
    let value = subject.value("n").await;
    assert_eq!(decode_counter(value.as_deref()), Ok(3));
    // A transaction that reads the counter does conflict.
    let mut reader = subject.begin().await;
    read(&mut *reader, subject, "n").await;
    let add = async |open: &mut dyn Transaction| open.add(&subject.key("n"), 1);
    subject.commit(add).await.unwrap();
    reader.set(&subject.key("z"), b"1");
    assert_conflict(reader.commit().await);
}

pub async fn own_writes(subject: &Subject) {
    let mut open = subject.begin().await;
    open.set(&subject.key("a"), b"own");
    read(&mut *open, subject, "a").await;
    subject.put("a", "other").await;
    open.commit().await.unwrap();
    assert_eq!(subject.value("a").await.unwrap(), "own");
}

pub async fn read_only(subject: &Subject) {
    let mut open = subject.begin().await;
    read(&mut *open, subject, "a").await;
    subject.put("a", "1").await;
    open.commit().await.unwrap();
}

pub async fn deleted_range(subject: &Subject) {
    for name in ["b", "d"] {
        subject.put(name, "1").await;
    }
    let mut open = subject.begin().await;
    open.clear_range(subject.range("a", "m"));
    subject.put("c", "1").await;
    open.commit().await.unwrap();
    assert_eq!(subject.pairs().await, [], "the commit clears what is there at that moment");
}
