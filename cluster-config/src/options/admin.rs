//! Options of section `admin`: the listener for operators.
//!
//! It serves metrics, the cluster view, drain and the log level, on an address of its own so that a firewall can keep it
//! apart from the public one. It is on loopback unless set otherwise.
//!
//! The first admin key comes from a file, or from an environment variable that the node reads itself: a key is never
//! an option, so that printing options cannot print a key.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::field::Bounds;

section! {
    /// The listener for operators: metrics, cluster view, drain, log level.
    "admin" => AdminOptions {
        /// Address and port to listen on; port 0 takes a free one. Keep it away from the public network.
        address: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
            Bounds::Described("an IP address and port, such as 127.0.0.1:9090");
        /// File with the first admin key, read when a node starts on an empty store.
        /// The environment variable TRIGGERS_ADMIN_KEY may hold the key instead.
        key_file: Option<PathBuf> = None, Bounds::Described("a path; empty: none");
    }
}
