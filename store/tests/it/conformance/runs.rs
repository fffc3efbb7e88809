//! Cases: `Store::run` on an engine whose commits end as a script says.
//!
//! A conflict is retried, an unknown outcome only for idempotent transactions; nothing is sent
//! after the deadline; once the outcome of an attempt is unknown, no later failure makes it known.

use crate::scripted::{Ending, Scripted};
use crate::subject::{Subject, far, patient};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use triggers_protocol::Environment;
use triggers_store::kv::{Fault, RetryClass, Run, Store, StoreError, decode_counter};

/// A caller's error, which may or may not come from the store.
#[derive(Debug, PartialEq)]
enum CallerError {
    Own,
    Store(StoreError),
}

impl From<StoreError> for CallerError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl RetryClass for CallerError {
    fn retry_class(&self) -> Option<&StoreError> {
        match self {
            Self::Own => None,
            Self::Store(error) => Some(error),
        }
    }
}

/// Adds one to `n` on a scripted engine; returns the outcome and how often the closure ran.
async fn add_one(
    subject: &Subject,
    script: impl IntoIterator<Item = Ending>,
    run: Run,
) -> (Result<(), StoreError>, usize) {
    let engine = Scripted::new(subject.engine.clone(), script);
    let store = Store::new(engine.clone(), Environment::system());
    let key: Arc<[u8]> = subject.key("n").into();
    let outcome = store.run(run, |open| {
        open.add(&key, 1);
        Box::pin(std::future::ready(Ok(())))
    });
    (outcome.await, engine.begins())
}

async fn counter(subject: &Subject) -> i64 {
    decode_counter(subject.value("n").await.as_deref()).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(30)
}

/// Late enough for a commit to begin before it, and soon enough to wait for.
fn after_the_begin() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

pub async fn commits(subject: &Subject) {
    let (outcome, runs) = add_one(subject, [], Run::once(far())).await;
    assert_eq!((outcome, runs), (Ok(()), 1));
    assert_eq!(counter(subject).await, 1);
    assert_eq!(subject.store().health(), Ok(()));
}

pub async fn retries_conflicts(subject: &Subject) {
    let script = [Ending::Conflict, Ending::Conflict, Ending::Pass];
    let (outcome, runs) = add_one(subject, script, Run::once(far())).await;
    assert_eq!((outcome, runs), (Ok(()), 3));
    assert_eq!(counter(subject).await, 1);
}

pub async fn retries_a_real_conflict(subject: &Subject) {
    let runs = AtomicUsize::new(0);
    let key = &subject.key("n");
    let store = subject.store();
    let increment = store.run(Run::once(far()), |open| {
        let first = runs.fetch_add(1, Ordering::Relaxed) == 0;
        Box::pin(async move {
            let before = decode_counter(open.get(key).await?.as_deref())?;
            if first {
                subject.put("n", 10i64.to_le_bytes()).await;
            }
            open.set(key, &(before + 1).to_le_bytes());
            Ok::<(), StoreError>(())
        })
    });
    increment.await.unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 2);
    assert_eq!(counter(subject).await, 11);
}

pub async fn gives_up_at_the_deadline(subject: &Subject) {
    for run in [Run::once, Run::idempotent] {
        let (outcome, runs) = add_one(subject, [Ending::Conflict], run(soon())).await;
        assert_eq!(outcome.unwrap_err().fault(), Some(Fault::DeadlinePassed));
        assert!(runs >= 1);
    }
    assert_eq!(counter(subject).await, 0);
}

pub async fn begins_nothing_late(subject: &Subject) {
    let (outcome, _) = add_one(subject, [], Run::once(Instant::now())).await;
    assert_eq!(outcome.unwrap_err().fault(), Some(Fault::DeadlinePassed));
    assert_eq!(counter(subject).await, 0);
}

pub async fn deadline_before_the_commit(subject: &Subject) {
    let engine = Scripted::hanging(subject.engine.clone());
    let store = Store::new(engine, Environment::system());
    let nothing = store
        .run(Run::idempotent(soon()), |_| Box::pin(std::future::ready(Ok::<(), StoreError>(()))));
    let error = nothing.await.unwrap_err();
    assert_eq!(error.fault(), Some(Fault::DeadlinePassed));
}

pub async fn deadline_during_the_commit(subject: &Subject) {
    for run in [Run::once, Run::idempotent] {
        let run = run(after_the_begin());
        let (outcome, runs) = add_one(subject, [Ending::Hang], run).await;
        assert!(matches!(outcome, Err(StoreError::MaybeCommitted(_))));
        assert_eq!(runs, 1);
    }
}

pub async fn unknown_is_returned(subject: &Subject) {
    for (ending, sum) in [(Ending::UnknownNotCommitted, 0), (Ending::UnknownCommitted, 1)] {
        let (outcome, runs) = add_one(subject, [ending], Run::once(far())).await;
        assert!(matches!(outcome, Err(StoreError::MaybeCommitted(_))));
        assert_eq!((counter(subject).await, runs), (sum, 1));
    }
}

pub async fn unknown_is_retried(subject: &Subject) {
    let script =
        [Ending::UnknownNotCommitted, Ending::UnknownCommitted, Ending::Conflict, Ending::Pass];
    // The addition is not idempotent; its sum shows how often it ran.
    let (outcome, runs) = add_one(subject, script, patient()).await;
    assert_eq!((outcome, runs), (Ok(()), 4));
    assert_eq!(counter(subject).await, 2);
}

pub async fn unknown_stays_unknown(subject: &Subject) {
    let script = [Ending::UnknownCommitted, Ending::Full];
    let (outcome, runs) = add_one(subject, script, patient()).await;
    assert!(matches!(outcome, Err(StoreError::MaybeCommitted(_))));
    assert_eq!(runs, 2);
    let script = [Ending::UnknownCommitted, Ending::Conflict];
    let (outcome, _) = add_one(subject, script, Run::idempotent(after_the_begin())).await;
    assert!(matches!(outcome, Err(StoreError::MaybeCommitted(_))));
}

pub async fn errors_of_the_closure(subject: &Subject) {
    let key = &subject.key("n");
    let store = subject.store();
    let outcome = store.run(patient(), |open| {
        open.add(key, 1);
        Box::pin(std::future::ready(Err::<(), _>(CallerError::Own)))
    });
    assert_eq!(outcome.await, Err(CallerError::Own));
    assert_eq!(counter(subject).await, 0);
}

pub async fn fatal_is_returned(subject: &Subject) {
    let script = [Ending::Conflict, Ending::Full];
    let (outcome, runs) = add_one(subject, script, patient()).await;
    assert_eq!(outcome.unwrap_err().fault(), Some(Fault::Full));
    assert_eq!(runs, 2);
}
