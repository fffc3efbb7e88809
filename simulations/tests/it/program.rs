//! Tests of the program `triggers-sim`, run as a user runs it.
//!
//! `PROGRAM-1`: a seed, and its plan file, give the same trace each time. `PROGRAM-2`: seeds over
//! all scenarios find no violation. `PROGRAM-3`: a wrong command line is rejected with its reason.
//! `PROGRAM-4`: every planted bug is found, and a failing plan is made smaller (in builds with
//! bugs).

use std::path::Path;
use std::process::{Command, Output};

fn sim(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_triggers-sim"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_seed_and_its_plan_file_give_the_same_trace_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| stdout(&sim(directory.path(), arguments));
    let seed = ["--scenario", "flapping-node", "--seed", "26"];
    let first = run(&[&["run", "--trace"][..], &seed].concat());
    assert!(first.lines().count() > 200, "{first}");
    assert!(first == run(&[&["run", "--trace"][..], &seed].concat()), "PROGRAM-1");

    std::fs::write(directory.path().join("plan.json"), run(&[&["plan"][..], &seed].concat()))
        .unwrap();
    assert!(first == run(&["run", "--trace", "--plan", "plan.json"]), "PROGRAM-1");
    // The digest does not depend on whether the trace is kept.
    let json = |text: String| {
        serde_json::from_str::<serde_json::Value>(text.lines().last().unwrap()).unwrap()
    };
    let short = json(run(&["run", "--format", "json", "--plan", "plan.json"]));
    assert!(first.contains(short["trace"].as_str().unwrap()), "{short}");
}

#[test]
fn seeds_over_all_scenarios_find_no_violation() {
    let output = sim(Path::new("."), &["sweep", "--seeds", "0..20"]);
    assert!(output.status.success(), "PROGRAM-2:\n{}", stdout(&output));
    assert!(stdout(&output).starts_with("20 runs with "), "{}", stdout(&output));
}

#[test]
fn a_wrong_command_line_is_rejected() {
    for (arguments, reason) in [
        (&["run", "--scenario", "none"][..], "there is no scenario \"none\""),
        (&["run", "--plan", "/does/not/exist"], "/does/not/exist"),
        (&["run", "--bug", "none"], "bug"),
        #[cfg(not(feature = "planted-bugs"))]
        (&["bugs"], "this build has no bugs to plant"),
        (&["sweep", "--seeds", "5..5"], "must be like 0..1000"),
        (&["fly"], "unknown command"),
    ] {
        let output = sim(Path::new("."), arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2) && error.contains(reason),
            "PROGRAM-3: {arguments:?}: {error}"
        );
    }
}

#[cfg(feature = "planted-bugs")]
#[test]
fn every_planted_bug_is_found() {
    let output = sim(Path::new("."), &["bugs", "--seeds", "300"]);
    assert!(output.status.success(), "PROGRAM-4:\n{}", stdout(&output));
}

#[cfg(feature = "planted-bugs")]
#[test]
fn a_failing_plan_is_made_smaller() {
    let directory = tempfile::tempdir().unwrap();
    let bug = ["--bug", "tombstone-not-written"];
    let arguments =
        [&["shrink", "--scenario", "burst", "--seed", "1", "--runs-max", "150"][..], &bug].concat();
    let output = sim(directory.path(), &arguments);
    assert_eq!(output.status.code(), Some(1), "PROGRAM-4: {}", stdout(&output));
    let plan = std::fs::read_to_string(directory.path().join("plan.json")).unwrap();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let length = |list: &str| plan[list].as_array().unwrap().len();
    assert!(length("faults") == 0 && length("operations") <= 3, "PROGRAM-4: {}", stdout(&output));
    let again = sim(directory.path(), &[&["run", "--plan", "plan.json"][..], &bug].concat());
    assert_eq!(again.status.code(), Some(1), "PROGRAM-4: {}", stdout(&again));
}
