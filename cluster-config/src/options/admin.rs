//! Options of section `admin`: the listener for operators.
//!
//! It serves metrics, the cluster view, drain and the log level. It has its own address, so that a
//! firewall can separate it from the public listener.
//!
//! The first admin key comes from a file or from an environment variable that the node reads. It is
//! never an option, so that printing the options cannot reveal it.

use crate::field::Bounds;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

section! {
    /// The listener for operators: metrics, cluster view, drain, log level.
    "admin" => AdminOptions {
        /// Address and port to listen on; port 0 selects a free port. Keep it off public networks.
        address: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
            Bounds::Described("an IP address and port, such as 127.0.0.1:9090");
        /// File with the first admin key, read when a node starts with an empty store. The
        /// environment variable TRIGGERS_ADMIN_KEY can provide the key instead.
        key_file: Option<PathBuf> = None, Bounds::OPTIONAL_PATH;
    }
}

rules! {
    ["admin.address", "listen.address"]
        |options| options.admin.address == options.listen.address
            && options.admin.address.port() != 0
        => "must differ from listen.address: each listener needs its own";
}
