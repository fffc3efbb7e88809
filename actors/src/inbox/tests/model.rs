//! Random steps against a store that knows ids and keys only: every request is answered once, and what was answered is stored.

use super::*;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// What a run of the model does next.
#[derive(Debug, Clone)]
enum Step {
    Submit {
        keys: Vec<Option<u8>>,
        waiting: bool,
    },
    Commit,
    Fail {
        stored_anyway: bool,
    },
    /// What is in flight has its place in the order.
    Order,
    /// The first one that has is durable, or nobody knows whether it is.
    Settle,
    Lose,
    LoadFails,
}

fn step() -> impl Strategy<Value = Step> {
    let keys = prop::collection::vec(prop::option::weighted(0.5, 0u8..4), 1..4);
    prop_oneof![
        4 => (keys, prop::bool::weighted(0.9)).prop_map(|(keys, waiting)| Step::Submit { keys, waiting }),
        4 => Just(Step::Commit),
        1 => any::<bool>().prop_map(|stored_anyway| Step::Fail { stored_anyway }),
        3 => Just(Step::Order),
        3 => Just(Step::Settle),
        1 => Just(Step::Lose),
        1 => Just(Step::LoadFails),
    ]
}

/// A store that knows ids and keys only.
#[derive(Default)]
struct Model {
    last_id: Option<EventId>,
    keys: BTreeMap<[u8; 16], EventId>,
    stored: BTreeSet<EventId>,
    answers: BTreeMap<usize, usize>,
    acknowledged: Vec<EventId>,
}

impl Model {
    fn state(&self) -> InboxState {
        let mut counts = Counts::default();
        counts.add(EventStatus::Received, i64::try_from(self.stored.len()).unwrap());
        InboxState { last_id: self.last_id.unwrap_or(EventId::ZERO), counts, ..empty() }
    }

    fn apply(&mut self, batch: &Batch<Caller>) -> Result<(Vec<Outcome>, i64), TableError> {
        let stored = self.last_id.unwrap_or(EventId::ZERO);
        if stored != batch.last_id && !batch.commands.is_empty() {
            return Err(TableError::HeadMoved { actual: stored });
        }
        let mut outcomes = Vec::new();
        for command in &batch.commands {
            let Command::Append(append) = command else { panic!("only appends are submitted") };
            let known = append.idempotency.and_then(|key| self.keys.get(&key.hash).copied());
            outcomes.push(match known {
                Some(id) => Outcome::Replayed { id, event: None },
                None if append.over_quota => Outcome::QuotaExceeded,
                None => {
                    assert!(
                        Some(append.id) > self.last_id,
                        "INBOX-2: {} was minted late",
                        append.id
                    );
                    assert!(self.stored.insert(append.id));
                    self.keys.extend(append.idempotency.map(|key| (key.hash, append.id)));
                    Outcome::Appended(append.id)
                }
            });
        }
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Appended(_))) {
            self.last_id = Some(batch.minted_id);
        }
        Ok((outcomes, i64::try_from(self.stored.len()).unwrap()))
    }

    fn answered(&mut self, caller: &Caller, answer: &Answer) {
        *self.answers.entry(caller.number).or_default() += 1;
        for result in answer.iter().flatten() {
            if let WriteResult::Accepted(accepted) = result {
                assert!(
                    self.stored.contains(&accepted.event.id),
                    "an event was answered that is not stored"
                );
                self.acknowledged.extend((!accepted.replayed).then_some(accepted.event.id));
            }
        }
    }
}

proptest! {
    #[test]
    fn every_request_is_answered_once_and_ids_only_grow(steps in prop::collection::vec(step(), 1..60)) {
        let model = Rc::new(RefCell::new(Model::default()));
        let mut machine = machine();
        let (mut in_flight, mut loading, mut submitted) = (None, false, 0);
        let mut in_order = VecDeque::<(Batch<Caller>, Applied)>::new();
        let drain = steps.iter().cloned().chain(std::iter::repeat_n(Step::Commit, 200));
        for step in drain {
            let effects = match step {
                Step::Submit { keys, waiting } => {
                    let mut request = append(submitted, &keys);
                    request.requester = Some(Caller { number: submitted, waiting });
                    submitted += 1;
                    machine.submit(request)
                }
                Step::LoadFails if loading => {
                    loading = false;
                    machine.loaded(Err(BrokerError::DeadlinePassed))
                }
                Step::Commit | Step::LoadFails if loading => {
                    loading = false;
                    machine.loaded(Ok(model.borrow().state()))
                }
                Step::Commit | Step::LoadFails if in_flight.is_some() => {
                    let batch = in_flight.take().unwrap();
                    complete(&mut machine, &model, batch)
                }
                Step::Order => match in_flight.take() {
                    None => Vec::new(),
                    Some(batch) => {
                        let outcome = model.borrow_mut().apply(&batch);
                        match outcome {
                            Ok((outcomes, received)) => {
                                let applied = applied(outcomes, received);
                                let (committed, finished) = batch.told(&applied);
                                let effects = machine.ordered(committed, finished);
                                in_order.push_back((batch, applied));
                                effects
                            }
                            Err(error) => machine.failed(batch, error),
                        }
                    }
                },
                Step::Settle | Step::Commit | Step::LoadFails => match in_order.pop_front() {
                    None => Vec::new(),
                    Some((batch, applied)) => {
                        for (caller, answer) in batch.answers(&applied.outcomes) {
                            model.borrow_mut().answered(&caller, &answer);
                        }
                        machine.settled()
                    }
                },
                Step::Lose => match in_order.pop_front() {
                    None => Vec::new(),
                    Some((batch, _)) => machine.lost(batch, StoreError::MaybeCommitted(String::new()).into()),
                },
                Step::Fail { stored_anyway } => match in_flight.take() {
                    None => Vec::new(),
                    Some(batch) => {
                        if stored_anyway {
                            let _ = model.borrow_mut().apply(&batch);
                        }
                        let error = if stored_anyway {
                            StoreError::MaybeCommitted(String::new())
                        } else {
                            StoreError::fatal(Fault::Full, "")
                        };
                        machine.failed(batch, error.into())
                    }
                },
            };
            for effect in effects {
                match effect {
                    InboxEffect::Load => {
                        prop_assert!(!loading && in_flight.is_none() && in_order.is_empty(), "INBOX-2");
                        loading = true;
                    }
                    InboxEffect::Commit(batch) => {
                        prop_assert!(in_flight.is_none() && !loading && in_order.len() < 2, "INBOX-1");
                        in_flight = Some(batch);
                    }
                    InboxEffect::Reply(caller, answer) => model.borrow_mut().answered(&caller, &answer),
                    other => panic!("there are no subscriptions, but {other:?}"),
                }
            }
        }
        let model = model.borrow();
        prop_assert!(in_flight.is_none() && in_order.is_empty() && !loading, "work was left over");
        prop_assert_eq!(model.answers.len(), submitted);
        prop_assert!(model.answers.values().all(|&answers| answers == 1), "INBOX-4: {:?}", &model.answers);
        let distinct: BTreeSet<_> = model.acknowledged.iter().collect();
        prop_assert_eq!(distinct.len(), model.acknowledged.len(), "an id was given twice");
    }
}

fn complete(
    machine: &mut InboxMachine<Caller>,
    model: &Rc<RefCell<Model>>,
    batch: Batch<Caller>,
) -> Vec<InboxEffect<Caller>> {
    let outcome = model.borrow_mut().apply(&batch);
    match outcome {
        Ok((outcomes, received)) => {
            let (committed, finished, answers) = ended(batch, applied(outcomes, received));
            for (caller, answer) in &answers {
                model.borrow_mut().answered(caller, answer);
            }
            machine.committed(committed, finished)
        }
        Err(error) => machine.failed(batch, error),
    }
}
