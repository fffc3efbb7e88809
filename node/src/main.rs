//! The binary `triggers`: reads the command line, runs the command, ends with its exit code.
//!
//! Everything else is in the library, so that tests and simulations can run it: the commands in `cli`, a node's start and
//! stop in `bootstrap`. Invariant: the exit codes are those of `cli::exit`, which the help documents.
//!
//! It installs no signal handler and no logger: the commands that need them do.

/// Requests are taken by one thread and freed by another, which fragments the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::process::ExitCode;

use clap::Parser as _;
use triggers_node::cli::{self, CommandLine};

fn main() -> ExitCode {
    // Whole huge pages are cleared at once, in the middle of a request, for memory of which a table then uses a part.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    cli::execute(CommandLine::parse())
}
