//! Histories of concurrent transactions, and whether they are strictly serializable.
//!
//! Every transaction appends its id to the lists under some of the keys that it reads, so that a list tells the order of
//! its writers. From the lists and the reads follow the edges of the serialization graph: write after write, read after
//! write, write after read, and from whatever ended to whatever began after it. The history is strictly serializable
//! if, and only if, the graph has no cycle.
//! Lists only grow: a value never comes back, so engines that compare values find the same conflicts as others.

use std::collections::{BTreeMap, VecDeque};

pub type Id = u32;

/// One transaction that committed, or may have.
#[derive(Debug, Clone)]
pub struct Record {
    pub id: Id,
    /// Position in the order of all begins and ends, on one clock.
    pub began: u64,
    /// As `began`; none while the outcome is not known.
    pub ended: Option<u64>,
    /// Keys, each with the list that was found there.
    pub reads: Vec<(usize, Vec<Id>)>,
    /// Keys that the id was appended to, all of them read.
    pub appended: Vec<usize>,
}

/// Checks a history against the lists that are left at its end.
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

/// Takes away what nothing precedes until nothing is left.
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
    fn an_unknown_one_counts_only_if_it_took_effect() {
        let known = record(1, (1, 2), &[(0, &[])], &[0]);
        let mut unknown = record(2, (0, 0), &[(0, &[])], &[0]);
        unknown.ended = None;
        assert_eq!(check(&[known.clone(), unknown.clone()], &[vec![1]]), Ok(()));
        assert!(check(&[known, unknown], &[vec![1, 2]]).is_err());
    }
}
