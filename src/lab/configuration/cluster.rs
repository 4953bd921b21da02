//! Writes what a pair of engines needs in the file of each: who its nodes are, and who those of the other side are.

use super::{firewall_link_address, line, section, strings};
use crate::lab::topology::{AddressPair, Engine, Side, Topology};

/// The file with the key of a side's pair.
pub fn key_file(side: Side, directory: &str) -> String {
    format!("{directory}/{}.key", side.engine())
}

/// Writes `[ha]` and its nodes.
pub(super) fn cluster(text: &mut String, lab: &Topology, side: Side, directory: &str) {
    let key = format!("file:{}", key_file(side, directory));
    section(text, lab, "ha", &[("vrid", i64::from(Topology::vrid(side)).into()), ("key", key.into())]);
    for engine in side.pair() {
        let Some(node) = engine.node else { continue };
        let addresses: Vec<_> =
            shared_addresses(lab, side).into_iter().flat_map(|shared| strings(Topology::own(engine, shared))).collect();
        line(text, &format!("\n[[ha.node]]\nname = \"{engine}\"\naddresses = {addresses:?}"));
        line(text, &format!("sync = \"{}\"", Topology::sync(side, node)));
    }
}

/// Writes the engines of the peer, by which a node of this side tells them apart.
pub(super) fn peer_engines(text: &mut String, lab: &Topology, peer: Side) {
    let engines: Vec<_> = peer.pair().into_iter().map(|engine| peer_engine(lab, engine)).collect();
    line(text, &format!("engines = [\n    {},\n]", engines.join(",\n    ")));
}

fn peer_engine(lab: &Topology, engine: Engine) -> String {
    let own = Topology::own(engine, firewall_link_address(lab, engine.side, 0));
    format!("{{ name = \"{engine}\", addresses = {:?} }}", strings(own))
}

/// The addresses that a side's pair shares, on each of its links.
fn shared_addresses(lab: &Topology, side: Side) -> [AddressPair; 2] {
    let near = match side {
        Side::Outer => lab.outer_toward_client(),
        Side::Inner => lab.inner_toward_servers(),
    };
    [near, firewall_link_address(lab, side, 0)]
}
