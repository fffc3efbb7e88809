//! Cases: a transaction reads its own writes, and otherwise one state of the store.
//!
//! That state is the newest at some moment between the begin and the first read. Later commits do
//! not change it.

use crate::subject::Subject;
use triggers_store::kv::{RangeRead, Transaction};

pub async fn own_writes(subject: &Subject) {
    subject.put("b", "old").await;
    let [a, b] = ["a", "b"].map(|name| subject.key(name));
    let mut open = subject.begin().await;
    open.set(&a, b"1");
    open.set(&b, b"2");
    assert_eq!(open.get(&a).await.unwrap().as_deref(), Some(&b"1"[..]));
    let snapshot = open.get_snapshot(&b).await.unwrap();
    assert_eq!(snapshot.as_deref(), Some(&b"2"[..]));
    open.clear(&b);
    assert_eq!(open.get(&b).await.unwrap(), None);
    open.clear_range(subject.all());
    assert_eq!(open.get(&a).await.unwrap(), None);
    open.set(&b, b"3");
    assert_eq!(open.get(&b).await.unwrap().as_deref(), Some(&b"3"[..]));
    assert!(open.approximate_size() > 0);
    open.commit().await.unwrap();
    assert_eq!(subject.pairs().await, [(b"b".to_vec(), "3".into())]);
}

pub async fn pairs_of_keys(subject: &Subject) {
    subject.put("a", "1").await;
    subject.put("b", "2").await;
    let [a, b, c] = ["a", "b", "c"].map(|name| subject.key(name));
    let mut open = subject.begin().await;
    for is_checked in [false, true] {
        let read = async |open: &mut dyn Transaction, keys: [&[u8]; 2]| {
            let values = open.get_pair(keys, is_checked).await.unwrap();
            values.map(|value| value.map(|value| String::from_utf8(value.to_vec()).unwrap()))
        };
        assert_eq!(read(&mut *open, [&b, &a]).await, [Some("2".into()), Some("1".into())]);
        assert_eq!(read(&mut *open, [&c, &a]).await, [None, Some("1".into())]);
        assert_eq!(read(&mut *open, [&a, &a]).await, [Some("1".into()), Some("1".into())]);
        let mut writer = subject.begin().await;
        writer.set(&a, b"own");
        writer.clear(&b);
        assert_eq!(read(&mut *writer, [&a, &c]).await, [Some("own".into()), None]);
        assert_eq!(read(&mut *writer, [&c, &b]).await, [None, None]);
    }
    subject.put("a", "3").await;
    let after = open.get_pair([&a, &b], false).await.unwrap();
    assert_eq!(after[0].as_deref(), Some(&b"1"[..]), "it reads the snapshot of its first read");
}

pub async fn one_snapshot(subject: &Subject) {
    subject.put("a", "1").await;
    let mut open = subject.begin().await;
    let first = open.get(&subject.key("a")).await.unwrap();
    let write = async |other: &mut dyn Transaction| {
        other.set(&subject.key("a"), b"2");
        other.set(&subject.key("b"), b"2");
    };
    subject.commit(write).await.unwrap();
    assert_eq!(open.get(&subject.key("a")).await.unwrap(), first);
    assert_eq!(open.get(&subject.key("b")).await.unwrap(), None);
    let read = RangeRead::first(subject.all(), 10);
    let page = open.range(read.clone()).await.unwrap();
    assert_eq!(subject.names(page.pairs), [(b"a".to_vec(), "1".into())]);
    let page = open.range_snapshot(read).await.unwrap();
    assert_eq!(subject.names(page.pairs), [(b"a".to_vec(), "1".into())]);
    assert_eq!(subject.pairs().await.len(), 2);
}

pub async fn everything_committed_before(subject: &Subject) {
    for round in 0..20 {
        subject.put("a", round.to_string()).await;
        let value = subject.value("a").await.unwrap();
        assert_eq!(value, round.to_string());
    }
}

pub async fn dropped_without_commit(subject: &Subject) {
    subject.put("a", "1").await;
    let mut open = subject.begin().await;
    open.get(&subject.key("a")).await.unwrap();
    open.set(&subject.key("a"), b"2");
    open.add(&subject.key("b"), 1);
    open.clear_range(subject.all());
    drop(open);
    assert_eq!(subject.pairs().await, [(b"a".to_vec(), "1".into())]);
}

pub async fn empty_value(subject: &Subject) {
    subject.put("a", "").await;
    assert_eq!(subject.value("a").await.as_deref(), Some(&b""[..]));
    assert_eq!(subject.pairs().await, [(b"a".to_vec(), "".into())]);
    let clear = async |open: &mut dyn Transaction| open.clear(&subject.key("a"));
    subject.commit(clear).await.unwrap();
    assert_eq!(subject.value("a").await, None);
}

pub async fn many_transactions_at_once(subject: &Subject) {
    subject.put("a", "1").await;
    let mut all = Vec::new();
    for _ in 0..100 {
        let mut open = subject.begin().await;
        open.get(&subject.key("a")).await.unwrap();
        all.push(open);
    }
    subject.put("a", "2").await;
    for mut open in all {
        let value = open.get(&subject.key("a")).await.unwrap().unwrap();
        assert_eq!(value, "1");
    }
}
