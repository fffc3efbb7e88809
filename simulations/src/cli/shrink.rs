//! Makes a failing plan smaller: fewer faults, then fewer operations, then fewer nodes and tenants.

use super::arguments::ShrinkArguments;
use super::{RunSpec, child, report};
use crate::plan::{Fault, Operation, Plan};
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
        println!("the plan does not fail: there is nothing to shrink");
        return Ok(true);
    };
    tries.rule = rule;
    let mut budget = arguments.runs_max;
    let (faults_before, operations_before) = (plan.faults.len(), plan.operations.len());
    let full = plan.clone();
    let mut fails = |faults: &[_]| tries.fails(&Plan { faults: faults.to_vec(), ..full.clone() });
    plan.faults = minimize(full.faults.clone(), &mut fails, &mut budget);
    let full = plan.clone();
    let mut fails =
        |operations: &[_]| tries.fails(&Plan { operations: operations.to_vec(), ..full.clone() });
    plan.operations = minimize(full.operations.clone(), &mut fails, &mut budget);
    shrink_cluster(&mut plan, &mut tries, &mut budget);
    // A leftover file of the last try does no harm.
    let _ = std::fs::remove_file(&tries.file);
    if let Some(error) = tries.error {
        return Err(error);
    }
    write(&arguments.output, &plan)?;
    let Plan { nodes, tenants, faults, operations, .. } = &plan;
    println!(
        "{} is still broken by {} of {faults_before} faults and {} of {operations_before} \
         operations, {nodes} nodes, {tenants} tenants",
        tries.rule,
        faults.len(),
        operations.len(),
    );
    for Fault { at_ms, kind } in faults {
        println!("  {at_ms:>6} ms  {kind:?}");
    }
    for Operation { at_ms, tenant, node, kind, .. } in operations {
        println!("  {at_ms:>6} ms  t-{tenant} at node {}: {kind:?}", node + 1);
    }
    let spec = RunSpec { plan_file: Some(arguments.output.clone()), ..arguments.spec.clone() };
    println!("{}", report::repeat_command(&spec));
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
