//! Cases: the limits of keys, values and transactions, which are the same on every engine.
//!
//! A transaction over a limit fails at commit with `LimitExceeded` and has no effect. Reading a key
//! that cannot exist fails at once.

use crate::subject::Subject;
use triggers_store::kv::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use triggers_store::kv::{Fault, KeyRange, RangeRead, StoreError, Transaction};

async fn set(subject: &Subject, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    let write = async |open: &mut dyn Transaction| open.set(key, value);
    subject.commit(write).await
}

fn assert_exceeded(outcome: Result<(), StoreError>) {
    let error = outcome.expect_err("it is over the limit");
    assert_eq!(error.fault(), Some(Fault::LimitExceeded), "{error}");
}

pub async fn key_bytes(subject: &Subject) {
    let longest = subject.key_of_bytes(KEY_BYTES_MAX);
    set(subject, &longest, b"1").await.unwrap();
    let mut open = subject.begin().await;
    assert!(open.get(&longest).await.unwrap().is_some());
    let behind = KeyRange::new(KeyRange::key(&longest).end, subject.all().end);
    let read = RangeRead::first(behind, 1);
    assert!(open.range(read).await.unwrap().pairs.is_empty());
    for key in [vec![], subject.key_of_bytes(KEY_BYTES_MAX + 1)] {
        assert_exceeded(set(subject, &key, b"1").await);
        let clear = async |open: &mut dyn Transaction| open.clear(&key);
        assert_exceeded(subject.commit(clear).await);
        let add = async |open: &mut dyn Transaction| open.add(&key, 1);
        assert_exceeded(subject.commit(add).await);
    }
    assert_eq!(subject.pairs().await.len(), 1);
}

pub async fn value_bytes(subject: &Subject) {
    let value = vec![1; VALUE_BYTES_MAX + 1];
    let largest = &value[..VALUE_BYTES_MAX];
    set(subject, &subject.key("a"), largest).await.unwrap();
    assert_exceeded(set(subject, &subject.key("b"), &value).await);
    assert_eq!(subject.value("a").await.as_deref(), Some(largest));
    assert_eq!(subject.value("b").await, None);
}

pub async fn transaction_bytes(subject: &Subject) {
    let value = vec![1; VALUE_BYTES_MAX];
    let writes = async |pairs: usize| {
        let write = async |open: &mut dyn Transaction| {
            for number in 0..pairs {
                open.set(&subject.key(format!("{pairs}/{number}")), &value);
            }
        };
        subject.commit(write).await
    };
    assert_exceeded(writes(112).await);
    assert_eq!(subject.pairs().await, []);
    writes(110).await.unwrap();
    assert_eq!(subject.pairs().await.len(), 110);
}

pub async fn keys_of_reads(subject: &Subject) {
    let mut open = subject.begin().await;
    for key in [vec![], subject.key_of_bytes(KEY_BYTES_MAX + 1)] {
        assert_exceeded(open.get(&key).await.map(drop));
        assert_exceeded(open.get_snapshot(&key).await.map(drop));
    }
    open.set(&subject.key("a"), b"1");
    open.commit().await.unwrap();
}

pub async fn a_violation_fails_the_transaction(subject: &Subject) {
    let too_long = subject.key_of_bytes(KEY_BYTES_MAX + 1);
    let writes = async |open: &mut dyn Transaction| {
        open.set(&subject.key("a"), b"1");
        open.set(&too_long, b"1");
        open.clear(&subject.key("b"));
        open.clear_range(subject.all());
        open.set(&subject.key("c"), b"1");
    };
    assert_exceeded(subject.commit(writes).await);
    assert_eq!(subject.pairs().await, []);
}
