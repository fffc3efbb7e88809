//! Tells from an error of the operating system what this node lacks.
//!
//! - `FAULT-3`: what this node lacks is never the endpoint's fault. On an open connection the fault
//!   is unclear, because the event may have arrived.

use rustix::io::Errno;
use std::io;
use triggers_actors::NodeFault;

/// The fault of this node that an error of the operating system shows, if it does.
pub(super) fn node_fault(error: &io::Error) -> Option<NodeFault> {
    match Errno::from_io_error(error)? {
        Errno::MFILE | Errno::NFILE => Some(NodeFault::Descriptors),
        Errno::NOMEM | Errno::NOBUFS => Some(NodeFault::Memory),
        Errno::ADDRNOTAVAIL => Some(NodeFault::Ports),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_are_the_nodes_only_if_it_lacks_something() {
        use NodeFault::{Descriptors, Memory, Ports};
        let ours = [
            (Errno::MFILE, Descriptors),
            (Errno::NFILE, Descriptors),
            (Errno::NOMEM, Memory),
            (Errno::NOBUFS, Memory),
            (Errno::ADDRNOTAVAIL, Ports),
        ];
        for number in 1..200 {
            let fault = node_fault(&io::Error::from_raw_os_error(number));
            let expected = ours.iter().find(|(errno, _)| errno.raw_os_error() == number);
            assert_eq!(fault, expected.map(|(_, fault)| *fault), "FAULT-3: {number}");
        }
        assert_eq!(node_fault(&io::Error::other("Too many open files")), None);
    }
}
