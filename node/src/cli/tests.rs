//! The command line as a whole: its definition is sound, what is documented parses, and what must be refused is.
//!
//! Bounds are tested through the parser, because that is where a person meets them; the exit code of a refusal is the
//! documented one.
//!
//! Nothing runs here; the commands have their own tests.

use clap::error::ErrorKind;

use super::*;

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
        "triggers dev --listen 127.0.0.1:9000 --data-dir /tmp/try --admin-listen 127.0.0.1:0 --log-format json",
        "triggers serve --config single.toml --set listen.address=0.0.0.0:8080 --set log.format=json",
        "triggers config check --config a.toml",
        "triggers config default",
        "triggers openapi",
        "triggers completions bash",
        "triggers events send --type order.created --payload {} --idempotency-key k --url http://h --key k",
        "triggers events send --type order.created -",
        "triggers events --json list --status failed --type order.* --type a --limit 200 --all",
        "triggers events show 1",
        "triggers events status 1",
        "triggers events ack 1 2 3",
        "triggers events delete 1",
        "triggers events tail --type order.* --json",
        "triggers keys create --name n --tenant t --scope events:write --scope inbox:read --rate-limit-per-minute 60000",
        "triggers keys list",
        "triggers keys generate --test",
        "triggers keys rotate 1 --grace-seconds 60",
        "triggers keys revoke 1",
        "triggers tenants create --name n --id i --tier beta --retention-days 30 --max-inbox-events 5",
        "triggers tenants list",
        "triggers tenants update i --name m",
        "triggers bench --mode mixed --connections 10000 --duration 86400 --rate 0 --warmup 0 --json",
        "triggers bench --mode ceiling --ceiling-of read",
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
        "triggers events list --limit 201",
        "triggers events send --type a --payload {} -",
        "triggers serve --set listen.address",
        "triggers tenants create --name n --retention-days 366",
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(exit::USAGE), "{line}");
    }
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
