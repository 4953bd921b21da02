//! HAProxy as a TCP proxy with one thread.

use std::path::Path;

use anyhow::Result;

use crate::ground;
use crate::lane::{Lane, SERVERS, VIP};
use crate::placement::DUT_CORE;
use crate::process::Process;

/// The ports that are proxied: HTTP and iperf3.
const PORTS: [u16; 2] = [80, 5201];

pub(super) fn start(lane: &Lane, directory: &Path) -> Result<Process> {
    lane.address_dut()?;
    lane.dut.ip(&format!("address add {VIP}/32 dev {}\n", lane.near))?;
    // The range of ports for its own connections to the servers.
    lane.dut.sysctl(&[
        "net.ipv4.ip_local_port_range=1024 65535",
        "net.ipv4.tcp_tw_reuse=1",
        "net.core.somaxconn=4096",
    ])?;
    let path = directory.join(format!("{}-haproxy.cfg", lane.dut.name()));
    let proxies: String = PORTS
        .iter()
        .map(|port| {
            format!(
                "\nlisten port{port}\n bind {VIP}:{port}\n balance roundrobin\n server s0 {}:{port}\n server s1 {}:{port}\n",
                SERVERS[0], SERVERS[1]
            )
        })
        .collect();
    let text = format!(
        "global\n nbthread 1\n maxconn 2000\n\ndefaults\n mode tcp\n option splice-auto\n timeout connect 5s\n \
         timeout client 30s\n timeout server 30s\n{proxies}"
    );
    std::fs::write(&path, text)?;
    let words = ["-db", "-f", &path.to_string_lossy()];
    let mut process = Process::start(directory, &lane.dut, DUT_CORE, Path::new("haproxy"), &words)?;
    ground::pause(300)?;
    process.lives()?;
    Ok(process)
}
