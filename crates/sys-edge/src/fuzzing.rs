//! A door for the fuzz targets (`crates/sys-fuzz`) to what is private here.

use crate::AllowedHosts;
use http::{Request, StatusCode};

/// Whether a request is meant for one of the hosts, else what it is answered with.
pub fn admit<B>(hosts: &AllowedHosts, request: &Request<B>) -> Result<(), StatusCode> {
    hosts.admit(request).map_err(|refusal| hosts.refuse(refusal).status())
}
