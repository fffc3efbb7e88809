//! A batch: the requests that go into one transaction, and what becomes of each when it is done.
//!
//! Made by [`super::machine`], run by the shell, which answers the requests from it directly. A batch that failed goes
//! back to the machine whole.
//! What a commit tells of webhooks goes to the machine as [`PushNews`].
//! Invariant: `BATCH-A-1` every write of a request has one slot, and every slot either names a command of the batch or says
//! why there is none.

use super::machine::{Request, Requester};
use super::request::{Accepted, Answer, Refusal, Write, WriteResult};
use crate::delivery::verdict::Health;
use std::collections::{BTreeMap, HashSet};
use triggers_protocol::{Event, EventId, SubscriptionId, Timestamp};
use triggers_store::tables::batch::{Applied, Claimed, Command, Counts, Outcome, Settled};
use triggers_store::tables::rows::SubscriptionRow;

/// Requests that go into one transaction.
#[derive(Debug)]
pub(crate) struct Batch<R> {
    /// The id that the first one here was minted after.
    pub(crate) last_id: EventId,
    /// The last id minted here; `last_id` if none was.
    pub(crate) minted_id: EventId,
    pub(crate) commands: Vec<Command>,
    pub(super) requests: Vec<Planned<R>>,
    /// Whether requests wait that had no place in it.
    pub(super) leaves_more: bool,
}

/// A request in a batch: one slot for each of its writes.
#[derive(Debug)]
pub(super) struct Planned<R> {
    pub(super) request: Request<R>,
    pub(super) slots: Vec<Slot>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Slot {
    /// The write is the batch's command of this number.
    Command(usize),
    /// The write was refused when the request came in.
    Refused(Refusal),
}

/// What the batch's completion tells the machine.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) last_id: EventId,
    pub(crate) counts: Counts,
    /// The end of the first lease, if the batch looked.
    pub(crate) first_lease_end: Option<Option<Timestamp>>,
    /// Subscriptions with webhooks that it has added, and when the first of them are due.
    pub(crate) due: BTreeMap<SubscriptionId, Timestamp>,
    pub(crate) news: Vec<PushNews>,
}

/// What a commit has changed of a subscription and its webhooks.
#[derive(Debug)]
pub(crate) enum PushNews {
    Claimed {
        subscription: SubscriptionId,
        attempts: Vec<Claimed>,
        next: Option<Timestamp>,
        until: Timestamp,
    },
    Settled {
        subscription: SubscriptionId,
        settled: Box<Settled>,
        health: Health,
    },
    GaveUp {
        subscription: SubscriptionId,
        next: Option<Timestamp>,
        removed: bool,
    },
    Changed(Box<SubscriptionRow>),
    Deleted(SubscriptionId),
}

/// What finished requests no longer hold.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    pub(super) expired: bool,
    pub(super) keys: HashSet<[u8; 16]>,
    /// Subscriptions about which the inbox has asked.
    pub(super) asked: Vec<SubscriptionId>,
}

impl Finished {
    pub(super) fn note<R>(&mut self, planned: &Planned<R>) {
        for (write, slot) in planned.request.writes.iter().zip(&planned.slots) {
            self.expired |= matches!(write, Write::Expire);
            self.asked.extend(write.asks_for());
            if let (Write::Append(event), Slot::Command(_)) = (write, slot) {
                self.keys.extend(event.idempotency.map(|key| key.hash));
            }
        }
    }
}

impl<R: Requester> Batch<R> {
    /// Whether nobody waits for any of its requests any more, nor the inbox itself.
    pub(crate) fn is_abandoned(&self) -> bool {
        let waits = |planned: &Planned<R>| {
            planned.request.requester.as_ref().is_none_or(Requester::is_waiting)
        };
        !self.requests.iter().any(waits)
    }
}

impl<R> Batch<R> {
    /// An empty one.
    pub(super) fn after(last_id: EventId) -> Self {
        Self {
            last_id,
            minted_id: last_id,
            commands: Vec::new(),
            requests: Vec::new(),
            leaves_more: false,
        }
    }

    /// Whether the inbox is to hear when it has its place in the order, so that the next batch begins then: one is waiting, and nothing of
    /// this one is for anybody but those who have asked for it.
    pub(crate) fn is_pipelined(&self) -> bool {
        let is_plain = |command: &Command| {
            use Command::{Acknowledge, Append, Delete, Extend, Lease, Refuse, Replay};
            matches!(
                command,
                Append(_)
                    | Acknowledge { .. }
                    | Delete { .. }
                    | Lease(_)
                    | Extend { .. }
                    | Refuse(_)
                    | Replay { .. }
            )
        };
        self.leaves_more && self.commands.iter().all(is_plain)
    }

    /// Events that the batch would add.
    pub(crate) fn events(&self) -> usize {
        self.commands.iter().filter(|command| matches!(command, Command::Append(_))).count()
    }

    /// What its commit would tell, if it has nothing but appends: for [`triggers_protocol::planted`] alone.
    pub(crate) fn supposed(&self) -> Option<Applied> {
        let outcomes = self.commands.iter().map(|command| match command {
            Command::Append(append) => Some(Outcome::Appended(append.id)),
            _ => None,
        });
        let (outcomes, counts) = (outcomes.collect::<Option<_>>()?, Counts::default());
        Some(Applied { outcomes, counts, first_lease_end: None, due: BTreeMap::new() })
    }

    /// What the machine is told of the batch, but for news.
    pub(crate) fn told(&self, applied: &Applied) -> (Committed, Finished) {
        let appended =
            applied.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Appended(_)));
        let committed = Committed {
            last_id: if appended { self.minted_id } else { self.last_id },
            counts: applied.counts,
            first_lease_end: applied.first_lease_end,
            due: applied.due.clone(),
            news: Vec::new(),
        };
        let mut finished = Finished::default();
        for planned in &self.requests {
            finished.note(planned);
        }
        (committed, finished)
    }

    /// What the machine is told of webhooks. It is taken out of the outcomes.
    pub(crate) fn news(&self, outcomes: &mut [Outcome]) -> Vec<PushNews> {
        let healths = self.healths();
        let news = self.commands.iter().zip(outcomes).enumerate();
        let news = news.filter_map(|(number, (command, outcome))| {
            news_of(command, outcome, healths.get(&number).copied().unwrap_or(Health::Unknown))
        });
        news.collect()
    }

    /// What each requester is answered.
    pub(crate) fn answers(self, outcomes: &[Outcome]) -> Vec<(R, Answer)> {
        let mut answers = Vec::with_capacity(self.requests.len());
        for planned in self.requests {
            let results = planned.slots.iter().map(|slot| match *slot {
                Slot::Refused(refusal) => WriteResult::Refused(refusal),
                Slot::Command(number) => result_of(&self.commands[number], &outcomes[number]),
            });
            let results = results.collect();
            answers.extend(planned.request.requester.map(|requester| (requester, Ok(results))));
        }
        answers
    }

    /// What the attempts that are settled here tell of their endpoints, by the number of the command.
    fn healths(&self) -> BTreeMap<usize, Health> {
        let slots = self
            .requests
            .iter()
            .flat_map(|planned| planned.request.writes.iter().zip(&planned.slots));
        let healths = slots.filter_map(|(write, slot)| match (write, slot) {
            (Write::Settle(settle), Slot::Command(number)) => Some((*number, settle.health)),
            _ => None,
        });
        healths.collect()
    }
}

/// What the machine is told of a command's outcome, which is of no use to anybody else any more.
fn news_of(command: &Command, outcome: &mut Outcome, health: Health) -> Option<PushNews> {
    match (command, outcome) {
        (Command::Claim(claim), Outcome::Claimed { attempts, next }) => Some(PushNews::Claimed {
            subscription: claim.subscription,
            attempts: std::mem::take(attempts),
            next: *next,
            until: claim.until,
        }),
        (Command::Settle(settle), Outcome::Settled(settled)) => Some(PushNews::Settled {
            subscription: settle.subscription,
            settled: settled.clone(),
            health,
        }),
        (Command::GiveUp { subscription, .. }, Outcome::GaveUp { next, removed }) => {
            Some(PushNews::GaveUp { subscription: *subscription, next: *next, removed: *removed })
        }
        (_, Outcome::Subscribed(row)) => Some(PushNews::Changed(row.clone())),
        (Command::Unsubscribe { id, .. }, Outcome::Deleted) => Some(PushNews::Deleted(*id)),
        _ => None,
    }
}

fn result_of(command: &Command, outcome: &Outcome) -> WriteResult {
    match (command, outcome) {
        (Command::Append(append), Outcome::Appended(_)) => accepted(append.to_event(), false),
        (Command::Append(append), Outcome::Replayed { id, event }) => {
            // If the first event was deleted since, the repeated request itself says what it was.
            let from_request = || {
                let mut event = append.to_event();
                if event.timestamp == event.id.created_at() {
                    event.timestamp = id.created_at();
                }
                event.id = *id;
                event
            };
            accepted(event.as_deref().cloned().unwrap_or_else(from_request), true)
        }
        (_, Outcome::QuotaExceeded) => WriteResult::Refused(Refusal::QuotaExceeded),
        (_, Outcome::KeyReused) => WriteResult::Refused(Refusal::KeyReused),
        (_, Outcome::Acknowledged(event)) => WriteResult::Acknowledged(event.clone()),
        (_, Outcome::Leased(leased)) => WriteResult::Leased(leased.clone()),
        (_, Outcome::Changed(event)) => WriteResult::Changed(event.clone()),
        (_, Outcome::Conflict) => WriteResult::Conflict,
        (_, Outcome::Subscribed(row)) => WriteResult::Subscribed(row.clone()),
        (_, Outcome::TooMany) => WriteResult::TooMany,
        (_, Outcome::Swept { removed, more }) => {
            WriteResult::Swept { removed: *removed, more: *more }
        }
        (
            _,
            Outcome::Expired(_)
            | Outcome::Claimed { .. }
            | Outcome::Settled(_)
            | Outcome::GaveUp { .. },
        ) => WriteResult::Done,
        (_, Outcome::Deleted) => WriteResult::Deleted,
        (_, Outcome::Gone) => WriteResult::Gone,
        (_, Outcome::NotFound) => WriteResult::NotFound,
        (_, Outcome::Appended(_) | Outcome::Replayed { .. }) => {
            unreachable!("INBOX-4: only an append is answered as appended or replayed")
        }
    }
}

fn accepted(event: Event, replayed: bool) -> WriteResult {
    WriteResult::Accepted(Box::new(Accepted { event, replayed }))
}
