//! What a member answers to the others: its own part here, what clients asked for by the edge.
//!
//! Invariant: `SERVICE-1` until the node stands, every request but a ping is refused, without effect.

use super::transport::PeerService;
use crate::partitions::PartitionsMessage;
use arc_swap::ArcSwap;
use ractor::ActorRef;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;
use triggers_protocol::PartitionId;
use triggers_protocol::codec::CodecError;
use triggers_protocol::peer::{HttpRequest, PeerReply, PeerRequest};
use triggers_store::kv::BoxFuture;
use triggers_store::tables::fence::Guard;
use triggers_store::tables::rows::Fence;

const SERVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers what clients asked of another member.
pub trait HttpService: Send + Sync + 'static {
    /// Answers a client's request.
    fn request(&self, from: String, request: HttpRequest) -> BoxFuture<'_, PeerReply>;

    /// The next part of a response.
    fn pull(&self, from: String, stream: u64) -> BoxFuture<'_, PeerReply>;

    /// Gives the rest of a response up.
    fn close(&self, from: &str, stream: u64);
}

/// The service of a node; cheap to clone. It is made before the node, which needs the transport that needs it.
#[derive(Clone, Default)]
pub struct Peers(Arc<Inner>);

#[derive(Default)]
struct Inner {
    node: OnceLock<NodeSide>,
    http: OnceLock<Arc<dyn HttpService>>,
}

pub(crate) struct NodeSide {
    pub(crate) partitions: ActorRef<PartitionsMessage>,
    pub(crate) incarnation: Arc<ArcSwap<String>>,
}

impl Peers {
    pub(crate) fn bind_node(&self, node: NodeSide) {
        // A node is bound once, when it starts.
        let _ = self.0.node.set(node);
    }

    /// Says who answers clients' requests. Only the first call counts.
    pub fn bind_http(&self, http: Arc<dyn HttpService>) {
        let _ = self.0.http.set(http);
    }

    async fn answer(&self, from: String, request: PeerRequest) -> PeerReply {
        match request {
            PeerRequest::Ping => PeerReply::Done,
            PeerRequest::Prepare { incarnation } => {
                if self.is_meant(&incarnation) {
                    PeerReply::Done
                } else {
                    PeerReply::Rejected
                }
            }
            PeerRequest::Serve { incarnation, partition, epoch } => {
                self.serve(incarnation, partition, epoch).await
            }
            PeerRequest::Http(request) => match self.0.http.get() {
                Some(http) => http.request(from, *request).await,
                None => PeerReply::Rejected,
            },
            PeerRequest::Pull { stream } => match self.0.http.get() {
                Some(http) => http.pull(from, stream).await,
                None => PeerReply::Rejected,
            },
            PeerRequest::Close { stream } => {
                if let Some(http) = self.0.http.get() {
                    http.close(&from, stream);
                }
                PeerReply::Done
            }
        }
    }

    fn is_meant(&self, incarnation: &str) -> bool {
        self.0.node.get().is_some_and(|node| **node.incarnation.load() == incarnation)
    }

    async fn serve(&self, incarnation: String, partition: PartitionId, epoch: u64) -> PeerReply {
        let Some(node) = self.0.node.get().filter(|_| self.is_meant(&incarnation)) else {
            return PeerReply::Rejected;
        };
        let (done, served) = oneshot::channel();
        let guard = Guard::new(partition, Fence { epoch, incarnation });
        // Partitions that are gone have ended the node.
        let _ = node.partitions.cast(PartitionsMessage::Serve(vec![guard], Some(done)));
        match timeout(SERVE_TIMEOUT, served).await {
            Ok(Ok(())) => PeerReply::Done,
            _ => PeerReply::Rejected,
        }
    }
}

impl PeerService for Peers {
    fn serve(&self, from: String, message: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        Box::pin(async move {
            match PeerRequest::decode(&message) {
                Ok(request) => self.answer(from, request).await.encode(),
                Err(CodecError::Version { .. }) => PeerReply::unsupported(),
                Err(error) => {
                    tracing::warn!(from, %error, "a member sent what cannot be read");
                    PeerReply::Rejected.encode()
                }
            }
        })
    }
}
