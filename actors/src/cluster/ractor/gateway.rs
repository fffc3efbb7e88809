//! The gateway: the one actor that other members can call.
//!
//! Told by: other members, through ractor_cluster. Tells: the service that the node has given it. Supervised by nobody: it
//! does nothing that fails. Invariants: `GATEWAY-1` it answers from tasks, so that a slow request holds up no other;
//! `GATEWAY-2` what is under way from one member is bounded: more is refused before anything is done.
//! Every field's type can be turned into bytes; the variants' names are part of the protocol.

use super::Doors;
use crate::cluster::PeerService;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorClusterMessage;
use std::sync::Arc;
use triggers_protocol::peer::PeerReply;

/// The shell's type.
pub(super) struct Gateway;

/// A message from another member.
#[derive(RactorClusterMessage)]
pub(super) enum GatewayMessage {
    /// Who calls, and what it asks; see [`triggers_protocol::peer`].
    #[rpc]
    Call(String, Vec<u8>, RpcReplyPort<Vec<u8>>),
}

pub(super) struct GatewayArguments {
    pub(super) service: Arc<dyn PeerService>,
    pub(super) doors: Doors,
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
        match state.doors.of(&from).enter(message.len()) {
            Ok(permit) => {
                let service = state.service.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    // A member that is gone has no use for the answer.
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
