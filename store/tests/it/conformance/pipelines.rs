//! Cases: pipelined transactions, each begun when the previous commit is ordered.
//!
//! An engine that does not know that moment orders a commit when it is durable; transactions see
//! the same on all engines.

use crate::subject::{Subject, patient};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use triggers_store::kv::{Ordered, StoreError, Transaction, decode_counter};

const COUNT: i64 = 40;

/// Reads a number, writes the next one, and returns the first.
async fn next(open: &mut (dyn Transaction + '_), key: &[u8]) -> Result<i64, StoreError> {
    let number = decode_counter(open.get(key).await?.as_deref())?;
    open.set(key, &(number + 1).to_le_bytes());
    Ok(number)
}

/// Each transaction sees the previous one, durable or not, and nothing is lost.
pub async fn each_sees_the_previous_one(subject: &Subject) {
    let key: Arc<[u8]> = subject.key("n").into();
    let mut running = Vec::new();
    for _ in 0..COUNT {
        let (store, key, begins) = (subject.store(), key.clone(), Arc::new(Notify::new()));
        let next_begins = begins.clone();
        running.push(tokio::spawn(async move {
            let ordered = |_: &i64| -> Ordered {
                let begins = begins.clone();
                Box::new(move || begins.notify_one())
            };
            let number =
                store.run_pipelined(patient(), ordered, |open| Box::pin(next(open, &key))).await;
            begins.notify_one();
            number
        }));
        next_begins.notified().await;
    }
    for (number, running) in (0..).zip(running) {
        assert_eq!(running.await.unwrap().unwrap(), number);
    }
    assert_eq!(decode_counter(subject.value("n").await.as_deref()).unwrap(), COUNT);
}

/// `ordered` does not run for a commit that conflicts.
pub async fn a_conflict_is_not_ordered(subject: &Subject) {
    let key = subject.key("n");
    let was_told = Arc::new(AtomicBool::new(false));
    let mut open = subject.engine.begin_pipelined().await.unwrap();
    assert_eq!(next(&mut *open, &key).await, Ok(0));
    subject.put("n", 7i64.to_le_bytes()).await;
    let told = was_told.clone();
    let committed =
        open.commit_pipelined(Box::new(move || told.store(true, Ordering::SeqCst))).await;
    assert!(matches!(committed, Err(StoreError::Retryable(_))), "{committed:?}");
    assert!(!was_told.load(Ordering::SeqCst));
    assert_eq!(decode_counter(subject.value("n").await.as_deref()).unwrap(), 7);
}
