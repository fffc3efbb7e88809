//! Cases: `add`, alone and among the other writes of its transaction.
//!
//! A counter has eight bytes, little-endian. Adding to anything else fails the commit as `Corrupt`,
//! without effect on it or on other transactions.

use crate::subject::Subject;
use futures_util::future::join_all;
use triggers_store::kv::{Fault, Transaction, decode_counter};

async fn counter(subject: &Subject, name: &str) -> i64 {
    decode_counter(subject.value(name).await.as_deref()).unwrap()
}

async fn add(subject: &Subject, name: &str, delta: i64) {
    let add = async |open: &mut dyn Transaction| open.add(&subject.key(name), delta);
    subject.commit(add).await.unwrap();
}

pub async fn absent(subject: &Subject) {
    add(subject, "n", 5).await;
    assert_eq!(counter(subject, "n").await, 5);
    add(subject, "n", -7).await;
    assert_eq!(counter(subject, "n").await, -2);
    add(subject, "zero", 0).await;
    assert_eq!(subject.value("zero").await.as_deref(), Some(&[0; 8][..]));
}

pub async fn wraps(subject: &Subject) {
    add(subject, "n", i64::MAX).await;
    add(subject, "n", 1).await;
    assert_eq!(counter(subject, "n").await, i64::MIN);
    let twice = async |open: &mut dyn Transaction| {
        open.add(&subject.key("m"), i64::MAX);
        open.add(&subject.key("m"), 2);
    };
    subject.commit(twice).await.unwrap();
    assert_eq!(counter(subject, "m").await, i64::MIN + 1);
}

pub async fn after_set(subject: &Subject) {
    let writes = async |open: &mut dyn Transaction| {
        open.add(&subject.key("n"), 100);
        open.set(&subject.key("n"), &7i64.to_le_bytes());
        open.add(&subject.key("n"), 3);
    };
    subject.commit(writes).await.unwrap();
    assert_eq!(counter(subject, "n").await, 10);
}

pub async fn after_clear(subject: &Subject) {
    add(subject, "n", 100).await;
    let writes = async |open: &mut dyn Transaction| {
        open.clear(&subject.key("n"));
        open.add(&subject.key("n"), 3);
    };
    subject.commit(writes).await.unwrap();
    assert_eq!(counter(subject, "n").await, 3);
}

pub async fn with_clear_range(subject: &Subject) {
    for name in ["a", "b", "c"] {
        add(subject, name, 100).await;
    }
    let writes = async |open: &mut dyn Transaction| {
        open.add(&subject.key("a"), 1);
        open.add(&subject.key("c"), 1);
        open.clear_range(subject.range("a", "c"));
        open.add(&subject.key("b"), 1);
    };
    subject.commit(writes).await.unwrap();
    assert_eq!(subject.value("a").await, None);
    assert_eq!(counter(subject, "b").await, 1);
    assert_eq!(counter(subject, "c").await, 101);
}

pub async fn read_in_between(subject: &Subject) {
    add(subject, "n", 10).await;
    let mut open = subject.begin().await;
    let key = subject.key("n");
    for sum in [11, 12] {
        open.add(&key, 1);
        let value = open.get(&key).await.unwrap();
        assert_eq!(decode_counter(value.as_deref()), Ok(sum));
    }
    open.commit().await.unwrap();
    assert_eq!(counter(subject, "n").await, 12);
}

pub async fn to_a_malformed_counter(subject: &Subject) {
    subject.put("n", "abc").await;
    let writes = async |open: &mut dyn Transaction| {
        open.set(&subject.key("a"), b"1");
        open.add(&subject.key("n"), 1);
        open.set(&subject.key("z"), b"1");
    };
    let error = subject.commit(writes).await.unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Corrupt));
    assert_eq!(subject.pairs().await, [(b"n".to_vec(), "abc".into())]);
    let mut open = subject.begin().await;
    open.add(&subject.key("n"), 1);
    let error = open.get(&subject.key("n")).await.unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Corrupt));
}

pub async fn to_an_own_malformed_counter(subject: &Subject) {
    let writes = async |open: &mut dyn Transaction| {
        open.set(&subject.key("n"), b"abc");
        open.add(&subject.key("n"), 1);
        open.set(&subject.key("z"), b"1");
    };
    let error = subject.commit(writes).await.unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Corrupt));
    assert_eq!(subject.pairs().await, []);
}

pub async fn a_malformed_one_in_a_group(subject: &Subject) {
    subject.put("bad", "abc").await;
    for _ in 0..10 {
        let names = ["n", "n", "n", "bad", "n", "n"];
        let outcomes = join_all(names.map(|name| {
            subject.commit(async move |open: &mut dyn Transaction| open.add(&subject.key(name), 1))
        }));
        for (name, outcome) in names.iter().zip(outcomes.await) {
            let fault = outcome.err().and_then(|error| error.fault());
            assert_eq!(fault, (*name == "bad").then_some(Fault::Corrupt));
        }
    }
    assert_eq!(counter(subject, "n").await, 50);
    assert_eq!(subject.value("bad").await.unwrap(), "abc");
}
