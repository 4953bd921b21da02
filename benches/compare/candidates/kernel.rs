//! The kernel: as a router, and with nftables as a load balancer.

use anyhow::Result;

use crate::lane::{Lane, SERVERS, VIP};

/// Routes.
pub(super) fn forward(lane: &Lane) -> Result<()> {
    lane.address_dut()?;
    lane.dut.sysctl(&["net.ipv4.ip_forward=1"])
}

/// Routes, and distributes the VIP's connections over the servers: destination NAT by a hash of source address and
/// port, with conntrack and a stateful filter, as a load balancer of this kind is built.
pub(super) fn balance(lane: &Lane) -> Result<()> {
    forward(lane)?;
    lane.dut.ip(&format!("address add {VIP}/32 dev {}\n", lane.near))?;
    let [first, second] = SERVERS;
    let spread =
        |port: &str| format!("dnat to jhash ip saddr . {port} sport mod 2 map {{ 0 : {first}, 1 : {second} }}");
    lane.dut.nft(&format!(
        "table ip balance {{\n\
         chain before {{\n type nat hook prerouting priority -100; policy accept;\n\
         ip daddr {VIP} meta l4proto udp {}\n ip daddr {VIP} meta l4proto tcp {}\n }}\n\
         chain through {{\n type filter hook forward priority 0; policy accept;\n\
         ct state established,related accept\n }}\n}}\n",
        spread("udp"),
        spread("tcp")
    ))?;
    // A benchmark closes ten thousand connections a second: closed ones must not fill the table, which all namespaces
    // share.
    lane.dut.sysctl(&["net.netfilter.nf_conntrack_tcp_timeout_time_wait=1"])
}
