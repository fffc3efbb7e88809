//! The actors of a node, and the [`Router`] through which the edge reaches them.
//!
//! ```text
//! Node                       ends the process when what is below it keeps failing
//! ├── Membership             in a cluster: the own beat, the view of the others, what follows from it
//! └── Partitions             serves what is owned, hands over, publishes the routing table
//!     └── Partition p        one per owned partition; opens, closes and restarts inboxes
//!         ├── Inbox T        one per active tenant; every write of the tenant passes through it
//!         │   └── Retry      one per attempt to a subscription that is under way
//!         └── Sweeper        removes what has reached its age
//! ```
//! A request's way: `Router` → admission → arrivals of the `Inbox` → batch → one store transaction → answer.
//! Invariants: nothing is handed to an inbox without a permit ([`admission`]); logic is in machines without I/O, shells are
//! thin; no names, registries or process groups of ractor are used, because they are global to the process, but for
//! [`cluster::ractor`], of which a process has one.
//! It knows no HTTP, and no store engine in particular.

pub mod admission;
pub mod cluster;
mod delivery;
mod delivery_attempt;
mod gate;
mod inbox;
mod node;
mod options;
mod partition;
mod partitions;
mod router;
mod supervision;
mod sweeper;

pub use delivery::{SendFailure, SendOutcome, Webhook, WebhookSender};
pub use inbox::request::{
    Accepted, BrokerError, Change, IdempotencyRequest, LeaseRequest, NewEvent, Refusal,
    RefuseRequest,
};
pub use node::{Joining, Node, NodeWatch, StartError, settings};
pub use options::{BrokerOptions, DeliveryOptions};
pub use router::{Deletion, Ping, Router, Statistics, Subscribed};
