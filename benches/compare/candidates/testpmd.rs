//! DPDK's testpmd in `mac` mode: it looks at no header, writes both MAC addresses and sends.

use std::path::Path;

use anyhow::Result;

use crate::ground;
use crate::lane::{self, Lane};
use crate::process::Process;

/// Memory without huge pages, in MiB.
const MEMORY: &str = "512";

pub(super) fn start(lane: &Lane, xdp: bool, directory: &Path) -> Result<Process> {
    if !xdp {
        // fwlb does the same for itself; with AF_XDP no frame reaches the kernel's stack.
        lane.isolate_dut()?;
    }
    let device = |number: u32, device: &str| match xdp {
        true => format!("net_af_xdp{number},iface={device}"),
        // The size of fwlb's ring: 8192 frames of 2 KiB.
        false => format!("eth_af_packet{number},iface={device},blocksz=262144,framesz=2048,framecnt=8192"),
    };
    let prefix = format!("--file-prefix={}", lane.dut.name());
    let peers = [lane::MAC_GEN, lane::MAC_SINK].map(lane::text);
    let words = [
        // Otherwise it buffers its output to a file.
        "-oL",
        "dpdk-testpmd",
        "--no-huge",
        "-m",
        MEMORY,
        "--no-pci",
        "--iova-mode=va",
        "--no-telemetry",
        &prefix,
        // The first core only waits; the second one forwards.
        "-l",
        "0,1",
        "--main-lcore",
        "0",
        &format!("--vdev={}", device(0, &lane.near)),
        &format!("--vdev={}", device(1, &lane.far)),
        "--",
        "--forward-mode=mac",
        "--auto-start",
        "--nb-cores=1",
        "--total-num-mbufs=16384",
        "--no-mlockall",
        &format!("--eth-peer=0,{}", peers[0]),
        &format!("--eth-peer=1,{}", peers[1]),
    ];
    // It pins its threads to its two cores itself, so it starts on the first one.
    let mut process = Process::start_on(directory, &lane.dut, "0,1", Path::new("stdbuf"), &words)?;
    ground::wait_until(15_000, "testpmd does not start", || {
        process.lives()?;
        Ok(process.has_said("Press enter to exit"))
    })?;
    Ok(process)
}
