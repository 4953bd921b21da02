//! Finds addresses that cannot be used as the file says: one address in two roles, a broadcast address for a server, a
//! route to what no router forwards.
//! [`check_roles`] has a rule for every pair of roles. Pairs that another part of the validation checks are marked
//! there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use crate::config::Link;
use crate::config::diagnostic::{Diagnostic, Diagnostics};
use crate::config::file::{Destination, File};
use crate::config::reader::{Field, Located};
use crate::config::validate::links::is_link_local;
use crate::config::value::hosts_only;

/// The use of an address. If two uses of one address collide, the one of the later role is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum AddressRole {
    /// The engine's address on a link.
    Own,
    /// An address of whichever node is active.
    Floating,
    /// An own address of another node.
    Node,
    /// The first address of a connected IPv4 subnet, which denotes the subnet itself (RFC 1812 section 4.2.3.1).
    Network,
    /// The last address of a connected IPv4 subnet.
    Broadcast,
    /// The first address of a connected IPv6 subnet: the anycast address of its routers (RFC 4291 section 2.6.1).
    Anycast,
    /// A VIP of a service.
    Vip,
    /// `via` of a route.
    NextHop,
    /// An address of a firewall.
    Firewall,
    /// An address of a peer, which is an engine on the far side of the firewalls.
    Peer,
    /// An address of a real server.
    Server,
    /// An address of `snat` of a service, which replaces those of clients.
    Snat,
    /// The destination of a host route to a next hop.
    RouteVia,
    /// The destination of a host route through a group.
    RouteThrough,
    /// The address on which the API listens, which belongs to the kernel.
    Listen,
}

/// The result of checking an address in two roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RoleCheck {
    /// The combination works.
    Fine,
    /// Another rule of the validation reports it with a message of its own.
    ReportedElsewhere,
    /// The combination cannot work, for this reason.
    Error(&'static str),
    /// The combination is probably a mistake, for this reason.
    Warning(&'static str),
}

const ENGINE_ANSWERS: &str = "the engine answers ARP and ND for it, so that nobody else can have it";
const NO_STATION: &str = "no station can have that address";
const EVERY_ROUTER: &str = "every router of the subnet has it, the engine too";
const NEVER_USED: &str = "the engine keeps packets to it, and the route is never used";
const MOVES: &str = "a floating address moves between nodes, and each has an address of its own beside it";
const ANOTHER_NODE: &str = "it is another node of this cluster";
const KERNEL_OWNS: &str = "this machine's kernel has it, no other station can";

/// The table of all pairs of roles; `first` is not after `second`.
fn check_roles(first: AddressRole, second: AddressRole) -> RoleCheck {
    use AddressRole::{Anycast, Broadcast, Firewall, Floating, Listen, Network, NextHop, Node, Own, Peer};
    use AddressRole::{RouteThrough, RouteVia, Server, Snat, Vip};
    use RoleCheck::{Error, Fine, ReportedElsewhere, Warning};
    match (first, second) {
        // One role may refer to an address several times: a server of two services, the next hop of two routes.
        // Repetitions that are not allowed are reported by the rules of their section.
        (Network | Broadcast | Anycast, Network | Broadcast | Anycast) => Fine,
        (NextHop | Server | Snat | RouteVia | RouteThrough | Listen, again) if again == first => Fine,
        (Own | Floating | Node | Vip | Firewall | Peer, again) if again == first => ReportedElsewhere,

        (Own | Floating, Floating | Node) => Error(MOVES),
        (Floating | Node, Network | Broadcast) => Error(NO_STATION),
        (Floating | Node, Anycast) => Error(EVERY_ROUTER),
        (Node, Vip | NextHop | Firewall | Peer | Server | Snat) => Error(ANOTHER_NODE),
        (Node, RouteVia | RouteThrough) => Fine,
        (Node, Listen) => Error(KERNEL_OWNS),

        (Own, Network | Broadcast) => Warning("stations of that subnet do not answer it"),
        (Own, Anycast) => Warning("other routers of that subnet have it too"),
        (Own | Floating, Vip) => {
            Error("give the service an address of its own; one in the same subnet is answered by ARP and ND")
        }
        (Own | Floating, NextHop | Firewall | Peer | Server) => Error("that is to be another station"),
        // This is the default of full-nat, written explicitly.
        (Own | Floating, Snat) => Fine,
        (Own | Floating | Vip | Snat, RouteVia | RouteThrough) => Warning(NEVER_USED),
        (Own | Floating | Vip | Snat, Listen) => {
            Error("the kernel does not serve it; listen on an address of a management device")
        }

        (Network | Broadcast, Vip | NextHop | Firewall | Peer | Server | Snat | Listen) => Error(NO_STATION),
        (Network | Broadcast, RouteVia | RouteThrough) => Warning(NO_STATION),
        (Anycast, Vip | Peer | Server | Snat | Listen) => Error(EVERY_ROUTER),
        (Anycast, NextHop | Firewall | RouteVia | RouteThrough) => Warning(EVERY_ROUTER),

        (Vip, NextHop | Firewall) => Error(ENGINE_ANSWERS),
        (Vip, Peer) => Warning("packets to it are for the service and do not reach the peer"),
        (Vip, Server) => Error("a server needs an address of its own"),
        (Vip, Snat) => Error("the servers' answers would go to the service"),

        (NextHop | Firewall, Snat) => Error(ENGINE_ANSWERS),
        (Peer, Snat) => Error("the servers' answers would go to the peer"),
        (Server, Snat) => Error("a server does not answer itself; and the engine answers ARP and ND for it"),

        // A router may serve as well, and firewalls may be balanced as servers, for example for their VPN.
        (NextHop | Firewall, Server) => Fine,
        (NextHop, Firewall) => {
            Warning("the route goes past its group; write `group` and `firewall` in the route instead of `via`")
        }
        // A peer in a connected subnet has a warning of its own.
        (NextHop | Firewall, Peer) => ReportedElsewhere,
        (Peer, Server) => Warning("an engine serves nothing"),
        (NextHop, RouteVia | RouteThrough) | (Firewall, RouteVia) | (Server, RouteVia | RouteThrough) => Fine,
        (Firewall, RouteThrough) => Warning("packets to the firewall would go through another firewall of the group"),
        (Peer, RouteVia) => Warning("packets to the peer would go past the firewalls"),
        (Peer, RouteThrough) => Fine,
        (RouteVia, RouteThrough) => ReportedElsewhere,

        (NextHop | Firewall | Peer, Listen) => Warning(KERNEL_OWNS),
        (Server | RouteVia | RouteThrough, Listen) => Fine,

        // The roles are in order, so that these pairs do not occur.
        (
            _,
            Own | Floating | Node | Network | Broadcast | Anycast | Vip | NextHop | Firewall | Peer | Server | Snat
            | RouteVia,
        ) => Fine,
        (RouteThrough | Listen, RouteThrough | Listen) => Fine,
    }
}

/// One use of an address, with its place in the file.
#[derive(Debug, Clone)]
struct AddressUse<'a> {
    role: AddressRole,
    /// The name of its thing: the link for [`AddressRole::Own`], the subnet for its first and last address.
    owner: String,
    span: &'a Range<usize>,
}

impl AddressUse<'_> {
    fn describe(&self) -> String {
        let of = &self.owner;
        match self.role {
            AddressRole::Own => format!("the engine's own address on link {of:?}"),
            AddressRole::Floating => format!("a floating address of link {of:?}"),
            AddressRole::Node => format!("the own address of node {of:?}"),
            AddressRole::Network => format!("the connected subnet {of} itself"),
            AddressRole::Broadcast => format!("the broadcast address of the connected subnet {of}"),
            AddressRole::Anycast => format!("the anycast address of the routers of the connected subnet {of}"),
            AddressRole::Vip => format!("the VIP of service {of:?}"),
            AddressRole::NextHop => "a next hop".to_owned(),
            AddressRole::Firewall => format!("the address of firewall {of:?}"),
            AddressRole::Peer => format!("the address of peer {of:?}"),
            AddressRole::Server => format!("the address of server {of:?}"),
            AddressRole::Snat => format!("a source address (`snat`) of service {of:?}"),
            AddressRole::RouteVia | AddressRole::RouteThrough => "the destination of a route".to_owned(),
            AddressRole::Listen => "where the API listens".to_owned(),
        }
    }
}

/// An address, with the link for a link-local one, which can be used again on every link.
type AddressScope = (IpAddr, Option<String>);

/// Checks all uses of each address of the file against each other.
pub fn addresses(file: &File, links: &[Option<Link>], out: &mut Diagnostics) {
    let mut claims: BTreeMap<AddressScope, Vec<AddressUse<'_>>> = BTreeMap::new();
    let mut claim = |place: AddressScope, role, of: String, span| {
        claims.entry(place).or_default().push(AddressUse { role, owner: of, span });
    };
    of_links(file, &mut claim);
    of_nodes(file, &mut claim);
    of_groups(file, &mut claim);
    of_services(file, &mut claim);
    if let Some(listen) = file.api.listen.given().filter(|at| !at.value.ip().is_unspecified()) {
        claim((listen.value.ip(), None), AddressRole::Listen, String::new(), &listen.span);
    }
    for ((address, _), claims) in &claims {
        judge(*address, claims, out);
    }
    for service in &file.services {
        let of = name(&service.name);
        for range in given(&service.snat) {
            let lent = AddressUse { role: AddressRole::Snat, owner: of.clone(), span: &range.span };
            let (first, last) = range.value;
            for ((address, _), claims) in claims.range((first, None)..=(last, None)) {
                claims.iter().for_each(|other| pair(*address, other, &lent, out));
            }
        }
    }
    link_local(file, links, out);
}

/// Reports a pair of roles once for each use in the later role.
fn judge(address: IpAddr, claims: &[AddressUse<'_>], out: &mut Diagnostics) {
    let mut firsts: BTreeMap<AddressRole, &AddressUse<'_>> = BTreeMap::new();
    for claim in claims {
        firsts.entry(claim.role).or_insert(claim);
    }
    for claim in claims {
        for first in firsts.values().filter(|first| first.role < claim.role) {
            pair(address, first, claim, out);
        }
    }
}

fn pair(address: IpAddr, one: &AddressUse<'_>, other: &AddressUse<'_>, out: &mut Diagnostics) {
    let (first, second) = if one.role <= other.role { (one, other) } else { (other, one) };
    let say = |why: &str| format!("{address} is {}, here {}: {why}", first.describe(), second.describe());
    let diagnostic = match check_roles(first.role, second.role) {
        RoleCheck::Fine | RoleCheck::ReportedElsewhere => return,
        RoleCheck::Error(why) => Diagnostic::error(second.span.clone(), say(why)),
        RoleCheck::Warning(why) => Diagnostic::warning(second.span.clone(), say(why)),
    };
    out.push(diagnostic.related(first.span.clone(), format!("{address} is {} by this", first.describe())));
}

fn of_links<'a>(file: &'a File, claim: &mut impl FnMut(AddressScope, AddressRole, String, &'a Range<usize>)) {
    for link in &file.links {
        let of = name(&link.name);
        for at in given(&link.addresses) {
            claim(place(at.value.addr(), &of), AddressRole::Own, of.clone(), &at.span);
            if hosts_only(at.value) || is_link_local(at.value.addr()) {
                continue;
            }
            let subnet = at.value.trunc().to_string();
            match at.value {
                IpNet::V4(v4) => {
                    claim((v4.network().into(), None), AddressRole::Network, subnet.clone(), &at.span);
                    claim((v4.broadcast().into(), None), AddressRole::Broadcast, subnet, &at.span);
                }
                IpNet::V6(v6) => claim((v6.network().into(), None), AddressRole::Anycast, subnet, &at.span),
            }
        }
    }
    for route in &file.routes {
        for at in given(&route.via) {
            claim(place(at.value, &name(&route.link)), AddressRole::NextHop, String::new(), &at.span);
        }
        let role = if matches!(route.group, Field::Absent) { AddressRole::RouteVia } else { AddressRole::RouteThrough };
        for at in given(&route.to) {
            if let Destination::Prefix(to) = at.value
                && to.prefix_len() == to.max_prefix_len()
            {
                claim((to.addr(), None), role, String::new(), &at.span);
            }
        }
    }
}

/// Floating addresses, and the own ones of other nodes. Those of this node are its links'.
fn of_nodes<'a>(file: &'a File, claim: &mut impl FnMut(AddressScope, AddressRole, String, &'a Range<usize>)) {
    for link in &file.links {
        let of = name(&link.name);
        for at in given(&link.floating) {
            claim(place(at.value, &of), AddressRole::Floating, of.clone(), &at.span);
        }
    }
    let me = file.engine.as_ref().and_then(|engine| engine.name.value());
    let others = file.ha.iter().flat_map(|ha| &ha.nodes).filter(|node| node.name.value() != me);
    for node in others {
        for at in given(&node.addresses).iter().filter(|at| !is_link_local(at.value)) {
            claim((at.value, None), AddressRole::Node, name(&node.name), &at.span);
        }
    }
}

fn of_groups<'a>(file: &'a File, claim: &mut impl FnMut(AddressScope, AddressRole, String, &'a Range<usize>)) {
    for group in &file.groups {
        for firewall in &group.firewalls {
            for at in given(&firewall.addresses) {
                claim(place(at.value, &name(&firewall.link)), AddressRole::Firewall, name(&firewall.name), &at.span);
            }
        }
        for peer in &group.peers {
            for at in given(&peer.addresses) {
                claim((at.value, None), AddressRole::Peer, name(&peer.name), &at.span);
            }
            for engine in &peer.engines {
                for at in given(&engine.addresses) {
                    claim((at.value, None), AddressRole::Peer, name(&engine.name), &at.span);
                }
            }
        }
    }
}

/// Addresses of VIPs and servers. Ranges of `snat` are compared with all others by the caller.
fn of_services<'a>(file: &'a File, claim: &mut impl FnMut(AddressScope, AddressRole, String, &'a Range<usize>)) {
    for service in &file.services {
        let of = name(&service.name);
        for at in given(&service.addresses) {
            claim((at.value, None), AddressRole::Vip, of.clone(), &at.span);
        }
        for server in &service.servers {
            for at in given(&server.addresses) {
                claim((at.value, None), AddressRole::Server, format!("{of}/{}", name(&server.name)), &at.span);
            }
        }
    }
}

/// Warns about 169.254.0.0/16 where packets from or to it would have to be forwarded, which no router does (RFC 3927
/// section 7). Neighbours of the engine may have such addresses: next hops, firewalls, and its own. Those of IPv6 are
/// refused by the rules of their section.
fn link_local(file: &File, links: &[Option<Link>], out: &mut Diagnostics) {
    let connected = |address: &IpAddr| {
        links.iter().flatten().any(|link| link.addresses.iter().any(|subnet| subnet.contains(address)))
    };
    let is_v4 = |address: IpAddr| matches!(address, IpAddr::V4(v4) if v4.is_link_local());
    let mut tell = |at: &Located<IpAddr>, what: &str| {
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

fn place(address: IpAddr, link: &str) -> AddressScope {
    (address, is_link_local(address).then(|| link.to_owned()))
}

fn name(field: &Field<String>) -> String {
    field.value().unwrap_or_default()
}

fn given<T>(field: &Field<Vec<Located<T>>>) -> &[Located<T>] {
    field.given().map(|list| list.value.as_slice()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
