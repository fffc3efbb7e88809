//! The program `triggers-sim`: see `triggers_simulations::cli`.

fn main() -> std::process::ExitCode {
    triggers_simulations::cli::main()
}
