//! Real captures: those that come with the crate `pdu`, and those in the directory `FWLB_CAPTURES`, if it is set.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use etherparse::SlicedPacket;
use fwlb::engine::route::FibEntry;
use fwlb::engine::testbed::{self, Side};
use fwlb::wire::Family;
use fwlb::wire::frame::ETHERNET_LEN;
use pcap_parser::{Linktype, PcapBlockOwned, PcapError, create_reader};

use crate::world::{Decision, Ends, FIREWALLS, World, addresses, ends};

/// A file and its Ethernet frames.
pub struct Capture {
    pub name: String,
    pub frames: Vec<Vec<u8>>,
}

/// All captures of Ethernet frames, in the order of their names.
pub fn all() -> Vec<Capture> {
    let mut files = Vec::new();
    walk(&crate_directory("pdu").join("tests/pcaps"), &mut files);
    if let Some(more) = std::env::var_os("FWLB_CAPTURES") {
        walk(Path::new(&more), &mut files);
    }
    files.sort();
    let read = |path: &PathBuf| Capture { name: path.display().to_string(), frames: frames(path) };
    files.iter().map(read).filter(|capture| !capture.frames.is_empty()).collect()
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for path in entries.map(|entry| entry.expect("the directory can be read").path()) {
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "pcap") {
            found.push(path);
        }
    }
}

/// The directory of a dependency's source.
fn crate_directory(name: &str) -> PathBuf {
    // Crates for other platforms are not fetched.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let words = ["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &platform];
    let words = [&words[..], &["--manifest-path"]].concat();
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let output = Command::new(env!("CARGO")).args(words).arg(manifest).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("a list");
    let found = packages.iter().find(|package| package["name"] == name).expect("it is a dependency");
    let manifest = PathBuf::from(found["manifest_path"].as_str().expect("a path"));
    manifest.parent().expect("a file is in a directory").to_owned()
}

/// The complete frames of a classic pcap file of Ethernet; none of any other file.
fn frames(path: &Path) -> Vec<Vec<u8>> {
    let file = File::open(path).expect("it was listed");
    let Ok(mut reader) = create_reader(1 << 20, file) else { return Vec::new() };
    let mut found = Vec::new();
    loop {
        match reader.next() {
            Ok((offset, block)) => {
                match block {
                    PcapBlockOwned::LegacyHeader(header) if header.network != Linktype::ETHERNET => return Vec::new(),
                    PcapBlockOwned::Legacy(block) if block.caplen == block.origlen => {
                        if block.data.len() >= ETHERNET_LEN {
                            found.push(block.data.to_vec());
                        }
                    }
                    PcapBlockOwned::LegacyHeader(_) | PcapBlockOwned::Legacy(_) | PcapBlockOwned::NG(_) => {}
                }
                reader.consume(offset);
            }
            Err(PcapError::Incomplete(_)) => {
                if reader.refill().is_err() {
                    return found;
                }
            }
            Err(_) => return found,
        }
    }
}

/// The addresses of a capture. Those that were sent to first are servers, behind the firewalls.
pub struct Roles {
    servers: BTreeSet<IpAddr>,
}

impl Roles {
    pub fn of(frames: &[Vec<u8>]) -> Self {
        let mut seen = BTreeSet::new();
        let mut servers = BTreeSet::new();
        for frame in frames {
            let Some((source, destination)) = both(frame) else { continue };
            seen.insert(source);
            if seen.insert(destination) && !destination.is_multicast() {
                servers.insert(destination);
            }
        }
        Self { servers }
    }

    /// Routes the servers through the group.
    pub fn route(&self, world: &mut World) {
        for server in &self.servers {
            let set = testbed::peer_set(Family::of(*server));
            world.snapshot.routes.insert((*server).into(), FibEntry::Group { set, preferred: None, bypass: None });
        }
    }

    /// Replays the frames. Frames of a server come from the firewall that its flow was last sent to.
    pub fn play(&self, world: &mut World, frames: &[Vec<u8>]) -> Vec<Decision> {
        let mut firewalls: BTreeMap<Ends, [u8; 6]> = BTreeMap::new();
        let mut log = Vec::new();
        for frame in frames {
            let flow = ends(frame);
            let is_reply = both(frame).is_some_and(|(source, _)| self.servers.contains(&source));
            let (device, from) = if is_reply {
                let first = testbed::firewall_mac(Side::Outer, 0).0;
                (Side::Outer.far(), firewalls.get(&flow).copied().unwrap_or(first))
            } else {
                (Side::Outer.near(), testbed::host_mac(Side::Outer).0)
            };
            let mut bytes = frame.clone();
            // Group-addressed frames stay so.
            if bytes[0] & 1 == 0 {
                bytes[..6].copy_from_slice(&testbed::engine_mac(Side::Outer, device).0);
            }
            bytes[6..12].copy_from_slice(&from);
            let decision = world.process(device, &bytes);
            let to: Option<[u8; 6]> = decision.bytes.get(..6).map(|mac| mac.try_into().expect("six bytes"));
            let is_firewall =
                |mac: &[u8; 6]| (0..FIREWALLS).any(|one| testbed::firewall_mac(Side::Outer, one).0 == *mac);
            if let Some(firewall) = to.filter(is_firewall) {
                firewalls.insert(flow, firewall);
            }
            log.push(decision);
        }
        log
    }
}

fn both(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    addresses(&SlicedPacket::from_ethernet(frame).ok()?)
}
