//! Case: random calls of one client give the same results as a sorted map, inside each transaction
//! and after it.
//!
//! With one client, every commit must succeed. Names are short and have few distinct bytes, among
//! them the lowest and the highest, so that ranges begin and end on keys, between them and around
//! them.

use crate::chance::Chance;
use crate::subject::Subject;
use std::collections::BTreeMap;
use triggers_store::kv::{KeyRange, Prefetch, RangeRead, Transaction, decode_counter};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const SEEDS: u64 = 4;
const TRANSACTIONS: usize = 25;
const CALLS: usize = 25;

pub async fn random_calls(subject: &Subject) {
    let mut model = Model::new();
    for seed in 0..SEEDS {
        let chance = Chance::new(seed);
        for transaction in 0..TRANSACTIONS {
            let mut open = subject.begin().await;
            let mut changed = model.clone();
            for call in 0..CALLS {
                let at = format!("seed {seed}, transaction {transaction}, call {call}");
                if chance.percent(20) {
                    let mut reads = Prefetch::default();
                    reads.key(key(subject, &chance));
                    reads.first(range(subject, &chance), 1 + chance.below(4));
                    open.prefetch(reads).await.unwrap();
                }
                if chance.percent(50) {
                    write(&mut *open, subject, &mut changed, &chance);
                } else {
                    read(&mut *open, subject, &changed, &chance, &at).await;
                }
            }
            if chance.percent(80) {
                open.commit().await.unwrap();
                model = changed;
            }
        }
    }
    let found = subject.pairs().await;
    let found: Model =
        found.into_iter().map(|(name, value)| (subject.key(name), value.to_vec())).collect();
    assert_eq!(found, model);
}

fn key(subject: &Subject, chance: &Chance) -> Vec<u8> {
    let bytes = (0..chance.below(3)).map(|_| [0, 1, 0x80, 0xff][chance.below(4)]);
    subject.key(bytes.collect::<Vec<u8>>())
}

/// Draws a range: everything, a prefix, or between two keys.
fn range(subject: &Subject, chance: &Chance) -> KeyRange {
    match chance.below(4) {
        0 => subject.all(),
        1 => KeyRange::prefix(key(subject, chance)),
        _ => KeyRange::new(key(subject, chance), key(subject, chance)),
    }
}

fn write(open: &mut dyn Transaction, subject: &Subject, model: &mut Model, chance: &Chance) {
    let name = key(subject, chance);
    match chance.below(6) {
        0 => {
            open.clear(&name);
            model.remove(&name);
        }
        1 => {
            let range = range(subject, chance);
            open.clear_range(range.clone());
            model.retain(|key, _| !range.contains(key));
        }
        2 | 3 => {
            let delta = chance.next() as i64;
            open.add(&name, delta);
            let before = decode_counter(model.get(&name).map(|value| &value[..])).unwrap();
            model.insert(name, before.wrapping_add(delta).to_le_bytes().to_vec());
        }
        _ => {
            let value = chance.next().to_le_bytes().to_vec();
            open.set(&name, &value);
            model.insert(name, value);
        }
    }
}

async fn read(
    open: &mut dyn Transaction,
    subject: &Subject,
    model: &Model,
    chance: &Chance,
    at: &str,
) {
    if chance.percent(40) {
        let name = key(subject, chance);
        let value = open.get(&name).await.unwrap();
        assert_eq!(value.as_deref(), model.get(&name).map(|v| &v[..]), "{at}");
        return;
    }
    let read = RangeRead {
        range: range(subject, chance),
        limit: 1 + chance.below(8),
        is_reverse: chance.percent(50),
    };
    let page = if chance.percent(50) {
        open.range(read.clone()).await.unwrap()
    } else {
        open.range_snapshot(read.clone()).await.unwrap()
    };
    let mut expected: Vec<_> = model.iter().filter(|(key, _)| read.range.contains(key)).collect();
    if read.is_reverse {
        expected.reverse();
    }
    assert!(page.has_more || expected.len() <= read.limit, "{at}: {read:?}");
    expected.truncate(read.limit);
    let found: Vec<_> = page.pairs.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    let expected: Vec<_> = expected.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    assert_eq!(found, expected, "{at}: {read:?}");
}
