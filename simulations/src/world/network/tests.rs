//! Tests of the simulated network.

use super::*;
use axum::serve::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::yield_now;

const STEP: Duration = Duration::from_millis(1);
const HERE: HostId = HostId(0);
const THERE: HostId = HostId(1);

/// A network with two hosts, and time on it.
struct Net {
    network: Network,
    now: Duration,
}

impl Net {
    fn new() -> Self {
        let network = Network::new(1, STEP, 3, Trace::new(false));
        for host in [HERE, THERE] {
            network.process_began(host, 1);
        }
        Self { network, now: Duration::ZERO }
    }

    /// Runs time forward until `work` is done.
    async fn until<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = yield_now() => {}
            }
            self.now += STEP;
            self.network.deliver(self.now);
            assert!(self.now < Duration::from_secs(60), "the work does not end");
        }
    }

    async fn pair(&mut self) -> (SimStream, SimStream, SimListener) {
        let network = self.network.clone();
        let mut listener = network.listen(THERE, 80);
        let both =
            async { tokio::join!(network.connect(HERE, address_of(THERE, 80)), listener.accept()) };
        let (near, (far, _)) = self.until(both).await;
        (near.unwrap(), far, listener)
    }
}

#[tokio::test]
async fn bytes_arrive_in_their_order_and_more_than_the_window() {
    let mut net = Net::new();
    let (mut near, mut far, _listener) = net.pair().await;
    let sent: Vec<u8> = (0..3 * WINDOW_BYTES).map(|at| (at % 251) as u8).collect();
    let mut got = Vec::new();
    let writing = async {
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
    };
    net.until(async { tokio::join!(writing, far.read_to_end(&mut got)) }).await.1.unwrap();
    assert!(got == sent, "NETWORK-1");
}

#[tokio::test]
async fn a_cut_link_delays_and_carries_the_other_way() {
    let mut net = Net::new();
    let (mut near, mut far, _listener) = net.pair().await;
    net.network.set_cut(HERE, THERE, true);
    near.write_all(b"there").await.unwrap();
    far.write_all(b"here").await.unwrap();
    let mut bytes = [0; 4];
    net.until(near.read_exact(&mut bytes)).await.unwrap();
    let cut_at = net.now;
    net.now += Duration::from_secs(1);
    net.network.deliver(net.now);
    net.network.set_cut(HERE, THERE, false);
    let mut bytes = [0; 5];
    net.until(far.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"there", "NETWORK-2");
    assert!(net.now - cut_at >= Duration::from_secs(1), "NETWORK-2");
}

#[tokio::test]
async fn a_process_that_ends_resets_and_a_machine_without_power_is_silent_until_it_is_back() {
    let mut net = Net::new();
    let (mut near, far, listener) = net.pair().await;
    net.network.process_ended(THERE, false);
    drop((far, listener));
    let error = net.until(near.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "NETWORK-3");
    let error = net.until(net_connect(&net.network)).await.err().map(|error| error.kind());
    assert_eq!(error, Some(io::ErrorKind::ConnectionRefused));

    net.network.process_began(THERE, 2);
    let (mut near, far, listener) = net.pair().await;
    net.network.process_ended(THERE, true);
    drop((far, listener));
    near.write_all(b"lost").await.unwrap();
    net.now += Duration::from_secs(1);
    net.network.deliver(net.now);
    net.network.process_began(THERE, 3);
    near.write_all(b"refused").await.unwrap();
    let error = net.until(near.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "NETWORK-3");
}

fn net_connect(network: &Network) -> impl Future<Output = io::Result<SimStream>> + use<> {
    let network = network.clone();
    async move { network.connect(HERE, address_of(THERE, 80)).await }
}
