pub fn main() -> std::process::ExitCode {
    let mut args = std::env::args().skip(1);
    let (scenario, seed) = (args.next().unwrap(), args.next().unwrap().parse().unwrap());
    crate::determinism::fix_addresses();
    let plan = crate::plan::generate::generate(&scenario, seed).unwrap();
    let trace = crate::trace::Trace::new(std::env::var("LINES").is_ok());
    let outcome = crate::run::run(&plan, &trace).unwrap();
    for line in trace.take_lines() {
        println!("{:>8.3} {:<10} {}", line.at.as_secs_f64() * 1000.0, line.subject, line.text);
    }
    println!("{:?} {:x?} {:?} ops {}", outcome.fired, outcome.digest, outcome.simulated, outcome.entries.len());
    for violation in &outcome.violations {
        println!("{violation}");
    }
    std::process::ExitCode::from(u8::from(!outcome.violations.is_empty()))
}
