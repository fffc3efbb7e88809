//! `triggers listen`: receives, checks and prints webhooks until Ctrl-C.
//!
//! ```text
//! run ── creates and deletes ──▶ Temporary (a subscription at the node)
//!     ◀── webhooks ───────────── Receiver  (HTTP, in this process)
//! ```
//! - LISTEN-1: the port is open before the subscription is created. No request is answered before
//!   the key is known.
//! - LISTEN-2: the subscription is deleted at the end, also when stdout is closed, or an error says
//!   that it was not.
//! - LISTEN-3: a webhook that was answered with the requested status is printed, also after Ctrl-C.
//!
//! The command stores nothing. An event whose webhook it answers with 2xx has left the inbox.

use super::connection::{ConnectionArguments, Role};
use super::exit::{CommandError, CommandResult};
use super::output;
use axum::http::StatusCode;
use clap::Args;
use receiver::Receiver;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use temporary::Temporary;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use triggers_protocol::EventTypePattern;
use triggers_protocol::webhook::VerifyingKey;

mod receiver;
mod report;
mod temporary;

/// Arguments of `triggers listen`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  triggers listen
  triggers listen --type 'order.*' --json | jq .event.payload
  triggers listen --answer 503
      see how the node tries again
  triggers listen --port 9000 --no-subscribe --verify whsec_…
      check the webhooks of a subscription that points here already

A webhook with a bad signature is answered 400, every other one as --answer says. Events answered \
2xx count as \
delivered and leave the inbox. The node must be allowed to call this address over http; its \
options \
delivery.is_https_required and delivery.allowed_targets say so.")]
pub struct ListenArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// Port to listen on; 0 is one that is free
    #[arg(long, value_name = "N", default_value_t = 0)]
    port: u16,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// Only events of this type, exact or such as 'order.*'; repeatable [default: everything]
    #[arg(long = "type", value_name = "PATTERN", conflicts_with = "no_subscribe",
        value_parser = EventTypePattern::parse)]
    event_types: Vec<EventTypePattern>,
    /// Key to check signatures with, whsec_… or whpk_…; otherwise it is that of the subscription
    /// made here
    #[arg(long, value_name = "KEY", requires = "no_subscribe")]
    verify: Option<String>,
    /// HTTP status to answer with
    #[arg(long, value_name = "STATUS", default_value = "200", value_parser = status)]
    answer: StatusCode,
    /// Make no subscription; needs no API key
    #[arg(long)]
    no_subscribe: bool,
}

/// The signals that end the command, watched from its start, so that none interrupts it before the
/// subscription is deleted.
#[derive(Debug)]
struct Stop([Signal; 4]);

impl Stop {
    fn watch() -> Result<Self, CommandError> {
        let watched = |kind| {
            signal(kind).map_err(|error| {
                CommandError::Failed(format!("cannot watch for the end by Ctrl-C: {error}"))
            })
        };
        Ok(Self([
            watched(SignalKind::interrupt())?,
            watched(SignalKind::terminate())?,
            // The terminal or the connection to it was closed.
            watched(SignalKind::hangup())?,
            watched(SignalKind::quit())?,
        ]))
    }

    async fn requested(&mut self) {
        let Self([interrupt, terminate, hangup, quit]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
    }
}

/// Receives and prints webhooks until a signal.
///
/// # Errors
/// Why the port cannot be opened, the node's error, or why it cannot be reached.
pub async fn run(arguments: ListenArguments) -> CommandResult {
    let mut stop = Stop::watch()?;
    let given = arguments.verify.as_deref().map(VerifyingKey::parse).transpose();
    let given =
        given.map_err(|error| CommandError::Usage(format!("the key of --verify {error}")))?;
    let client = match arguments.no_subscribe {
        true => None,
        false => Some(arguments.connection.client(Role::Tenant)?),
    };
    let (listener, url) = open(SocketAddr::new(arguments.bind, arguments.port)).await?;
    output::note(&format!("listening on {url}; Ctrl-C ends"));
    let (temporary, key) = match client {
        Some(client) => {
            let (temporary, key) =
                Temporary::make(client, &url, arguments.event_types.clone()).await?;
            let id = temporary.id();
            output::note(&format!("subscription {id} points here; it is deleted at the end"));
            (Some(temporary), Some(key))
        }
        None => (None, given),
    };
    if key.is_none() {
        output::note("signatures are not checked: give --verify");
    }
    let receiver = Receiver::start(listener, key, arguments.answer);
    let printed = print(receiver, &mut stop, arguments.connection.json).await;
    match temporary {
        Some(temporary) => end(&temporary, &mut stop).await.and(printed),
        None => printed,
    }
}

/// Opens the port. Returns the listener and the URL that reaches it from this machine.
async fn open(address: SocketAddr) -> Result<(TcpListener, String), CommandError> {
    let failed = |error: std::io::Error| {
        CommandError::Failed(format!("cannot listen on {address}: {error}"))
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let opened = listener.local_addr().map_err(failed)?;
    Ok((listener, url(opened)))
}

fn url(opened: SocketAddr) -> String {
    let ip = match opened.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}/", SocketAddr::new(ip, opened.port()))
}

/// Prints webhooks until a signal, and then those received before it.
async fn print(mut receiver: Receiver, stop: &mut Stop, json: bool) -> CommandResult {
    loop {
        tokio::select! {
            () = stop.requested() => break,
            Some(webhook) = receiver.next() => report::print(&webhook, json)?,
        }
    }
    receiver.stop();
    while let Some(webhook) = receiver.next().await {
        report::print(&webhook, json)?;
    }
    Ok(())
}

/// Deletes the subscription. A second signal ends the wait.
async fn end(temporary: &Temporary, stop: &mut Stop) -> CommandResult {
    tokio::select! {
        deleted = temporary.delete() => deleted,
        () = stop.requested() => Err(temporary.left("a second signal came")),
    }
}

fn status(text: &str) -> Result<StatusCode, String> {
    let number = text.parse::<u16>().ok().filter(|number| (200..=599).contains(number));
    let status = number.and_then(|number| StatusCode::from_u16(number).ok());
    status.ok_or_else(|| "must be an HTTP status from 200 to 599".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_one_that_can_be_called() {
        for (opened, expected) in [
            ("127.0.0.1:80", "http://127.0.0.1:80/"),
            ("0.0.0.0:8080", "http://127.0.0.1:8080/"),
            ("[::]:8080", "http://[::1]:8080/"),
            ("192.0.2.1:8080", "http://192.0.2.1:8080/"),
        ] {
            assert_eq!(url(opened.parse().unwrap()), expected);
        }
    }

    #[test]
    fn an_answer_is_a_final_status() {
        assert_eq!(status("503"), Ok(StatusCode::SERVICE_UNAVAILABLE));
        for bad in ["100", "199", "600", "", "ok", "-1"] {
            assert!(status(bad).is_err(), "{bad}");
        }
    }
}
