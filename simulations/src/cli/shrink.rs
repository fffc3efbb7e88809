//! Makes a failing plan smaller: first without faults, then without operations, then nodes and tenants.

use super::{ShrinkArguments, Which, child, report};
use crate::plan::Plan;
use crate::shrink::minimize;
use std::path::{Path, PathBuf};

pub(super) fn shrink(arguments: &ShrinkArguments) -> Result<bool, String> {
    let mut plan = arguments.which.plan()?;
    let mut tries = Tries {
        file: arguments.output.with_extension("try.json"),
        bug: arguments.which.bug.clone(),
        rule: String::new(),
    };
    let Some(rule) = tries.rule_of(&plan)? else {
        report::say(format_args!("nothing was found: there is nothing to shrink"));
        return Ok(true);
    };
    tries.rule = rule;
    let mut budget = arguments.runs_max;
    let before = (plan.faults.len(), plan.operations.len());
    let mut broken = None;
    let whole = plan.clone();
    plan.faults = minimize(
        whole.faults.clone(),
        &mut |faults| tries.fails(&Plan { faults: faults.to_vec(), ..whole.clone() }, &mut broken),
        &mut budget,
    );
    let whole = plan.clone();
    plan.operations = minimize(
        whole.operations.clone(),
        &mut |operations| {
            tries.fails(&Plan { operations: operations.to_vec(), ..whole.clone() }, &mut broken)
        },
        &mut budget,
    );
    smaller_world(&mut plan, &tries, &mut broken, &mut budget);
    // Nobody needs the last try; one that cannot be removed is in nobody's way.
    let _ = std::fs::remove_file(&tries.file);
    if let Some(error) = broken {
        return Err(error);
    }
    write(&arguments.output, &plan)?;
    let after = (plan.faults.len(), plan.operations.len());
    report::say(format_args!(
        "{} is still broken by {} of {} faults and {} of {} operations, {} nodes, {} tenants",
        tries.rule, after.0, before.0, after.1, before.1, plan.nodes, plan.tenants
    ));
    for fault in &plan.faults {
        report::say(format_args!("  {:>6} ms  {:?}", fault.at_ms, fault.kind));
    }
    for operation in &plan.operations {
        let (tenant, node) = (operation.tenant, operation.node + 1);
        report::say(format_args!(
            "  {:>6} ms  t-{tenant} at node {node}: {:?}",
            operation.at_ms, operation.kind
        ));
    }
    let which = Which { plan: Some(arguments.output.clone()), ..arguments.which.clone() };
    report::say(format_args!("{}", report::again(&which, "run")));
    Ok(false)
}

/// Fewer nodes, then only the tenants that are used.
fn smaller_world(plan: &mut Plan, tries: &Tries, broken: &mut Option<String>, budget: &mut usize) {
    while plan.nodes > 1 && *budget > 0 {
        *budget -= 1;
        let fewer = Plan { nodes: plan.nodes - 1, ..plan.clone() };
        if !tries.fails(&fewer, broken) {
            break;
        }
        *plan = fewer;
    }
    let used = plan.operations.iter().map(|operation| operation.tenant + 1).max().unwrap_or(1);
    if plan.pushed == 0 || used <= plan.tenants - plan.pushed {
        let fewer = Plan { tenants: used, pushed: 0, ..plan.clone() };
        if *budget > 0 && tries.fails(&fewer, broken) {
            *plan = fewer;
        }
    }
}

struct Tries {
    file: PathBuf,
    bug: Option<String>,
    /// What has to be found again.
    rule: String,
}

impl Tries {
    fn rule_of(&self, plan: &Plan) -> Result<Option<String>, String> {
        write(&self.file, plan)?;
        let which = Which {
            scenario: plan.scenario.clone(),
            seed: plan.seed,
            plan: Some(self.file.clone()),
            bug: self.bug.clone(),
        };
        Ok(child::whole(&which)?.violations.into_iter().next().map(|violation| violation.rule))
    }

    fn fails(&self, plan: &Plan, broken: &mut Option<String>) -> bool {
        match self.rule_of(plan) {
            Ok(rule) => rule.as_ref() == Some(&self.rule),
            Err(error) => {
                *broken = Some(error);
                false
            }
        }
    }
}

fn write(file: &Path, plan: &Plan) -> Result<(), String> {
    let text = serde_json::to_string_pretty(plan).map_err(|error| error.to_string())?;
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}
