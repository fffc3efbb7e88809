//! Makes a failing plan smaller: fewer faults, then fewer operations, then fewer nodes and tenants.

use super::arguments::ShrinkArguments;
use super::{RunSpec, child, report};
use crate::plan::Plan;
use crate::shrink::minimize;
use std::path::{Path, PathBuf};

pub(super) fn shrink(arguments: &ShrinkArguments) -> Result<bool, String> {
    let mut plan = arguments.spec.plan()?;
    let mut tries = Tries {
        file: arguments.output.with_extension("try.json"),
        bug: arguments.spec.bug.clone(),
        rule: String::new(),
        error: None,
    };
    let Some(rule) = tries.broken_rule(&plan)? else {
        report::print(format_args!("the plan does not fail: there is nothing to shrink"));
        return Ok(true);
    };
    tries.rule = rule;
    let mut budget = arguments.runs_max;
    let before = (plan.faults.len(), plan.operations.len());
    let full = plan.clone();
    plan.faults = minimize(
        full.faults.clone(),
        &mut |faults| tries.fails(&Plan { faults: faults.to_vec(), ..full.clone() }),
        &mut budget,
    );
    let full = plan.clone();
    plan.operations = minimize(
        full.operations.clone(),
        &mut |operations| tries.fails(&Plan { operations: operations.to_vec(), ..full.clone() }),
        &mut budget,
    );
    shrink_cluster(&mut plan, &mut tries, &mut budget);
    // A leftover file of the last try does no harm.
    let _ = std::fs::remove_file(&tries.file);
    if let Some(error) = tries.error {
        return Err(error);
    }
    write(&arguments.output, &plan)?;
    report::print(format_args!(
        "{} is still broken by {} of {} faults and {} of {} operations, {} nodes, {} tenants",
        tries.rule,
        plan.faults.len(),
        before.0,
        plan.operations.len(),
        before.1,
        plan.nodes,
        plan.tenants
    ));
    for fault in &plan.faults {
        report::print(format_args!("  {:>6} ms  {:?}", fault.at_ms, fault.kind));
    }
    for operation in &plan.operations {
        let (tenant, node) = (operation.tenant, operation.node + 1);
        report::print(format_args!(
            "  {:>6} ms  t-{tenant} at node {node}: {:?}",
            operation.at_ms, operation.kind
        ));
    }
    let spec = RunSpec { plan_file: Some(arguments.output.clone()), ..arguments.spec.clone() };
    report::print(format_args!("{}", report::repeat_command(&spec)));
    Ok(false)
}

/// Removes nodes, then the tenants that no operation uses.
fn shrink_cluster(plan: &mut Plan, tries: &mut Tries, budget: &mut usize) {
    while plan.nodes > 1 && *budget > 0 {
        *budget -= 1;
        let fewer = Plan { nodes: plan.nodes - 1, ..plan.clone() };
        if !tries.fails(&fewer) {
            break;
        }
        *plan = fewer;
    }
    let used = plan.operations.iter().map(|operation| operation.tenant + 1).max().unwrap_or(1);
    if plan.subscribed_tenants == 0 || used <= plan.tenants - plan.subscribed_tenants {
        let fewer = Plan { tenants: used, subscribed_tenants: 0, ..plan.clone() };
        if *budget > 0 && tries.fails(&fewer) {
            *plan = fewer;
        }
    }
}

struct Tries {
    /// The plan file of the current try.
    file: PathBuf,
    bug: Option<String>,
    /// The rule that a smaller plan must break as well.
    rule: String,
    /// The last error that kept a plan from running.
    error: Option<String>,
}

impl Tries {
    /// Runs a plan; the first rule that it breaks.
    fn broken_rule(&self, plan: &Plan) -> Result<Option<String>, String> {
        write(&self.file, plan)?;
        let spec = RunSpec {
            scenario: plan.scenario.clone(),
            seed: plan.seed,
            plan_file: Some(self.file.clone()),
            bug: self.bug.clone(),
        };
        let report = child::run_to_end(&spec)?;
        Ok(report.violations.into_iter().next().map(|violation| violation.rule))
    }

    fn fails(&mut self, plan: &Plan) -> bool {
        match self.broken_rule(plan) {
            Ok(rule) => rule.as_ref() == Some(&self.rule),
            Err(error) => {
                self.error = Some(error);
                false
            }
        }
    }
}

fn write(file: &Path, plan: &Plan) -> Result<(), String> {
    let text = serde_json::to_string_pretty(plan).map_err(|error| error.to_string())?;
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}
