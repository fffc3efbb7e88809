//! Checks whether a history of concurrent transactions is strictly serializable.
//!
//! Every transaction appends its id to the lists under some keys that it reads, so that a list
//! shows the order of its writers. Lists and reads determine the edges of the serialization graph:
//! write after write, read after write, write after read, and from each transaction to those that
//! began after it ended. The history is strictly serializable exactly if the graph has no cycle.
//! Values never come back, so engines that compare values find the same conflicts as others.

use std::collections::{BTreeMap, VecDeque};

pub type Id = u32;

/// A transaction that committed or may have.
#[derive(Debug, Clone)]
pub struct Record {
    pub id: Id,
    /// Position among all begins and ends, on one clock.
    pub began: u64,
    /// Like `began`; `None` while the outcome is unknown.
    pub ended: Option<u64>,
    /// Keys that were read, with the lists found there.
    pub reads: Vec<(usize, Vec<Id>)>,
    /// Keys to whose lists the id was appended; all of them were read.
    pub appended: Vec<usize>,
}

/// Checks a history against the final lists.
pub fn check(records: &[Record], lists: &[Vec<Id>]) -> Result<(), String> {
    let nodes: BTreeMap<Id, usize> = records.iter().enumerate().map(|(at, r)| (r.id, at)).collect();
    let written =
        |record: &Record| record.appended.iter().any(|key| lists[*key].contains(&record.id));
    let mut edges = vec![Vec::new(); records.len()];
    for list in lists {
        for id in list {
            nodes.get(id).ok_or(format!("{id} was written and never committed"))?;
        }
        for pair in list.windows(2) {
            edges[nodes[&pair[0]]].push(nodes[&pair[1]]);
        }
    }
    for (at, record) in records.iter().enumerate() {
        if record.ended.is_none() && !written(record) {
            continue;
        }
        for key in &record.appended {
            let times = lists[*key].iter().filter(|id| **id == record.id).count();
            if times != 1 {
                return Err(format!("{} is {times} times in list {key}", record.id));
            }
        }
        for (key, seen) in &record.reads {
            let list = &lists[*key];
            if !list.starts_with(seen) {
                return Err(format!(
                    "{} read {seen:?} of list {key}, which became {list:?}",
                    record.id
                ));
            }
            if let Some(writer) = seen.last() {
                edges[nodes[writer]].push(at);
            }
            match list.get(seen.len()) {
                Some(next) if *next != record.id => edges[at].push(nodes[next]),
                _ => {}
            }
        }
        for (later, other) in records.iter().enumerate() {
            if record.ended.is_some_and(|ended| ended < other.began) {
                edges[at].push(later);
            }
        }
    }
    acyclic(records, &edges)
}

/// Removes nodes without predecessors until none is left.
fn acyclic(records: &[Record], edges: &[Vec<usize>]) -> Result<(), String> {
    let mut incoming = vec![0; edges.len()];
    for to in edges.iter().flatten() {
        incoming[*to] += 1;
    }
    let mut free: VecDeque<usize> = (0..edges.len()).filter(|at| incoming[*at] == 0).collect();
    while let Some(at) = free.pop_front() {
        for to in &edges[at] {
            incoming[*to] -= 1;
            if incoming[*to] == 0 {
                free.push_back(*to);
            }
        }
    }
    let stuck: Vec<&Record> =
        (0..edges.len()).filter(|at| incoming[*at] > 0).map(|at| &records[at]).collect();
    if stuck.is_empty() {
        return Ok(());
    }
    Err(format!("no serial order: {:?}", &stuck[..stuck.len().min(10)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: Id, span: (u64, u64), reads: &[(usize, &[Id])], appended: &[usize]) -> Record {
        Record {
            id,
            began: span.0,
            ended: Some(span.1),
            reads: reads.iter().map(|(key, list)| (*key, list.to_vec())).collect(),
            appended: appended.to_vec(),
        }
    }

    #[test]
    fn a_serial_history_passes() {
        let records = [
            record(1, (0, 1), &[(0, &[]), (1, &[])], &[0]),
            record(2, (0, 3), &[(0, &[1])], &[0]),
            record(3, (2, 4), &[(0, &[1])], &[]),
        ];
        assert_eq!(check(&records, &[vec![1, 2], vec![]]), Ok(()));
    }

    #[test]
    fn write_skew_is_found() {
        let records = [
            record(1, (0, 2), &[(0, &[]), (1, &[])], &[0]),
            record(2, (1, 3), &[(0, &[]), (1, &[])], &[1]),
        ];
        assert!(check(&records, &[vec![1], vec![2]]).is_err());
    }

    #[test]
    fn a_lost_update_is_found() {
        let records = [record(1, (0, 2), &[(0, &[])], &[0]), record(2, (1, 3), &[(0, &[])], &[0])];
        assert!(check(&records, &[vec![2]]).is_err());
        assert!(check(&records, &[vec![1, 2]]).is_err());
    }

    #[test]
    fn a_stale_read_is_found() {
        let writer = record(1, (0, 1), &[(0, &[])], &[0]);
        let reader = record(2, (2, 3), &[(0, &[])], &[]);
        assert!(check(&[writer.clone(), reader], &[vec![1]]).is_err());
        let concurrent = record(2, (0, 3), &[(0, &[])], &[]);
        assert_eq!(check(&[writer, concurrent], &[vec![1]]), Ok(()));
    }

    #[test]
    fn an_unknown_transaction_counts_only_if_it_took_effect() {
        let known = record(1, (1, 2), &[(0, &[])], &[0]);
        let mut unknown = record(2, (0, 0), &[(0, &[])], &[0]);
        unknown.ended = None;
        assert_eq!(check(&[known.clone(), unknown.clone()], &[vec![1]]), Ok(()));
        assert!(check(&[known, unknown], &[vec![1, 2]]).is_err());
    }
}
