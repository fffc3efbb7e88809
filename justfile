# The commands of this project; `just` lists them. `.ci/run` installs what they need and runs the
# recipes that must pass before a change lands.

set shell := ["bash", "-euo", "pipefail", "-c"]

# List the recipes.
default:
    @just --list --unsorted

# Format the sources.
fmt:
    cargo fmt --all

# Check that the sources are formatted.
fmt-check:
    cargo fmt --all --check

# Run the lints, also with the code that only the feature `foundationdb` compiles.
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo clippy --workspace --all-targets --features foundationdb --locked -- -D warnings

# Run all tests, or those whose name contains a text: `just test lease`.
test *filter:
    cargo test --workspace --locked -- {{ filter }}

# Run the simulator: `just sim run --scenario chaos --seed 7`. By default, sweep a thousand seeds.
sim *arguments="sweep --seeds 0..1000":
    cargo run --release -p triggers-simulations --locked -- {{ arguments }}

# Check the simulator: it must find every planted bug, and the same seed must give the same run.
sim-check:
    cargo clippy -p triggers-simulations --all-targets --features planted-bugs -- -D warnings
    cargo test -p triggers-simulations --features planted-bugs --locked
    cargo run -p triggers-simulations --features planted-bugs --locked -- ci

# Run the micro benchmarks, or one crate's: `just bench -p triggers-store`.
bench *arguments="--workspace":
    cargo bench --locked {{ arguments }}

# Measure a fresh node against a bare HTTP handler on this machine.
load rounds="3" seconds="5":
    ops/load/compare.sh {{ rounds }} {{ seconds }}

# Fuzz one target of simulations/fuzz for some seconds. Needs cargo-fuzz and a nightly toolchain.
fuzz target seconds="60":
    cargo +nightly fuzz run --fuzz-dir simulations/fuzz {{ target }} -- \
        -max_total_time={{ seconds }}

# Compile the fuzz targets with the stable toolchain and the versions of the workspace.
fuzz-check:
    cp Cargo.lock simulations/fuzz/Cargo.lock
    cargo check --manifest-path simulations/fuzz/Cargo.toml --no-default-features \
        --target-dir target

# Build the documentation of the crates.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

# Check licences, sources and bans of the dependencies.
deny:
    cargo deny check --hide-inclusion-graph licenses sources bans

# Check the dependencies for known vulnerabilities. Fetches the advisory database.
advisories:
    cargo deny check advisories

# Run everything that must pass before a change lands.
ci:
    .ci/run
