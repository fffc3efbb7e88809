//! Runs transactions: begin, closure, commit, and retries until the deadline.
//!
//! Invariants:
//! - `STORE-RUN-1`: the closure may run several times, so callers draw ids and times outside it.
//! - `STORE-RUN-2`: nothing runs past the deadline; during a commit it yields `MaybeCommitted`.
//! - `STORE-RUN-3`: only transactions declared idempotent are retried after `MaybeCommitted`.

use super::{BoxFuture, Engine, Fault, Ordered, StoreError, Transaction};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use triggers_protocol::Environment;
use triggers_protocol::planted::{Bug, is_planted};

const BACKOFF_MS_FIRST: u64 = 1;
const BACKOFF_MS_MAX: u64 = 250;

/// An engine and the way to run transactions on it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    environment: Environment,
}

/// Builds, from a transaction's value, the callback that runs once its commit is ordered.
type OrderedOf<'a, T> = dyn Fn(&T) -> Ordered + Send + Sync + 'a;

/// The closure that carries out a transaction; see [`Store::run`].
type Work<'w, 'env, R> =
    dyn for<'a> Fn(&'a mut (dyn Transaction + 'env)) -> BoxFuture<'a, R> + Send + Sync + 'w;

/// Deadline of a transaction, and whether it may run again after an unknown outcome.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Time at which to give up.
    pub deadline: Instant,
    /// Running the transaction again after it committed has no effect and the same result.
    pub is_idempotent: bool,
}

impl Run {
    /// For transactions that must not run again after an unknown outcome.
    pub fn once(deadline: Instant) -> Self {
        Self { deadline, is_idempotent: false }
    }

    /// For transactions that may run again after an unknown outcome.
    pub fn idempotent(deadline: Instant) -> Self {
        Self { deadline, is_idempotent: true }
    }
}

impl Store {
    /// Makes a store on an engine.
    pub fn new(engine: Arc<dyn Engine>, environment: Environment) -> Self {
        Self { engine, environment }
    }

    /// Checks that the engine can write.
    ///
    /// # Errors
    /// The fault that stopped the engine.
    pub fn health(&self) -> Result<(), StoreError> {
        self.engine.health()
    }

    /// Closes the engine; see [`Engine::close`].
    pub async fn close(&self) {
        self.engine.close().await;
    }

    /// Copies all committed pairs into a new directory on this machine.
    ///
    /// # Errors
    /// See [`Engine::backup`].
    pub async fn backup(
        &self,
        target: std::path::PathBuf,
    ) -> Result<super::BackupSize, StoreError> {
        self.engine.backup(target).await
    }

    /// The environment that supplies the randomness of retry pauses.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Runs a transaction until it commits, fails for good, or the deadline passes.
    ///
    /// `'env` is the lifetime of the closure's borrows, which outlives every single call.
    ///
    /// # Errors
    /// The closure's own error, or `E::from(StoreError)`. `Retryable` is never returned: if the
    /// deadline passes between attempts, the error is `Fatal(DeadlinePassed)`.
    pub async fn run<'env, T, E, F>(&self, run: Run, transaction: F) -> Result<T, E>
    where
        E: RetryClass,
        F: for<'a> Fn(&'a mut (dyn Transaction + 'env)) -> BoxFuture<'a, Result<T, E>>
            + Send
            + Sync,
        T: Send,
    {
        self.run_to_end(run, None, &transaction).await
    }

    /// As [`Store::run`] with [`Engine::begin_pipelined`]: the transaction sees ordered commits
    /// that are not yet durable.
    ///
    /// `ordered` builds, from the transaction's value, the callback of
    /// [`Transaction::commit_pipelined`]. The result is returned when the commit is durable.
    ///
    /// # Errors
    /// As [`Store::run`].
    pub async fn run_pipelined<'env, T, E, F>(
        &self,
        run: Run,
        ordered: impl Fn(&T) -> Ordered + Send + Sync,
        transaction: F,
    ) -> Result<T, E>
    where
        E: RetryClass,
        F: for<'a> Fn(&'a mut (dyn Transaction + 'env)) -> BoxFuture<'a, Result<T, E>>
            + Send
            + Sync,
        T: Send,
    {
        self.run_to_end(run, Some(&ordered), &transaction).await
    }

    async fn run_to_end<'env, T: Send, E: RetryClass>(
        &self,
        run: Run,
        ordered: Option<&OrderedOf<'_, T>>,
        transaction: &Work<'_, 'env, Result<T, E>>,
    ) -> Result<T, E> {
        let mut backoff_ms = BACKOFF_MS_FIRST;
        let mut unknown = false;
        loop {
            let error = match self.attempt(run.deadline, ordered, transaction).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            match error.retry_class() {
                Some(StoreError::Retryable(_)) => {}
                Some(StoreError::MaybeCommitted(_)) if run.is_idempotent => unknown = true,
                // An earlier attempt may have committed, whatever this attempt returned.
                Some(fatal) if unknown => {
                    return Err(E::from(StoreError::MaybeCommitted(fatal.to_string())));
                }
                _ if unknown => return Err(error.after_unknown()),
                _ => return Err(error),
            }
            let wait =
                Duration::from_millis(backoff_ms / 2 + self.environment.below(backoff_ms / 2 + 1));
            if Instant::now() + wait >= run.deadline {
                let reason = format!(
                    "the deadline passed after: {}",
                    error.retry_class().map_or_else(String::new, ToString::to_string)
                );
                return Err(E::from(if unknown {
                    StoreError::MaybeCommitted(reason)
                } else {
                    StoreError::fatal(Fault::DeadlinePassed, reason)
                }));
            }
            tokio::time::sleep(wait).await;
            backoff_ms = (backoff_ms * 2).min(BACKOFF_MS_MAX);
        }
    }

    async fn attempt<'env, T: Send, E: RetryClass>(
        &self,
        deadline: Instant,
        ordered: Option<&OrderedOf<'_, T>>,
        transaction: &Work<'_, 'env, Result<T, E>>,
    ) -> Result<T, E> {
        let late = || E::from(StoreError::fatal(Fault::DeadlinePassed, "before the commit began"));
        let work = async {
            let begun =
                if ordered.is_some() { self.engine.begin_pipelined() } else { self.engine.begin() };
            let mut open = begun.await.map_err(E::from)?;
            let value = transaction(&mut *open).await?;
            Ok::<_, E>((open, value))
        };
        let (open, value) = tokio::time::timeout_at(deadline, work).await.map_err(|_| late())??;
        // `timeout_at` polls its future once even after the deadline, and would send it.
        if Instant::now() >= deadline {
            return Err(late());
        }
        let commit = match ordered {
            Some(ordered) => open.commit_pipelined(ordered(&value)),
            None => open.commit(),
        };
        match tokio::time::timeout_at(deadline, commit).await {
            Ok(Ok(())) => Ok(value),
            Ok(Err(StoreError::MaybeCommitted(_))) if is_planted(Bug::UnknownTakenForSuccess) => {
                Ok(value)
            }
            Ok(Err(error)) => Err(E::from(error)),
            Err(_) => {
                Err(StoreError::MaybeCommitted("the deadline passed during the commit".into())
                    .into())
            }
        }
    }
}

/// Tells [`Store::run`] which errors of a caller come from the store.
pub trait RetryClass: From<StoreError> {
    /// The store's error inside this one, if there is one.
    fn retry_class(&self) -> Option<&StoreError>;

    /// Converts this error when an earlier attempt of the transaction may have committed.
    fn after_unknown(self) -> Self {
        self
    }
}

impl RetryClass for StoreError {
    fn retry_class(&self) -> Option<&StoreError> {
        Some(self)
    }
}
