//! Addresses that cannot be what they are said to be: one address in two roles, a broadcast address for a server, a route
//! to what no router forwards.
//!
//! [`together`] is the table of all pairs of roles. Where a pair is judged beside what it belongs to, it says so.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use crate::config::Link;
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file::{Destination, File};
use crate::config::reader::{At, Field};
use crate::config::validate::links::is_link_local;
use crate::config::value::hosts_only;

/// What an address is used for. Of two claims to one address that of the later role is the one that is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Role {
    /// The engine's, on a link.
    Own,
    /// The first of a connected IPv4 subnet, which is the subnet itself (RFC 1812 section 4.2.3.1).
    Network,
    /// The last of a connected IPv4 subnet.
    Broadcast,
    /// The first of a connected IPv6 subnet: the anycast address of its routers (RFC 4291 section 2.6.1).
    Anycast,
    /// Of a service.
    Vip,
    /// `via` of a route.
    NextHop,
    /// Of a firewall.
    Firewall,
    /// Of the engine on the far side.
    Peer,
    /// Of a server.
    Server,
    /// `snat` of a service: it stands for clients.
    Snat,
    /// A route to this address alone, by a next hop.
    RouteVia,
    /// A route to this address alone, through a group.
    RouteThrough,
    /// Where the API listens: the address is the kernel's.
    Listen,
}

/// What is to be said of an address in two roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It works.
    Fine,
    /// Another rule of the validation tells it, with words of its own.
    Elsewhere,
    /// It can never work, for this reason.
    Error(&'static str),
    /// It is surely a mistake, for this reason.
    Warning(&'static str),
}

const ANSWERED: &str = "the engine answers ARP and ND for it, so that nobody else can have it";
const NOBODY: &str = "no station can have that address";
const ROUTERS: &str = "every router of the subnet has it, the engine too";
const NEVER_USED: &str = "the engine keeps packets to it, and the route is never used";
const KERNEL: &str = "this machine's kernel has it, no other station can";

/// The table. `first` is not after `second`.
fn together(first: Role, second: Role) -> Verdict {
    use Role::{Anycast, Broadcast, Firewall, Listen, Network, NextHop, Own, Peer, RouteThrough, RouteVia};
    use Role::{Server, Snat, Vip};
    use Verdict::{Elsewhere, Error, Fine, Warning};
    match (first, second) {
        // Several may speak of one: a server of two services, a router that is the next hop of two routes. What may not stand
        // twice is told where it stands.
        (Network | Broadcast | Anycast, Network | Broadcast | Anycast) => Fine,
        (NextHop | Server | Snat | RouteVia | RouteThrough | Listen, again) if again == first => Fine,
        (Own | Vip | Firewall | Peer, again) if again == first => Elsewhere,

        (Own, Network | Broadcast) => Warning("stations of that subnet do not answer it"),
        (Own, Anycast) => Warning("other routers of that subnet have it too"),
        (Own, Vip) => Error("give the service an address of its own; one in the same subnet is answered by ARP and ND"),
        (Own, NextHop | Firewall | Peer | Server) => Error("that is to be another station"),
        // The default of full-nat, written down.
        (Own, Snat) => Fine,
        (Own | Vip | Snat, RouteVia | RouteThrough) => Warning(NEVER_USED),
        (Own | Vip | Snat, Listen) => {
            Error("the kernel does not serve it; listen on an address of a management device")
        }

        (Network | Broadcast, Vip | NextHop | Firewall | Peer | Server | Snat | Listen) => Error(NOBODY),
        (Network | Broadcast, RouteVia | RouteThrough) => Warning(NOBODY),
        (Anycast, Vip | Peer | Server | Snat | Listen) => Error(ROUTERS),
        (Anycast, NextHop | Firewall | RouteVia | RouteThrough) => Warning(ROUTERS),

        (Vip, NextHop | Firewall) => Error(ANSWERED),
        (Vip, Peer) => Warning("packets to it are for the service and do not reach the peer"),
        (Vip, Server) => Error("a server needs an address of its own"),
        (Vip, Snat) => Error("the servers' answers would go to the service"),

        (NextHop | Firewall, Snat) => Error(ANSWERED),
        (Peer, Snat) => Error("the servers' answers would go to the peer"),
        (Server, Snat) => Error("a server does not answer itself; and the engine answers ARP and ND for it"),

        // A router that also serves, and firewalls that are balanced as servers, as for their VPN.
        (NextHop | Firewall, Server) => Fine,
        (NextHop, Firewall) => {
            Warning("the route goes past its group; write `group` and `firewall` in the route instead of `via`")
        }
        // A peer in a connected subnet is told as one.
        (NextHop | Firewall, Peer) => Elsewhere,
        (Peer, Server) => Warning("an engine serves nothing"),
        (NextHop, RouteVia | RouteThrough) | (Firewall, RouteVia) | (Server, RouteVia | RouteThrough) => Fine,
        (Firewall, RouteThrough) => Warning("packets to the firewall would go through another firewall of the group"),
        (Peer, RouteVia) => Warning("packets to the peer would go past the firewalls"),
        (Peer, RouteThrough) => Fine,
        (RouteVia, RouteThrough) => Elsewhere,

        (NextHop | Firewall | Peer, Listen) => Warning(KERNEL),
        (Server | RouteVia | RouteThrough, Listen) => Fine,

        // The pairs are in order; these are the others.
        (_, Own | Network | Broadcast | Anycast | Vip | NextHop | Firewall | Peer | Server | Snat | RouteVia) => Fine,
        (RouteThrough | Listen, RouteThrough | Listen) => Fine,
    }
}

/// Who uses an address, and where that stands.
#[derive(Debug, Clone)]
struct Claim<'a> {
    role: Role,
    /// The thing's name: a link for [`Role::Own`], a subnet for its first and last address.
    of: String,
    span: &'a Range<usize>,
}

impl Claim<'_> {
    fn words(&self) -> String {
        let of = &self.of;
        match self.role {
            Role::Own => format!("the engine's own address on link {of:?}"),
            Role::Network => format!("the connected subnet {of} itself"),
            Role::Broadcast => format!("the broadcast address of the connected subnet {of}"),
            Role::Anycast => format!("the anycast address of the routers of the connected subnet {of}"),
            Role::Vip => format!("the VIP of service {of:?}"),
            Role::NextHop => "a next hop".to_owned(),
            Role::Firewall => format!("the address of firewall {of:?}"),
            Role::Peer => format!("the address of peer {of:?}"),
            Role::Server => format!("the address of server {of:?}"),
            Role::Snat => format!("a source address (`snat`) of service {of:?}"),
            Role::RouteVia | Role::RouteThrough => "the destination of a route".to_owned(),
            Role::Listen => "where the API listens".to_owned(),
        }
    }
}

/// An address; a link-local one on its link, as every link has the same.
type Place = (IpAddr, Option<String>);

/// Judges every address of the file by every other.
pub fn addresses(file: &File, links: &[Option<Link>], out: &mut Diagnostics) {
    let mut claims: BTreeMap<Place, Vec<Claim<'_>>> = BTreeMap::new();
    let mut claim = |place: Place, role, of: String, span| {
        claims.entry(place).or_default().push(Claim { role, of, span });
    };
    of_links(file, &mut claim);
    of_groups(file, &mut claim);
    of_services(file, &mut claim);
    if let Some(listen) = file.api.listen.given().filter(|at| !at.value.ip().is_unspecified()) {
        claim((listen.value.ip(), None), Role::Listen, String::new(), &listen.span);
    }
    for ((address, _), claims) in &claims {
        judge(*address, claims, out);
    }
    for service in &file.services {
        let of = name(&service.name);
        for range in given(&service.snat) {
            let lent = Claim { role: Role::Snat, of: of.clone(), span: &range.span };
            let (first, last) = range.value;
            for ((address, _), claims) in claims.range((first, None)..=(last, None)) {
                claims.iter().for_each(|other| pair(*address, other, &lent, out));
            }
        }
    }
    link_local(file, links, out);
}

/// One pair of roles is told once for each claim of the later role.
fn judge(address: IpAddr, claims: &[Claim<'_>], out: &mut Diagnostics) {
    let mut firsts: BTreeMap<Role, &Claim<'_>> = BTreeMap::new();
    for claim in claims {
        firsts.entry(claim.role).or_insert(claim);
    }
    for claim in claims {
        for first in firsts.values().filter(|first| first.role < claim.role) {
            pair(address, first, claim, out);
        }
    }
}

fn pair(address: IpAddr, one: &Claim<'_>, other: &Claim<'_>, out: &mut Diagnostics) {
    let (first, second) = if one.role <= other.role { (one, other) } else { (other, one) };
    let say = |why: &str| format!("{address} is {}, here {}: {why}", first.words(), second.words());
    let diagnostic = match together(first.role, second.role) {
        Verdict::Fine | Verdict::Elsewhere => return,
        Verdict::Error(why) => Diagnostic::error(second.span.clone(), say(why)),
        Verdict::Warning(why) => Diagnostic::warning(second.span.clone(), say(why)),
    };
    out.push(diagnostic.related(first.span.clone(), format!("{address} is {} by this", first.words())));
}

fn of_links<'a>(file: &'a File, claim: &mut impl FnMut(Place, Role, String, &'a Range<usize>)) {
    for link in &file.links {
        let of = name(&link.name);
        for at in given(&link.addresses) {
            claim(place(at.value.addr(), &of), Role::Own, of.clone(), &at.span);
            if hosts_only(at.value) || is_link_local(at.value.addr()) {
                continue;
            }
            let subnet = at.value.trunc().to_string();
            match at.value {
                IpNet::V4(v4) => {
                    claim((v4.network().into(), None), Role::Network, subnet.clone(), &at.span);
                    claim((v4.broadcast().into(), None), Role::Broadcast, subnet, &at.span);
                }
                IpNet::V6(v6) => claim((v6.network().into(), None), Role::Anycast, subnet, &at.span),
            }
        }
    }
    for route in &file.routes {
        for at in given(&route.via) {
            claim(place(at.value, &name(&route.link)), Role::NextHop, String::new(), &at.span);
        }
        let role = if matches!(route.group, Field::Absent) { Role::RouteVia } else { Role::RouteThrough };
        for at in given(&route.to) {
            if let Destination::Prefix(to) = at.value
                && to.prefix_len() == to.max_prefix_len()
            {
                claim((to.addr(), None), role, String::new(), &at.span);
            }
        }
    }
}

fn of_groups<'a>(file: &'a File, claim: &mut impl FnMut(Place, Role, String, &'a Range<usize>)) {
    for group in &file.groups {
        for firewall in &group.firewalls {
            for at in given(&firewall.addresses) {
                claim(place(at.value, &name(&firewall.link)), Role::Firewall, name(&firewall.name), &at.span);
            }
        }
        for peer in &group.peers {
            for at in given(&peer.addresses) {
                claim((at.value, None), Role::Peer, name(&peer.name), &at.span);
            }
        }
    }
}

/// Ranges of `snat` apart, which are compared with what the others claim.
fn of_services<'a>(file: &'a File, claim: &mut impl FnMut(Place, Role, String, &'a Range<usize>)) {
    for service in &file.services {
        let of = name(&service.name);
        for at in given(&service.addresses) {
            claim((at.value, None), Role::Vip, of.clone(), &at.span);
        }
        for server in &service.servers {
            for at in given(&server.addresses) {
                claim((at.value, None), Role::Server, format!("{of}/{}", name(&server.name)), &at.span);
            }
        }
    }
}

/// No router forwards from or to 169.254.0.0/16 (RFC 3927 section 7), and the engine is one. What is beside it can use such
/// addresses: own ones, next hops, firewalls. Those of IPv6 are refused where they stand.
fn link_local(file: &File, links: &[Option<Link>], out: &mut Diagnostics) {
    let connected = |address: &IpAddr| {
        links.iter().flatten().any(|link| link.addresses.iter().any(|subnet| subnet.contains(address)))
    };
    let is_v4 = |address: IpAddr| matches!(address, IpAddr::V4(v4) if v4.is_link_local());
    let mut tell = |at: &At<IpAddr>, what: &str| {
        if is_v4(at.value) {
            let message = format!("{} is a link-local address: {what} (RFC 3927 section 7)", at.value);
            out.push(Diagnostic::warning(at.span.clone(), message));
        }
    };
    for peer in file.groups.iter().flat_map(|group| &group.peers) {
        given(&peer.addresses).iter().for_each(|at| tell(at, "firewalls do not forward to it"));
    }
    for service in &file.services {
        let vips = given(&service.addresses).iter().filter(|at| !connected(&at.value));
        vips.for_each(|at| tell(at, "no router forwards to it, and it is in no connected subnet"));
        let servers = service.servers.iter().flat_map(|server| given(&server.addresses));
        servers.for_each(|at| tell(at, "what comes from it is not forwarded"));
    }
}

fn place(address: IpAddr, link: &str) -> Place {
    (address, is_link_local(address).then(|| link.to_owned()))
}

fn name(field: &Field<String>) -> String {
    field.value().unwrap_or_default()
}

fn given<T>(field: &Field<Vec<At<T>>>) -> &[At<T>] {
    field.given().map(|list| list.value.as_slice()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
