//! Tests the resolver with look-ups of their own, except for the spellings of addresses.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

const PUBLIC: &str = "8.8.8.8:0";

fn policy(allowed: &[&str]) -> Arc<TargetPolicy> {
    let allowed = allowed.iter().map(|network| network.parse().unwrap()).collect();
    Arc::new(TargetPolicy { is_https_required: true, allowed })
}

fn resolver(
    lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
) -> CheckedResolver {
    CheckedResolver::with(Arc::new(lookup), &DeliveryOptions::default(), policy(&[]))
}

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

async fn ask(resolver: &CheckedResolver, name: &str) -> Result<Vec<SocketAddr>, LookupError> {
    resolver.clone().look_up(name.parse().unwrap()).await.map(Iterator::collect)
}

fn temporary() -> io::Error {
    io::Error::other("failed to lookup address information: Temporary failure in name resolution")
}

#[test]
fn one_forbidden_address_rejects_all() {
    let public = addresses(&[PUBLIC, "[2606:4700:4700::1111]:0"]);
    let accepted = checked(&public, &policy(&[])).unwrap();
    assert_eq!(accepted.collect::<Vec<_>>(), public);
    for mixed in [[PUBLIC, "10.0.0.1:0"], ["127.0.0.1:0", PUBLIC], [PUBLIC, "[::1]:0"]] {
        let rejected = checked(&addresses(&mixed), &policy(&[]));
        assert_eq!(rejected.unwrap_err(), LookupError::Forbidden, "RESOLVER-1: {mixed:?}");
    }
}

#[tokio::test]
async fn other_spellings_of_an_address_are_checked() {
    let resolver = CheckedResolver::new(&DeliveryOptions::default(), policy(&[]));
    for name in ["localhost", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "0x7f000001", "0"] {
        // The second answer comes from the cache.
        for _ in 0..2 {
            let found = ask(&resolver, name).await;
            assert_eq!(found, Err(LookupError::Forbidden), "RESOLVER-1: {name}");
        }
    }
}

#[tokio::test]
async fn an_allowed_name_is_looked_up() {
    let allowed = policy(&["127.0.0.0/8", "::1/128"]);
    let resolver = CheckedResolver::new(&DeliveryOptions::default(), allowed);
    let addresses = ask(&resolver, "localhost").await.unwrap();
    assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    assert_ne!(addresses.len(), 0);
    assert_eq!(ask(&resolver, "nothing.invalid").await, Err(LookupError::NoAddress));
}

#[tokio::test]
async fn a_burst_shares_one_lookup_and_its_answer_is_kept() {
    let (asked, (release, held)) = (Arc::new(AtomicUsize::new(0)), mpsc::channel::<()>());
    let (counter, held) = (asked.clone(), Mutex::new(held));
    let resolver = resolver(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        lock(&held).recv().map_err(io::Error::other)?;
        Ok(addresses(&[PUBLIC]))
    });
    let burst = (0..100).map(|_| ask(&resolver, "Hooks.example.com."));
    let burst = futures_util::future::join_all(burst);
    let (found, sent) = tokio::join!(burst, async { release.send(()) });
    sent.unwrap();
    assert!(found.iter().all(|one| *one == Ok(addresses(&[PUBLIC]))), "RESOLVER-2: {found:?}");
    assert_eq!(ask(&resolver, "hooks.example.com").await, Ok(addresses(&[PUBLIC])));
    assert_eq!(asked.load(Ordering::SeqCst), 1, "RESOLVER-2");
}

#[tokio::test]
async fn many_names_of_one_zone_wait_for_places() {
    let resolver = resolver(|_| {
        std::thread::sleep(Duration::from_millis(5));
        Ok(addresses(&[PUBLIC]))
    });
    let names: Vec<String> = (0..2 * LOOKUPS_MAX).map(|n| format!("host-{n}.co.uk")).collect();
    let found = futures_util::future::join_all(names.iter().map(|name| ask(&resolver, name))).await;
    assert!(found.iter().all(Result::is_ok), "RESOLVER-3");
}

#[tokio::test]
async fn a_fault_of_the_resolver_is_not_the_names() {
    let resolver = resolver(|name| match name {
        "good.example" => Ok(addresses(&[PUBLIC])),
        "gone.example" => Err(io::Error::other("Name or service not known")),
        "full.example" => Err(io::Error::from_raw_os_error(24)),
        "empty.example" => Ok(Vec::new()),
        _ => Err(temporary()),
    });
    let ask = async |name| ask(&resolver, name).await.map(drop);
    let ours = |fault| Err(LookupError::Node(fault));
    assert_eq!(ask("bad.example").await, ours(NodeFault::Resolver), "RESOLVER-4");
    assert_eq!(ask("full.example").await, ours(NodeFault::Descriptors), "RESOLVER-4");
    assert_eq!(ask("gone.example").await, Err(LookupError::NoAddress));
    assert_eq!(ask("empty.example").await, Err(LookupError::NoAddress));
    assert_eq!(ask("good.example").await, Ok(()));
    assert_eq!(ask("bad.example").await, Err(LookupError::Silent), "RESOLVER-4");
}

#[tokio::test]
async fn a_silent_name_is_at_fault_only_if_others_are_answered() {
    let (_silence, silence) = mpsc::channel::<()>();
    let silence = Mutex::new(silence);
    let lookup: Lookup = Arc::new(move |name| match name {
        "good.example" => Ok(addresses(&[PUBLIC])),
        _ => lock(&silence).recv().map(|()| Vec::new()).map_err(io::Error::other),
    });
    let options = DeliveryOptions { connect_timeout_ms: 250, ..DeliveryOptions::default() };
    let resolver = CheckedResolver::with(lookup, &options, policy(&[]));
    let alone = ask(&resolver, "silent.example").await;
    assert_eq!(alone, Err(LookupError::Node(NodeFault::Resolver)), "RESOLVER-4");
    let (silent, good) =
        tokio::join!(ask(&resolver, "silent.example"), ask(&resolver, "good.example"));
    assert_eq!((silent, good.is_ok()), (Err(LookupError::Silent), true), "RESOLVER-3, RESOLVER-4");
    drop(_silence);
}

#[tokio::test]
async fn a_lookup_without_a_place_is_no_fault_of_the_name() {
    let resolver = CheckedResolver::with(
        Arc::new(|_| Ok(addresses(&[PUBLIC]))),
        &DeliveryOptions { connect_timeout_ms: 250, ..DeliveryOptions::default() },
        policy(&[]),
    );
    let all = u32::try_from(LOOKUPS_MAX).unwrap();
    let places = resolver.0.places.acquire_many(all).await.unwrap();
    let waited = ask(&resolver, "good.example").await;
    assert_eq!(waited, Err(LookupError::Node(NodeFault::Lookups)), "RESOLVER-3");
    drop(places);
    assert!(ask(&resolver, "good.example").await.is_ok(), "RESOLVER-3");
}

#[tokio::test]
async fn the_number_of_remembered_names_is_bounded() {
    let mut names = Names::default();
    let answer: Answer = Ok(addresses(&[PUBLIC]).into());
    for number in 0..NAMES_MAX + 10 {
        names.make_room();
        names.note(format!("host-{number}.example"), &answer, Duration::from_secs(10));
        assert!(names.by_name.len() <= NAMES_MAX, "RESOLVER-2");
    }
}
