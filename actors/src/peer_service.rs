//! Answers the calls of other nodes: partition transfers here, forwarded requests in the node.
//!
//! Invariant: `SERVICE-1` until the node has started, every call but a ping is rejected without
//! effect.

use crate::cluster::{LinkState, PeerService, PeerTransport};
use crate::partition_supervisor::PartitionSupervisorMessage;
use arc_swap::ArcSwap;
use ractor::ActorRef;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;
use triggers_protocol::PartitionId;
use triggers_protocol::codec::CodecError;
use triggers_protocol::peer::{HttpRequest, PeerReply, PeerRequest};
use triggers_protocol::planted::{Bug, is_planted};
use triggers_store::kv::BoxFuture;
use triggers_store::tables::fence::Guard;
use triggers_store::tables::rows::Fence;

const SERVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers client requests that another node has forwarded.
pub trait HttpService: Send + Sync + 'static {
    /// Answers a client's request.
    fn request(&self, from: String, request: HttpRequest) -> BoxFuture<'_, PeerReply>;

    /// Reads the next part of a response body.
    fn pull(&self, from: String, stream: u64) -> BoxFuture<'_, PeerReply>;

    /// Discards the rest of a response body.
    fn close(&self, from: &str, stream: u64);
}

/// The peer service of a node; cheap to clone. The transport needs it before the node starts, so
/// the parts that answer are bound later.
#[derive(Clone, Default)]
pub struct NodePeerService(Arc<Inner>);

#[derive(Default)]
struct Inner {
    node: OnceLock<TransferTarget>,
    http: OnceLock<Arc<dyn HttpService>>,
}

/// The part of a node that accepts transferred partitions.
pub(crate) struct TransferTarget {
    pub(crate) partitions: ActorRef<PartitionSupervisorMessage>,
    pub(crate) incarnation: Arc<ArcSwap<String>>,
    pub(crate) transport: Arc<dyn PeerTransport>,
}

impl TransferTarget {
    /// Whether the links to these peers are up (`TRANSFER-1`).
    fn is_linked_to(&self, peers: &[String]) -> bool {
        let links = self.transport.links();
        is_planted(Bug::TransferredUnlinked)
            || peers.iter().all(|peer| links.get(peer) == Some(&LinkState::Up))
    }
}

impl NodePeerService {
    /// Binds the node. Only the first call has an effect.
    pub(crate) fn bind_node(&self, node: TransferTarget) {
        let _ = self.0.node.set(node);
    }

    /// Binds the service for forwarded requests. Only the first call has an effect.
    pub fn bind_http(&self, http: Arc<dyn HttpService>) {
        let _ = self.0.http.set(http);
    }

    async fn answer(&self, from: String, request: PeerRequest) -> PeerReply {
        let http = self.0.http.get();
        match (request, http) {
            (PeerRequest::Ping, _) => PeerReply::Done,
            (PeerRequest::Prepare { incarnation, peers }, _) => match self.target(&incarnation) {
                Some(target) if target.is_linked_to(&peers) => PeerReply::Done,
                Some(_) | None => PeerReply::Rejected,
            },
            (PeerRequest::Serve { incarnation, partition, epoch }, _) => {
                self.serve(partition, Fence { epoch, incarnation }).await
            }
            (PeerRequest::Http(request), Some(http)) => http.request(from, *request).await,
            (PeerRequest::Pull { stream }, Some(http)) => http.pull(from, stream).await,
            (PeerRequest::Close { stream }, Some(http)) => {
                http.close(&from, stream);
                PeerReply::Done
            }
            (PeerRequest::Close { .. }, None) => PeerReply::Done,
            (PeerRequest::Http(_) | PeerRequest::Pull { .. }, None) => PeerReply::Rejected,
        }
    }

    /// The bound node, if `incarnation` is its present incarnation.
    fn target(&self, incarnation: &str) -> Option<&TransferTarget> {
        self.0.node.get().filter(|node| **node.incarnation.load() == incarnation)
    }

    async fn serve(&self, partition: PartitionId, fence: Fence) -> PeerReply {
        let Some(node) = self.target(&fence.incarnation) else { return PeerReply::Rejected };
        let (done, served) = oneshot::channel();
        let guards = vec![Guard::new(partition, fence)];
        // A partition supervisor that has stopped has ended the node.
        let _ = node.partitions.cast(PartitionSupervisorMessage::Serve(guards, Some(done)));
        match timeout(SERVE_TIMEOUT, served).await {
            Ok(Ok(())) => PeerReply::Done,
            _ => PeerReply::Rejected,
        }
    }
}

impl PeerService for NodePeerService {
    fn serve(&self, from: String, message: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        Box::pin(async move {
            match PeerRequest::decode(&message) {
                Ok(request) => self.answer(from, request).await.encode(),
                Err(CodecError::Version { .. }) => PeerReply::unsupported(),
                Err(error) => {
                    tracing::warn!(from, %error, "a peer sent a message that cannot be decoded");
                    PeerReply::Rejected.encode()
                }
            }
        })
    }
}
