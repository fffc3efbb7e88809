//! The actors of a node, and the [`Router`] through which the API reaches them.
//!
//! ```text
//! Node                       ends the process when its children keep failing
//! ├── DeliverySupervisor     counts the workers that fail, stops those that are not needed
//! │   └── DeliveryWorker     one per webhook in flight at once; makes one attempt after the other
//! ├── Membership             in a cluster: writes the heartbeat, observes the peers, makes a plan
//! └── PartitionSupervisor    serves owned partitions, transfers them, publishes the routing table
//!     └── Partition          one per owned partition; opens, closes and restarts inboxes
//!         ├── Inbox          one per active tenant; every write of the tenant passes through it
//!         └── Sweeper        removes what has reached its age
//! ```
//! A request passes `Router` → admission → arrivals of the `Inbox` → batch → one store transaction
//! → answer. Nothing is sent to an inbox without a permit ([`admission`]). Decisions are made by
//! machines without I/O, inside thin actors. Names, registries and process groups of ractor are
//! global to the process, so only [`cluster::ractor`] uses them, once in a process. This crate
//! knows neither HTTP nor a particular storage engine.

pub mod admission;
#[cfg(feature = "bench-support")]
pub mod bench_support;
mod clock;
pub mod cluster;
mod delivery;
mod error;
mod gate;
mod inbox;
pub mod keyed_limit;
pub mod membership;
mod node;
mod node_faults;
mod options;
mod partition;
mod partition_supervisor;
mod peer_service;
mod router;
mod supervision;

pub use delivery::{SendFailure, SendOutcome, Webhook, WebhookSender};
pub use error::BrokerError;
pub use node::{Joining, Node, NodeArguments, NodeWatch, StartError, settings};
pub use node_faults::NodeFault;
pub use options::{BrokerOptions, ClusterOptions, DeliveryOptions};
pub use peer_service::{HttpService, NodePeerService};
pub use router::{Ping, Router, Statistics};

/// The rows, operations and replies of the store that the API uses to make requests.
pub mod model {
    pub use triggers_store::tables::batch::Initiator;
    pub use triggers_store::tables::{TableError, access, inbox, operations, rows, settings};
}
