//! Validates which source address servers see, that of the client or one of `snat`, and whether their answers return.

use std::net::IpAddr;

use super::{given, mode};
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file::{self, addresses_of};
use crate::config::reader::Field;
use crate::config::validate::links::is_link_local;
use crate::config::validate::members::family_name;
use crate::config::{ForwardingMode, Link};
use crate::wire::Family;

/// The largest number of `snat` addresses of one service.
const SNAT_MAX: usize = 1024;

/// The addresses of `snat`; `None` if they have a mistake.
pub fn snat(typed: &file::Service, links: &[Option<Link>], out: &mut Diagnostics) -> Option<Vec<IpAddr>> {
    let ranges = match &typed.snat {
        Field::Absent => return Some(Vec::new()),
        Field::Invalid => return None,
        Field::Given(ranges) => ranges,
    };
    let why = match mode(typed)? {
        ForwardingMode::FullNat => None,
        ForwardingMode::Nat => Some("with `nat` the servers see the clients' own addresses"),
        ForwardingMode::Direct => Some("with `direct` the packet reaches the server as the client sent it"),
        ForwardingMode::Tunnel => Some("with `tunnel` the packet reaches the server as the client sent it"),
    };
    if let Some(why) = why {
        let error = Diagnostic::error(ranges.span.clone(), format!("`snat` is for `full-nat`: {why}"));
        out.push(error.hint("remove it, or use mode = \"full-nat\""));
        return None;
    }
    let mut addresses: Vec<IpAddr> = Vec::new();
    for range in &ranges.value {
        let own = addresses_of(range.value);
        if let Some(again) = own.iter().find(|address| addresses.contains(address)) {
            out.push(Diagnostic::error(range.span.clone(), format!("the source address {again} stands twice")));
        }
        if let Some(local) = own.iter().find(|address| is_link_local(**address)) {
            let message = format!("{local} is a link-local address: it does not stand for clients beyond the link");
            out.push(Diagnostic::error(range.span.clone(), message));
        }
        let connected = |address: &IpAddr| {
            links.iter().flatten().any(|link| link.addresses.iter().any(|subnet| subnet.contains(address)))
        };
        if let Some(outside) = own.iter().find(|address| !connected(address))
            && links.iter().all(Option::is_some)
        {
            let message = format!("{outside} is in no link's subnet: nobody answers ARP or ND for it");
            let hint = "choose addresses in the servers' subnet, or route them to the engine";
            out.push(Diagnostic::warning(range.span.clone(), message).hint(hint));
        }
        addresses.extend(own);
    }
    if addresses.len() > SNAT_MAX {
        out.push(Diagnostic::error(ranges.span.clone(), format!("`snat` has at most {SNAT_MAX} addresses")));
        return None;
    }
    for family in [Family::V4, Family::V6] {
        let of_family = |address: IpAddr| Family::of(address) == family;
        let vip = given(&typed.addresses).iter().find(|vip| of_family(vip.value));
        if let Some(vip) = vip
            && !addresses.iter().any(|address| of_family(*address))
        {
            let word = family_name(family);
            let message = format!("`snat` has no {word} address, but VIP {} is one", vip.value);
            out.push(Diagnostic::error(ranges.span.clone(), message).related(vip.span.clone(), "the VIP stands here"));
        }
    }
    Some(addresses)
}

/// Warns about servers of mode `nat` in the subnet of clients. They would answer such a client directly and not through
/// the engine, from an address that the client never sent to.
pub fn hairpin(typed: &file::Service, links: &[Option<Link>], out: &mut Diagnostics) {
    if mode(typed) != Some(ForwardingMode::Nat) {
        return;
    }
    let subnet_of = |address: IpAddr| {
        let subnets = links.iter().flatten().flat_map(|link| &link.addresses);
        subnets.into_iter().find(|subnet| subnet.contains(&address)).map(ipnet::IpNet::trunc)
    };
    let one_arm = links.len() == 1;
    for at in typed.servers.iter().flat_map(|server| given(&server.addresses)) {
        let Some(subnet) = subnet_of(at.value) else { continue };
        let vip = given(&typed.addresses).iter().find(|vip| subnet.contains(&vip.value));
        if vip.is_none() && !one_arm {
            continue;
        }
        let message = format!(
            "clients in the servers' subnet {subnet} get no answer in `nat` mode: the server answers them directly, from an \
             address that they did not ask"
        );
        let hint = "use mode = \"full-nat\" or \"direct\", or keep clients out of that subnet";
        let warning = Diagnostic::warning(at.span.clone(), message).hint(hint);
        out.push(match vip {
            Some(vip) => warning.related(vip.span.clone(), "the VIP lies in the same subnet"),
            None => warning,
        });
        return;
    }
}
