//! The command line as a whole: its definition is sound, documented lines parse, and wrong ones are
//! rejected.
//!
//! No command runs here.

use super::*;
use clap::error::ErrorKind;

fn parse(line: &str) -> Result<CommandLine, clap::Error> {
    CommandLine::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definition_is_sound() {
    CommandLine::command().debug_assert();
}

#[test]
fn documented_lines_parse() {
    for line in [
        "triggers dev",
        "triggers dev --listen 127.0.0.1:9000 --data-dir /tmp/try --admin-listen 127.0.0.1:0 \
         --log-format json",
        "triggers serve --config single.toml --set listen.address=0.0.0.0:8080 --set \
         log.format=json",
        "triggers config check --config a.toml",
        "triggers config default",
        "triggers openapi",
        "triggers completions bash",
        "triggers events send --type order.created --payload {} --idempotency-key k --url \
         http://h --key k",
        "triggers events send --type order.created -",
        "triggers events --json list --status failed --type order.* --type a --limit 200 --all",
        "triggers events show 1",
        "triggers events status 1",
        "triggers events ack 1 2 3",
        "triggers events replay 1 2",
        "triggers events replay --status failed --type order.* --from 2026-01-01T00:00:00Z --to \
         2026-01-02T00:00:00Z",
        "triggers events delete 1",
        "triggers events tail --type order.* --json",
        "triggers subscriptions create --target-url https://h/ --type order.* --type a \
         --retry-delays 10,60,300",
        "triggers subscriptions create --target-url u --description d --scheme hmac-sha256 \
         --secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw \
         --max-in-flight 2",
        "triggers subscriptions create --target-url https://h/ --scheme hmac-sha256 --url \
         http://h --key k --json",
        "triggers subscriptions list",
        "triggers subscriptions show 1",
        "triggers subscriptions update 1 --target-url https://h/ --type * --default-retries",
        "triggers subscriptions update 1 --description d --max-in-flight 2 --retry-delays none",
        "triggers subscriptions enable 1",
        "triggers subscriptions disable 1",
        "triggers subscriptions delete 1",
        "triggers subscriptions rotate 1 --grace-seconds 60 \
         --secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "triggers subscriptions test 1",
        "triggers subscriptions attempts 1 --limit 200 --cursor c",
        "triggers cluster certs --out d --node node-1,node-2 --node node-3 --host 10.0.0.1 --host \
         h.example --days 1",
        "triggers cluster certs --out d --node a --ca-days 36500 --force",
        "triggers cluster status --admin-url http://h:9090 --partitions --json",
        "triggers cluster drain --admin-url http://h:9090 --wait --timeout 3600",
        "triggers listen --port 9000 --bind ::1 --type order.* --answer 503 --json",
        "triggers listen --no-subscribe --verify whsec_x",
        "triggers keys create --name n --tenant t --scope events:write --scope inbox:read \
         --rate-limit-per-minute 60000",
        "triggers keys list",
        "triggers keys generate --test",
        "triggers keys rotate 1 --grace-seconds 60",
        "triggers keys revoke 1",
        "triggers tenants create --name n --id i --tier beta --retention-days 30 \
         --max-inbox-events 5",
        "triggers tenants list",
        "triggers tenants update i --name m",
        "triggers bench --mode mixed --connections 10000 --duration 86400 --rate 0 --warmup 0 \
         --json",
        "triggers bench --mode baseline --baseline-of read",
        "triggers bench --mode consume --backlog 10000000 --lease-limit 1 --ack single",
        "triggers bench --mode push --rate 2000 --receivers 1000 --max-in-flight 1000",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn bounds_are_enforced() {
    for line in [
        "triggers bench --connections 0",
        "triggers bench --connections 10001",
        "triggers bench --duration 0",
        "triggers bench --duration 86401",
        "triggers bench --mode other",
        "triggers bench --mode consume --lease-limit 201",
        "triggers bench --mode consume --ack all",
        "triggers bench --mode push --receivers 0",
        "triggers events list --limit 201",
        "triggers events send --type a --payload {} -",
        "triggers events replay",
        "triggers events replay 1 --status failed",
        "triggers events replay 1 --type a",
        "triggers events replay --status received",
        "triggers subscriptions create",
        "triggers subscriptions create --target-url https://h/ --retry-delays 1,x",
        "triggers subscriptions create --target-url https://h/ --scheme rsa",
        "triggers subscriptions update 1 --retry-delays 1 --default-retries",
        "triggers subscriptions attempts 1 --limit 201",
        "triggers cluster certs --out d",
        "triggers cluster certs --node a",
        "triggers cluster certs --out d --node A",
        "triggers cluster certs --out d --node ../a",
        "triggers cluster certs --out d --node 1a",
        "triggers cluster certs --out d --node a-",
        "triggers cluster certs --out d --node ca",
        "triggers cluster certs --out d --node a-key",
        "triggers cluster certs --out d --node a,,b",
        "triggers cluster certs --out d --node a --host http://h",
        "triggers cluster certs --out d --node a --days 0",
        "triggers cluster certs --out d --node a --ca-days 36501",
        "triggers cluster drain --timeout 5",
        "triggers cluster drain --wait --timeout 0",
        "triggers listen --answer 199",
        "triggers listen --verify whsec_x",
        "triggers listen --no-subscribe --type a",
        "triggers serve --set listen.address",
        "triggers tenants create --name n --retention-days 366",
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(exit::USAGE), "{line}");
    }
}

#[test]
fn the_address_of_the_node_is_not_the_target() {
    let line = "triggers subscriptions create --target-url https://target --url http://node";
    let Command::Subscriptions(arguments) = parse(line).unwrap().command else { panic!("{line}") };
    assert_eq!(arguments.connection.url.as_deref(), Some("http://node"));
}

#[test]
fn the_help_documents_the_exit_codes() {
    let help = parse("triggers --help").unwrap_err();
    assert_eq!(help.kind(), ErrorKind::DisplayHelp);
    let text = help.to_string();
    for code in ["0  ", "1  ", "2  ", "3  ", "4  ", "5  "] {
        assert!(text.contains(&format!("\n  {code}")), "{code}: {text}");
    }
}
