//! A lane: generator, device under test and sink, each in a namespace, with one virtual cable between neighbours.
//!
//! ```text
//!   gen                     dut                                sink
//!   10.1.0.1  g0 ────── near 10.1.255.254
//!   100.64.0.0/10            far 10.2.255.254 ────── s0  10.2.0.2
//!   behind it                                            10.3.0.2, 10.3.0.3 on the same device
//!                       VIP 10.1.255.80
//! ```
//!
//! Every candidate has a lane of its own and all lanes are alike. So candidates stay ready beside each other and take
//! turns without a restart: sessions live on, and switching costs no part of a measurement.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use fwlb::io::netdev;

use crate::ground::Namespace;
use crate::placement::{self, Placement};

/// MAC address of the generator.
pub const MAC_GEN: [u8; 6] = [0x02, 0xaa, 0, 0, 0, 1];
/// MAC address of the device under test, toward the generator.
pub const MAC_NEAR: [u8; 6] = [0x02, 0xbb, 0, 0, 0, 1];
/// MAC address of the device under test, toward the sink.
pub const MAC_FAR: [u8; 6] = [0x02, 0xbb, 0, 0, 0, 2];
/// MAC address of the sink.
pub const MAC_SINK: [u8; 6] = [0x02, 0xcc, 0, 0, 0, 1];

/// The generator's own address.
pub const GEN: &str = "10.1.0.1";
/// The address of the device under test toward the generator.
pub const NEAR: &str = "10.1.255.254";
/// Its address toward the sink.
pub const FAR: &str = "10.2.255.254";
/// The sink's address on the cable.
pub const SINK: &str = "10.2.0.2";
/// Two servers at the sink, reached through its address on the cable.
pub const SERVERS: [&str; 2] = ["10.3.0.2", "10.3.0.3"];
/// The virtual address of the servers.
pub const VIP: &str = "10.1.255.80";
/// The UDP port of generated packets.
pub const PORT: u16 = 9000;

/// Formats a MAC address.
pub fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A lane, see the module.
#[derive(Debug)]
pub struct Lane {
    /// The generator's namespace; its device is `g0`.
    pub generator: Namespace,
    /// The namespace of the device under test.
    pub dut: Namespace,
    /// The sink's namespace; its device is `s0`.
    pub sink: Namespace,
    /// The device of the device under test toward the generator.
    pub near: String,
    /// Its device toward the sink.
    pub far: String,
    offered: Counter,
    arrived: Counter,
}

impl Lane {
    /// Builds a lane whose receive work is done where `placement` says.
    pub fn new(placement: Placement) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = |role: &str| Namespace::new(&format!("{role}{number}"));
        let (generator, dut, sink) = (namespace("g")?, namespace("d")?, namespace("s")?);
        // Names that no other namespace has, because kernel threads are named after devices.
        let device = |side: char| format!("{side}{:x}_{number}", std::process::id());
        let (near, far) = (device('n'), device('f'));
        let (g, d, s) = (generator.name(), dut.name(), sink.name());
        crate::ground::ip(&format!(
            "link add g0 netns {g} address {} type veth peer name {near} netns {d} address {}\n\
             link add {far} netns {d} address {} type veth peer name s0 netns {s} address {}\n",
            text(MAC_GEN),
            text(MAC_NEAR),
            text(MAC_FAR),
            text(MAC_SINK),
        ))?;
        generator.ip(&format!(
            "link set g0 up\naddress add {GEN}/16 dev g0\nroute add default via {NEAR}\n\
             neighbor replace {NEAR} lladdr {} dev g0\n",
            text(MAC_NEAR)
        ))?;
        dut.ip(&format!("link set {near} up\nlink set {far} up\n"))?;
        sink.ip(&format!(
            "link set s0 up\naddress add {SINK}/16 dev s0\naddress add {}/32 dev s0\naddress add {}/32 dev s0\n\
             route add default via {FAR}\nneighbor replace {FAR} lladdr {} dev s0\n",
            SERVERS[0],
            SERVERS[1],
            text(MAC_FAR)
        ))?;
        // Generated packets are dropped before the sink's stack sees them; everything else, such as ARP, is answered.
        sink.nft(&format!(
            "table netdev sink {{\n chain in {{\n  type filter hook ingress device s0 priority 0; policy accept;\n  \
             udp dport {PORT} counter drop\n }}\n}}\n"
        ))?;
        if placement == Placement::Thr {
            // Frames of a device that leaves segmentation to its peer pass through the peer's NAPI, and so through its
            // thread.
            generator.run("ethtool", &["-K", "g0", "tso", "off"])?;
            sink.run("ethtool", &["-K", "s0", "tso", "off"])?;
        }
        placement::apply(placement, &dut, &[&near, &far])?;
        let offered = Counter::open(&generator, "g0")?;
        let arrived = Counter::open(&sink, "s0")?;
        Ok(Self { generator, dut, sink, near, far, offered, arrived })
    }

    /// Gives the device under test its addresses and routes, as the kernel's candidates need them.
    pub fn address_dut(&self) -> Result<()> {
        let Self { near, far, .. } = self;
        self.dut.ip(&format!(
            "address add {NEAR}/16 dev {near}\naddress add {FAR}/16 dev {far}\n\
             route add 100.64.0.0/10 via {GEN}\nroute add 10.3.0.0/16 via {SINK}\n\
             neighbor replace {GEN} lladdr {} dev {near}\nneighbor replace {SINK} lladdr {} dev {far}\n",
            text(MAC_GEN),
            text(MAC_SINK)
        ))
    }

    /// Keeps the kernel's stack off the device under test, as fwlb does for itself.
    pub fn isolate_dut(&self) -> Result<()> {
        let chain = |name: &str, device: &str| {
            format!(" chain {name} {{ type filter hook ingress device {device} priority 0; policy drop; }}\n")
        };
        self.dut.nft(&format!(
            "table netdev isolation {{\n{}{}}}\n",
            chain("near", &self.near),
            chain("far", &self.far)
        ))
    }

    /// Number of packets so far that were handed to the generator's device, whether or not it took them.
    pub fn offered(&self) -> Result<u64> {
        let counts = self.offered.read()?;
        Ok(counts.sent + counts.not_sent)
    }

    /// Number of packets so far that arrived at the sink.
    pub fn arrived(&self) -> Result<u64> {
        Ok(self.arrived.read()?.received)
    }

    /// Number of generated packets so far that the sink's filter dropped; it drops nothing else.
    pub fn taken_out(&self) -> Result<u64> {
        let listing = self.sink.run("nft", &["list", "table", "netdev", "sink"])?;
        let count = listing.split("packets ").nth(1).and_then(|rest| rest.split_whitespace().next());
        count.and_then(|count| count.parse().ok()).with_context(|| format!("no counter in: {listing}"))
    }

    /// The index of the generator's device, in its namespace.
    pub fn generator_index(&self) -> Result<u32> {
        self.generator.inside(|| Ok(netdev::find("g0").context("the generator's device is gone")?.index))
    }

    /// The index of the sink's device, in its namespace.
    pub fn sink_index(&self) -> Result<u32> {
        self.sink.inside(|| Ok(netdev::find("s0").context("the sink's device is gone")?.index))
    }
}

/// The counters of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    received: u64,
    sent: u64,
    not_sent: u64,
}

/// The counters of one device: a file that was opened in its namespace, so that reading it needs no change of
/// namespace.
#[derive(Debug)]
struct Counter {
    file: File,
    device: &'static str,
}

impl Counter {
    fn open(namespace: &Namespace, device: &'static str) -> Result<Self> {
        let file = namespace.inside(|| Ok(File::open("/proc/thread-self/net/dev")?))?;
        Ok(Self { file, device })
    }

    fn read(&self) -> Result<Counts> {
        let mut buffer = [0; 4096];
        let length = self.file.read_at(&mut buffer, 0)?;
        let text = String::from_utf8_lossy(&buffer[..length]);
        let mut lines = text.lines().filter_map(|line| line.trim().split_once(':'));
        let (_, line) = lines.find(|(name, _)| *name == self.device).context("the device is gone")?;
        // Eight columns for received frames, then for sent ones: bytes, packets, errors, dropped, ...
        // (proc_net_dev(5)).
        let columns: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let column = |number: usize| columns.get(number).copied().context("fewer columns than /proc/net/dev has");
        Ok(Counts { received: column(1)?, sent: column(9)?, not_sent: column(11)? })
    }
}
