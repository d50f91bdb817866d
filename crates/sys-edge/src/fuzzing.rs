//! A door for the fuzz targets (`crates/sys-fuzz`) to what is private here.

use crate::{
    AllowedHosts,
    proxy::{Named, parse},
};
use http::{Request, StatusCode};
use std::net::SocketAddr;

/// Whether a request is meant for one of the hosts, else what it is answered with.
pub fn admit<B>(hosts: &AllowedHosts, request: &Request<B>) -> Result<(), StatusCode> {
    hosts.admit(request).map_err(|refusal| hosts.refuse(refusal).status())
}

/// The source and the destination that a PROXY header names, `None` where it stands for the connection itself; no more than
/// whether it is one for what is none.
pub fn proxy_header(bytes: &[u8]) -> Option<Option<(SocketAddr, SocketAddr)>> {
    match parse(bytes).ok()? {
        Named::Ends { source, destination } => Some(Some((source, destination))),
        Named::Connection => Some(None),
    }
}
