//! From requests to the commands of a batch: ids, tokens and times are drawn here, so that a batch that is run again does
//! the same again.

use super::{InboxMachine, Requester};
use crate::inbox::batch::{Batch, Planned, Slot};
use crate::inbox::request::{LeaseRequest, NewEvent, Refusal, SettleRequest, Write};
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{EventId, EventStatus, Timestamp};
use triggers_store::tables::batch::{
    Append, ClaimPushes, Command, IdempotencyKey, Lease, Refuse, Settle, Sweep,
};

impl<R: Requester> InboxMachine<R> {
    pub(super) fn add_to(&self, batch: &mut Batch<R>, mut planned: Planned<R>, now: Timestamp) {
        let mut room = planned.request.waiting_events_max.map_or(u64::MAX, |max| {
            let waiting = |status| u64::try_from(self.counts.get(status)).unwrap_or(0);
            let taken = waiting(EventStatus::Received)
                + waiting(EventStatus::Queued)
                + batch.events() as u64;
            max.saturating_sub(taken)
        });
        for (write, slot) in planned.request.writes.iter().zip(&mut planned.slots) {
            let Slot::Command(number) = slot else { continue };
            let over_quota =
                matches!(write, Write::Append(_)) && room == 0 && !is_planted(Bug::QuotaNotChecked);
            if over_quota && matches!(write, Write::Append(event) if event.idempotency.is_none()) {
                *slot = Slot::Refused(Refusal::QuotaExceeded);
                continue;
            }
            *number = batch.commands.len();
            if matches!(write, Write::Append(_)) {
                room = room.saturating_sub(1);
            }
            batch.commands.push(self.command(write, now, over_quota, &mut batch.minted_id));
        }
        batch.requests.push(planned);
    }

    /// What a write asks of the store; an event gets its id, and `minted` moves on to it.
    fn command(
        &self,
        write: &Write,
        now: Timestamp,
        over_quota: bool,
        minted: &mut EventId,
    ) -> Command {
        match write {
            Write::Append(event) => {
                if is_planted(Bug::IdsFollowTheClock) && now < minted.created_at() {
                    *minted = EventId::ZERO;
                }
                *minted = EventId::mint(*minted, now, self.environment.bytes());
                Command::Append(Box::new(Append { over_quota, ..self.append(event, *minted, now) }))
            }
            Write::Acknowledge(id, token) => {
                Command::Acknowledge { id: *id, at: now, token: *token }
            }
            Write::Delete(id) => Command::Delete { id: *id, at: now },
            Write::Lease(lease) => Command::Lease(self.lease(lease, now)),
            Write::Extend(id, token, visibility) => Command::Extend {
                id: *id,
                token: *token,
                at: now,
                until: now.plus(*visibility),
                nonce: self.nonce(),
            },
            Write::Refuse(refuse) => Command::Refuse(Refuse {
                id: refuse.id,
                token: refuse.token,
                reason: refuse.reason.clone(),
                retry_after: refuse.retry_after,
                at: now,
                nonce: self.nonce(),
            }),
            Write::Replay(id) => Command::Replay { id: *id, at: now, nonce: self.nonce() },
            Write::Expire => Command::Expire { at: now, seed: self.nonce() },
            Write::Claim { subscription, limit } => Command::Claim(ClaimPushes {
                subscription: *subscription,
                limit: *limit,
                at: now,
                until: now.plus(self.limits.attempt_time),
                nonce: self.nonce(),
            }),
            Write::Settle(settle) => Command::Settle(Box::new(self.settle(settle))),
            Write::GiveUp(subscription) => Command::GiveUp { subscription: *subscription, at: now },
            Write::Subscribe(row, by) => Command::Subscribe {
                row: row.clone(),
                subscriptions_max: self.limits.subscriptions_max,
                by: by.clone(),
            },
            Write::ChangeSubscription(id, change, by) => Command::ChangeSubscription {
                id: *id,
                change: change.clone(),
                at: now,
                by: by.clone(),
            },
            Write::Unsubscribe(id, by) => Command::Unsubscribe { id: *id, at: now, by: by.clone() },
            Write::Sweep => Command::Sweep(Sweep {
                at: now,
                idempotency_retention: self.limits.idempotency_retention,
            }),
        }
    }

    fn settle(&self, settle: &SettleRequest) -> Settle {
        Settle {
            id: settle.id,
            subscription: settle.subscription,
            token: settle.token,
            at: settle.at,
            result: settle.result.clone(),
            draw: self.nonce(),
            disable_after: self.limits.disable_after,
            target_url: settle.target_url.clone(),
        }
    }

    fn lease(&self, lease: &LeaseRequest, now: Timestamp) -> Lease {
        Lease {
            nonce: self.nonce(),
            seed: self.environment.bytes(),
            limit: lease.limit,
            event_types: lease.event_types.clone(),
            at: now,
            until: now.plus(lease.visibility),
        }
    }

    /// A number that tells one command from all others.
    fn nonce(&self) -> u64 {
        u64::from_le_bytes(self.environment.bytes())
    }

    fn append(&self, event: &NewEvent, id: EventId, now: Timestamp) -> Append {
        Append {
            id,
            event_type: event.event_type.clone(),
            timestamp: event.timestamp.unwrap_or_else(|| id.created_at()),
            at: now,
            payload: event.payload.clone(),
            metadata: event.metadata.clone(),
            over_quota: false,
            idempotency: event.idempotency.map(|key| IdempotencyKey {
                hash: key.hash,
                request_digest: key.request_digest,
                now,
                expires_at: now.plus(self.limits.idempotency_retention),
            }),
        }
    }
}
