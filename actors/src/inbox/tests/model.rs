//! Random steps against a store that knows ids and keys only: every request is answered once, and
//! every answered event is stored.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};

/// The next step of a run.
#[derive(Debug, Clone)]
enum Step {
    Submit {
        keys: Vec<Option<u8>>,
        is_waiting: bool,
    },
    Commit,
    Fail {
        stored_anyway: bool,
    },
    /// The batch in flight gets its place in the order.
    Order,
    /// The first batch in order becomes durable.
    Settle,
    /// The first batch in order may or may not be durable.
    Lose,
    LoadFails,
}

fn step() -> impl Strategy<Value = Step> {
    let keys = prop::collection::vec(prop::option::weighted(0.5, 0u8..4), 1..4);
    prop_oneof![
        4 => (keys, prop::bool::weighted(0.9))
            .prop_map(|(keys, is_waiting)| Step::Submit { keys, is_waiting }),
        4 => Just(Step::Commit),
        1 => any::<bool>().prop_map(|stored_anyway| Step::Fail { stored_anyway }),
        3 => Just(Step::Order),
        3 => Just(Step::Settle),
        1 => Just(Step::Lose),
        1 => Just(Step::LoadFails),
    ]
}

/// A store that knows ids and keys only.
struct Model {
    last_id: EventId,
    keys: BTreeMap<[u8; 16], EventId>,
    stored: BTreeSet<EventId>,
}

impl Model {
    fn new() -> Self {
        Self { last_id: EventId::ZERO, keys: BTreeMap::new(), stored: BTreeSet::new() }
    }

    fn state(&self) -> InboxState {
        let mut counts = Counts::default();
        counts.add(EventStatus::Received, i64::try_from(self.stored.len()).unwrap());
        InboxState { last_id: self.last_id, counts, ..empty() }
    }

    fn apply(&mut self, batch: &InboxBatch) -> Result<Applied, TableError> {
        if self.last_id != batch.plan.last_id && batch.plan.minted_id != batch.plan.last_id {
            return Err(TableError::HeadMoved { actual: self.last_id });
        }
        let mut has_accepted = false;
        for planned in &batch.requests {
            let keys: BTreeMap<_, _> = planned.request.footprint.keys.iter().copied().collect();
            for (index, id) in planned.stamp.ids.iter().enumerate() {
                let Some(id) = *id else { continue };
                let key = keys.get(&index);
                if key.is_some_and(|key| self.keys.contains_key(key)) {
                    continue;
                }
                assert!(id > self.last_id, "INBOX-2: {id} was minted late");
                assert!(self.stored.insert(id), "an id was minted twice");
                self.keys.extend(key.map(|key| (*key, id)));
                has_accepted = true;
            }
        }
        if has_accepted {
            self.last_id = batch.plan.minted_id;
        }
        Ok(applied(self.last_id, i64::try_from(self.stored.len()).unwrap()))
    }
}

/// Everything that a run changes.
struct Bench {
    model: Model,
    machine: InboxMachine,
    in_flight: Option<InboxBatch>,
    in_order: VecDeque<InboxBatch>,
    is_loading: bool,
    submitted: usize,
    told: Told,
}

impl Bench {
    fn run(&mut self, step: Step) {
        let effects = match step {
            Step::Submit { keys, is_waiting } => {
                let (number, told) = (self.submitted, self.told.clone());
                self.submitted += 1;
                let operation = Box::new(Call { number, is_waiting, told });
                self.machine.submit(Request { operation, ..append(number, &keys) })
            }
            Step::LoadFails if self.is_loading => {
                self.is_loading = false;
                self.machine.loaded(Err(BrokerError::DeadlinePassed))
            }
            Step::Commit | Step::LoadFails if self.is_loading => {
                self.is_loading = false;
                self.machine.loaded(Ok(self.model.state()))
            }
            Step::Commit | Step::LoadFails if self.in_flight.is_some() => {
                let batch = self.in_flight.take().unwrap();
                match self.model.apply(&batch) {
                    Ok(applied) => {
                        let finished = batch.finished();
                        batch.answer();
                        self.machine.committed(applied, finished)
                    }
                    Err(error) => self.machine.failed(batch, error),
                }
            }
            Step::Order => match self.in_flight.take() {
                None => Vec::new(),
                Some(batch) => match self.model.apply(&batch) {
                    Ok(applied) => {
                        let effects = self.machine.ordered(applied, batch.finished());
                        self.in_order.push_back(batch);
                        effects
                    }
                    Err(error) => self.machine.failed(batch, error),
                },
            },
            Step::Settle | Step::Commit | Step::LoadFails => match self.in_order.pop_front() {
                None => Vec::new(),
                Some(batch) => {
                    batch.answer();
                    self.machine.durable()
                }
            },
            Step::Lose => match self.in_order.pop_front() {
                None => Vec::new(),
                Some(batch) => {
                    let error = StoreError::MaybeCommitted(String::new());
                    self.machine.durability_unknown(batch, error.into())
                }
            },
            Step::Fail { stored_anyway } => match self.in_flight.take() {
                None => Vec::new(),
                Some(batch) if stored_anyway => {
                    let _ = self.model.apply(&batch);
                    self.machine.failed(batch, StoreError::MaybeCommitted(String::new()).into())
                }
                Some(batch) => {
                    self.machine.failed(batch, StoreError::fatal(Fault::Full, "").into())
                }
            },
        };
        for effect in effects {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: InboxEffect) {
        let is_idle = self.in_flight.is_none() && !self.is_loading;
        match effect {
            InboxEffect::Load => {
                assert!(is_idle && self.in_order.is_empty(), "INBOX-2");
                self.is_loading = true;
            }
            InboxEffect::Commit(batch) => {
                assert!(is_idle && self.in_order.len() < 2, "INBOX-1");
                self.in_flight = Some(batch);
            }
            InboxEffect::Reject(request, error) => request.operation.reject(error),
            other => panic!("there are no subscriptions, but {other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn every_request_is_answered_once_and_ids_only_grow(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut bench = Bench {
            model: Model::new(),
            machine: machine(),
            in_flight: None,
            in_order: VecDeque::new(),
            is_loading: false,
            submitted: 0,
            told: Told::default(),
        };
        for step in steps.into_iter().chain(std::iter::repeat_n(Step::Commit, 200)) {
            bench.run(step);
        }
        prop_assert!(bench.in_flight.is_none() && bench.in_order.is_empty(), "work was left over");
        prop_assert!(!bench.is_loading, "work was left over");
        let told = bench.told.lock().unwrap();
        let mut told: Vec<_> = told.iter().map(|(number, _)| *number).collect();
        told.sort_unstable();
        prop_assert_eq!(told, (0..bench.submitted).collect::<Vec<_>>(), "INBOX-4");
    }
}
