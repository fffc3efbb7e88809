//! The machines of the actors, without I/O: plans of a cluster's node, batches of an inbox, claims
//! of webhooks, and the places for them.
//!
//! Run with `cargo bench -p triggers-actors --features bench-support`.

#![expect(missing_docs, reason = "criterion_group makes a public function")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use triggers_actors::bench_support::{
    DispatchPlanning, InboxPlanning, MembershipPlanning, SharedPlaces,
};

fn membership(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("membership plan, 256 partitions");
    for nodes in [3, 30] {
        let mut planning = MembershipPlanning::new(nodes, 256);
        planning.plan();
        group.bench_function(format!("{nodes} nodes"), |bencher| {
            bencher.iter(|| planning.plan());
        });
    }
}

fn inbox(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inbox batches");
    for requests in [1, 100] {
        let mut planning = InboxPlanning::default();
        group.throughput(Throughput::Elements(requests.into()));
        group.bench_function(format!("{requests} requests"), |bencher| {
            bencher.iter(|| planning.plan(requests));
        });
    }
}

fn dispatch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("webhook claims");
    for subscriptions in [1, 100] {
        let mut planning = DispatchPlanning::new(subscriptions);
        assert!(planning.plan() > 0, "something is due");
        group.bench_function(format!("{subscriptions} subscriptions"), |bencher| {
            bencher.iter(|| planning.plan());
        });
    }
}

fn shares(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("places for webhooks");
    for hogs in [0, 1, 4] {
        let mut places = SharedPlaces::new(hogs);
        assert_eq!(places.turn(8), 8, "the others leave it what it needs");
        group.bench_function(format!("beside {hogs} dead endpoints"), |bencher| {
            bencher.iter(|| places.turn(8));
        });
    }
}

criterion_group!(machines, membership, inbox, dispatch, shares);
criterion_main!(machines);
