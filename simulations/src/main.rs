//! Entry point of `triggers-sim`; the program is `triggers_simulations::cli`.

fn main() -> std::process::ExitCode {
    triggers_simulations::cli::main()
}
