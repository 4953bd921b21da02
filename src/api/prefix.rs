//! Parses the addresses and prefixes of requests.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::api::ApiError;

/// Parses `203.0.113.7` or `203.0.113.0/24`.
pub fn address_or_prefix(text: &str) -> Result<IpNet, ApiError> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let bad = || ApiError::BadRequest(format!("not an address or prefix: {text:?}"));
    text.parse().ok().or_else(address).ok_or_else(bad)
}
