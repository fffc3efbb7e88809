//! The gateway: the one actor of a node that its peers can call.
//!
//! It passes calls to the [`PeerService`] of the node. It has no supervisor, because none of its
//! work can fail.
//! Invariants: `GATEWAY-1` each call is answered in a task of its own, so a slow call delays no
//! other; `GATEWAY-2` calls in flight from one peer are bounded; a call above the bound is rejected
//! before anything is done. The names of the message's variants are part of the wire protocol.

use crate::admission::Admission;
use crate::cluster::PeerService;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorClusterMessage;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use triggers_protocol::lock::lock;
use triggers_protocol::peer::PeerReply;

/// The type of the actor.
pub(super) struct Gateway;

/// A message from a peer.
#[derive(RactorClusterMessage)]
pub(super) enum GatewayMessage {
    /// A call: the peer, the encoded request of [`triggers_protocol::peer`], and the reply port.
    #[rpc]
    Call(String, Vec<u8>, RpcReplyPort<Vec<u8>>),
}

pub(super) struct GatewayArguments {
    pub(super) service: Arc<dyn PeerService>,
    pub(super) admissions: PeerAdmissions,
}

impl Actor for Gateway {
    type Msg = GatewayMessage;
    type State = GatewayArguments;
    type Arguments = GatewayArguments;

    async fn pre_start(
        &self,
        _: ActorRef<GatewayMessage>,
        arguments: GatewayArguments,
    ) -> Result<GatewayArguments, ActorProcessingErr> {
        Ok(arguments)
    }

    async fn handle(
        &self,
        _: ActorRef<GatewayMessage>,
        message: GatewayMessage,
        state: &mut GatewayArguments,
    ) -> Result<(), ActorProcessingErr> {
        let GatewayMessage::Call(from, message, reply) = message;
        match state.admissions.of(&from).enter(message.len()) {
            Ok(permit) => {
                let service = state.service.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    // The peer may have disconnected.
                    let _ = reply.send(service.serve(from, message).await);
                });
            }
            Err(_) => {
                metrics::counter!("triggers_peer_rejections_total").increment(1);
                let _ = reply.send(PeerReply::Busy.encode());
            }
        }
        Ok(())
    }
}

/// The process group of a peer's gateway.
pub(super) fn group(peer: &str) -> String {
    format!("gw/{peer}")
}

/// Bounds the calls in flight from each peer (`TRANSPORT-3`).
pub(super) struct PeerAdmissions {
    pub(super) requests_max: usize,
    pub(super) bytes_max: usize,
    pub(super) of: Mutex<BTreeMap<String, Arc<Admission>>>,
}

impl PeerAdmissions {
    fn of(&self, peer: &str) -> Arc<Admission> {
        let mut admissions = lock(&self.of);
        if let Some(admission) = admissions.get(peer) {
            return admission.clone();
        }
        // An admission without permits belongs to a peer that is gone, or is cheap to make again.
        admissions.retain(|_, admission| Arc::strong_count(admission) > 1);
        admissions
            .entry(peer.to_owned())
            .or_insert_with(|| Admission::new(self.requests_max, self.bytes_max))
            .clone()
    }
}
