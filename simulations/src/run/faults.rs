//! Begins and ends the faults of a plan, and counts which of them fired.

use super::Simulation;
use crate::plan::{Behaviour, DAY, Fault, FaultKind};
use crate::world::HostId;
use crate::world::peers::MessageFaults;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;
use triggers_store::kv::simulated::SimulatedOptions;

/// The fault that ends.
pub(super) enum Recovery {
    /// The link from one host to another is cut.
    Link(HostId, HostId),
    Latency,
    PeerMessages,
    Conflicts,
    Unknown,
    Stalls,
    Outage,
    /// The node lacks descriptors.
    NodeLimit(HostId),
    /// The wall clock of this node, or of all, is ahead by so many milliseconds.
    ClockStep(Option<usize>, i64),
    /// The first receiver of this tenant is not healthy.
    Receiver(usize),
    HangUps(usize),
}

impl Simulation<'_> {
    /// Ends the faults that end by `now`.
    pub(super) fn end_faults(&mut self, now: Duration) {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.recoveries).into_iter().partition(|(at, _)| *at <= now);
        self.recoveries = later;
        for (_, recovery) in due {
            self.recover(recovery);
        }
    }

    fn recover(&mut self, recovery: Recovery) {
        match recovery {
            Recovery::Link(from, to) => self.world.network.set_cut(from, to, false),
            Recovery::Latency => self.world.network.set_steps_max(2),
            Recovery::PeerMessages => self.world.peers.set_faults(MessageFaults::default()),
            Recovery::Conflicts => self.change_store(|options| options.conflict_per_mille = 0),
            Recovery::Unknown => self.change_store(|options| set_unknown(options, 0, 0, 0)),
            Recovery::Stalls => self.change_store(|options| options.stall_per_mille = 0),
            Recovery::Outage => {
                let is_another =
                    self.recoveries.iter().any(|(_, other)| matches!(other, Recovery::Outage));
                self.world.engine.set_outage(is_another);
            }
            Recovery::NodeLimit(node) => self.world.network.set_exhausted(node, false),
            Recovery::HangUps(tenant) => self.behaviours.set_hang_ups(tenant, false),
            Recovery::ClockStep(node, by_ms) => self.step_clocks(node, -by_ms),
            Recovery::Receiver(tenant) => self.behaviours.set(tenant, Behaviour::Healthy),
        }
    }

    fn node(&self, number: usize) -> HostId {
        let nodes = self.world.nodes();
        nodes[number.min(nodes.len() - 1)]
    }

    fn count(&mut self, name: &'static str) {
        *self.fired.entry(name).or_default() += 1;
    }

    fn recover_after(&mut self, for_ms: u64, recovery: Recovery) {
        self.recoveries.push((self.world.now() + Duration::from_millis(for_ms), recovery));
    }

    pub(super) fn begin_fault(&mut self, fault: &Fault) {
        let now = self.world.now();
        self.world.trace.note(now, "fault", format_args!("{:?}", fault.kind));
        match fault.kind {
            FaultKind::Kill { node, back_after_ms } => self.kill(node, false, back_after_ms),
            FaultKind::PowerLoss { node, back_after_ms } => self.kill(node, true, back_after_ms),
            FaultKind::Freeze { node, for_ms } => {
                self.count("freeze");
                self.world.freeze(self.node(node), now + Duration::from_millis(for_ms));
            }
            FaultKind::Restart { node } => {
                self.count("restart");
                self.world.stop(self.node(node), true);
            }
            FaultKind::ScaleIn { node } => self.scale_in(node),
            FaultKind::ScaleOut {} => {
                self.count("scale out");
                self.world.add_node();
            }
            FaultKind::Partition { node, for_ms, is_one_way } => {
                self.partition(node, for_ms, is_one_way);
            }
            FaultKind::Unreachable { node, for_ms } => self.make_unreachable(node, for_ms),
            FaultKind::NodeLimit { node, for_ms } => {
                self.count("node limit");
                let node = self.node(node);
                self.world.network.set_exhausted(node, true);
                self.recover_after(for_ms, Recovery::NodeLimit(node));
            }
            FaultKind::SlowNetwork { steps_max, for_ms } => {
                self.count("slow network");
                self.world.network.set_steps_max(steps_max);
                self.recover_after(for_ms, Recovery::Latency);
            }
            FaultKind::PeerMessages { dropped, duplicated, delayed, for_ms } => {
                self.world.peers.set_faults(MessageFaults { dropped, duplicated, delayed });
                self.recover_after(for_ms, Recovery::PeerMessages);
            }
            FaultKind::ClockJump { node, by_ms } => {
                self.count("clock jump");
                self.world.skew(self.node(node)).fetch_add(by_ms, Ordering::SeqCst);
            }
            FaultKind::ClockStep { node, by_ms, for_ms } => {
                self.count(match (by_ms < 0, for_ms) {
                    (true, _) => "clock back",
                    (false, None) => "clock ahead",
                    (false, Some(_)) => "clock far ahead",
                });
                self.step_clocks(node, by_ms);
                if let Some(for_ms) = for_ms {
                    self.recover_after(for_ms, Recovery::ClockStep(node, by_ms));
                }
            }
            FaultKind::DayPasses {} => self.pass_a_day(),
            FaultKind::Receiver { tenant, behaviour, for_ms } => {
                self.count(match behaviour {
                    Behaviour::Healthy => "receiver healthy",
                    Behaviour::Failing => "receiver failing",
                    Behaviour::Silent => "receiver silent",
                    Behaviour::Slow => "receiver slow",
                    Behaviour::Flapping => "receiver flapping",
                    Behaviour::Aborting => "receiver aborting",
                });
                self.behaviours.set(tenant, behaviour);
                self.recover_after(for_ms, Recovery::Receiver(tenant));
            }
            FaultKind::HangUps { tenant, for_ms } => {
                self.count("receiver hangs up");
                self.behaviours.set_hang_ups(tenant, true);
                self.recover_after(for_ms, Recovery::HangUps(tenant));
            }
            FaultKind::Outage { for_ms } => {
                self.world.engine.set_outage(true);
                self.recover_after(for_ms, Recovery::Outage);
            }
            FaultKind::Conflicts { per_mille, for_ms } => {
                self.change_store(|options| options.conflict_per_mille = per_mille);
                self.recover_after(for_ms, Recovery::Conflicts);
            }
            FaultKind::Unknown { committed, not_committed, late, for_ms } => {
                self.change_store(|options| set_unknown(options, committed, not_committed, late));
                self.recover_after(for_ms, Recovery::Unknown);
            }
            FaultKind::Stalls { per_mille, stall_ms, for_ms } => {
                self.change_store(|options| {
                    (options.stall_per_mille, options.stall_ms) = (per_mille, stall_ms);
                });
                self.recover_after(for_ms, Recovery::Stalls);
            }
        }
    }

    fn kill(&mut self, node: usize, is_power_lost: bool, back_after_ms: u64) {
        self.count(if is_power_lost { "power loss" } else { "kill" });
        let restart_after = Duration::from_millis(back_after_ms);
        self.world.kill(self.node(node), is_power_lost, Some(restart_after));
    }

    fn scale_in(&mut self, node: usize) {
        // Two nodes stay.
        if self.world.nodes().iter().filter(|node| self.world.is_up(**node)).count() > 2 {
            self.count("scale in");
            self.world.stop(self.node(node), false);
        }
    }

    fn make_unreachable(&mut self, node: usize, for_ms: u64) {
        self.count("unreachable");
        let (node, outside) = (self.node(node), self.outside);
        self.cut(outside, node, for_ms);
        self.cut(node, outside, for_ms);
    }

    fn partition(&mut self, node: usize, for_ms: u64, is_one_way: bool) {
        self.count(if is_one_way { "partition one way" } else { "partition" });
        let node = self.node(node);
        for other in self.world.nodes().into_iter().filter(|other| *other != node) {
            self.cut(other, node, for_ms);
            if !is_one_way {
                self.cut(node, other, for_ms);
            }
        }
    }

    fn cut(&mut self, from: HostId, to: HostId, for_ms: u64) {
        self.world.network.set_cut(from, to, true);
        self.recover_after(for_ms, Recovery::Link(from, to));
    }

    fn pass_a_day(&mut self) {
        self.count("day passes");
        let day_ms = i64::try_from(DAY.as_millis()).unwrap_or(i64::MAX);
        for node in self.world.nodes() {
            self.world.skew(node).fetch_add(day_ms, Ordering::SeqCst);
        }
    }

    fn step_clocks(&mut self, node: Option<usize>, by_ms: i64) {
        let nodes = node.map_or_else(|| self.world.nodes(), |number| vec![self.node(number)]);
        for node in nodes {
            self.world.skew(node).fetch_add(by_ms, Ordering::SeqCst);
            *self.stepped_ms.entry(node).or_default() += by_ms;
        }
    }

    fn change_store(&self, change: impl FnOnce(&mut SimulatedOptions)) {
        let mut options = self.world.engine.options();
        change(&mut options);
        self.world.engine.set_options(options);
    }

    /// How often each kind of fault fired; kinds that did not fire are left out.
    pub(super) fn fired(&self) -> BTreeMap<&'static str, u64> {
        let store = self.world.engine.faults_fired();
        let operations = self.plan.operations.iter();
        let disconnects =
            operations.filter(|operation| operation.disconnects_after_ms.is_some()).count();
        let history = self.history.lock();
        let answered = |status: u16| {
            history.calls.iter().filter(|record| record.status == Some(status)).count() as u64
        };
        let skewed = self.plan.skew_ms.iter().filter(|skew| **skew != 0).count();
        let mut fired = self.fired.clone();
        fired.extend(self.world.peers.fired());
        fired.extend([
            ("conflict", store.conflicts),
            ("unknown, committed", store.unknown_committed),
            ("unknown, not committed", store.unknown_not_committed),
            ("late commit applied", store.late_applied),
            ("late commit dropped", store.late_dropped),
            ("store stall", store.stalls),
            ("store outage", store.outage_rejections),
            ("clock skew", skewed as u64),
            ("client gives up", disconnects as u64),
            ("quota full", answered(429)),
            ("key revoked", answered(401)),
        ]);
        fired.retain(|_, count| *count > 0);
        fired
    }
}

fn set_unknown(options: &mut SimulatedOptions, committed: u32, not_committed: u32, late: u32) {
    options.unknown_committed_per_mille = committed;
    options.unknown_not_committed_per_mille = not_committed;
    options.late_commit_per_mille = late;
}
