//! Every row of the table.

use crate::table::{Goal, Row, Sense, Unit};

const FORWARDING: &str = "60-byte forwarding, 10 k flows";
const FORWARDING_1M: &str = "60-byte forwarding, 1 M flows";
const TESTPMD: &str = "DPDK testpmd net_af_packet, mac";
const MINIMAL: &str = "minimal forwarder, same ring";
const SAME_SENDING: &str = "minimal forwarder, same sending";
const SPLIT: &str = "split";
const THR: &str = "thr";
const BEST: &str = "best of each";
const ENDS: &str = "ends core 0";

const fn row(
    id: &'static str,
    what: &'static str,
    against: &'static str,
    placement: &'static str,
    goal: Goal,
    quick: bool,
) -> Row {
    Row { id, what, against, placement, goal, quick }
}

const fn testpmd(id: &'static str, what: &'static str, placement: &'static str, quick: bool) -> Row {
    row(id, what, TESTPMD, placement, Goal::ratio(1.0, Some(1.2)), quick)
}

const fn minimal(id: &'static str, what: &'static str, placement: &'static str, quick: bool) -> Row {
    row(id, what, MINIMAL, placement, Goal::ratio(0.85, Some(0.95)), quick)
}

const fn memory(id: &'static str, what: &'static str, goal: Goal) -> Row {
    row(id, what, "absolute", "in memory, core 1", goal, true)
}

/// All rows, in the order in which they are printed.
pub const ROWS: &[Row] = &[
    testpmd("forward-split-10k-testpmd", FORWARDING, SPLIT, true),
    minimal("forward-split-10k-minimal", FORWARDING, SPLIT, true),
    row("forward-split-10k-price", FORWARDING, SAME_SENDING, SPLIT, Goal::none(), false),
    testpmd("forward-split-1m-testpmd", FORWARDING_1M, SPLIT, false),
    minimal("forward-split-1m-minimal", FORWARDING_1M, SPLIT, false),
    row("forward-split-1m-price", FORWARDING_1M, SAME_SENDING, SPLIT, Goal::none(), false),
    testpmd("forward-thr-10k-testpmd", FORWARDING, THR, true),
    minimal("forward-thr-10k-minimal", FORWARDING, THR, true),
    testpmd("forward-thr-1m-testpmd", FORWARDING_1M, THR, false),
    minimal("forward-thr-1m-minimal", FORWARDING_1M, THR, false),
    row("loss-free-split", "loss-free rate, 0 loss over 5 s", TESTPMD, SPLIT, Goal::ratio(1.0, None), false),
    row(
        "overload-thr",
        "forwarded at 2 x the loss-free rate",
        "own loss-free rate",
        THR,
        Goal::ratio(0.7, None),
        false,
    ),
    row(
        "nat-nftables",
        "60-byte with NAT, 10 k flows",
        "nftables DNAT with conntrack",
        BEST,
        Goal::ratio(0.5, Some(1.0)),
        true,
    ),
    row(
        "xdp-split",
        "60-byte, io = \"af-xdp\", 10 k flows",
        "DPDK testpmd net_af_xdp, mac",
        SPLIT,
        Goal::ratio(1.0, Some(1.2)),
        false,
    ),
    row("bulk-forward", "TCP bulk", "kernel ip_forward with GSO", ENDS, Goal::ratio(0.6, Some(0.8)), true),
    row("bulk-haproxy", "TCP bulk", "HAProxy, mode tcp", ENDS, Goal::ratio(1.5, None), true),
    row("bulk-nat-forward", "TCP bulk with NAT", "kernel ip_forward with GSO", ENDS, Goal::ratio(0.6, Some(0.8)), true),
    row("bulk-nat-haproxy", "TCP bulk with NAT", "HAProxy, mode tcp", ENDS, Goal::ratio(1.5, None), true),
    row("http-haproxy", "short HTTP connections with NAT", "HAProxy, mode tcp", ENDS, Goal::ratio(2.0, None), true),
    row(
        "http-nftables",
        "short HTTP connections with NAT",
        "nftables DNAT with conntrack",
        ENDS,
        Goal::ratio(0.5, Some(0.8)),
        true,
    ),
    row("http-wrk-haproxy", "the same, by wrk and nginx", "HAProxy, mode tcp", ENDS, Goal::none(), false),
    row("http-wrk-nftables", "the same, by wrk and nginx", "nftables DNAT with conntrack", ENDS, Goal::none(), false),
    row(
        "round-trip-poll",
        "round trip added, p50, poll",
        "kernel ip_forward",
        ENDS,
        Goal::at_most(20.0, Unit::Microseconds),
        true,
    ),
    row(
        "round-trip-busy",
        "round trip added, p50, busy-poll",
        "kernel ip_forward",
        ENDS,
        Goal::at_most(8.0, Unit::Microseconds),
        true,
    ),
    memory("memory-skewed", "hit, 90 % on 2,000 of 1 M sessions", Goal::at_most(120.0, Unit::Nanoseconds)),
    Row {
        quick: false,
        ..memory("memory-uniform", "hit, uniform over 1 M sessions", Goal::at_most(250.0, Unit::Nanoseconds))
    },
    memory(
        "memory-new",
        "new sessions",
        Goal { sense: Sense::AtLeast, goal: 1e6, stretch: None, unit: Unit::PerSecond },
    ),
    Row {
        quick: false,
        ..memory("memory-session", "memory per session, IPv4 with NAT", Goal::at_most(192.0, Unit::Bytes))
    },
    Row {
        quick: false,
        ..memory(
            "memory-10m",
            "memory of 10 M sessions, IPv4 with NAT",
            Goal::at_most((2u64 << 30) as f64, Unit::Bytes),
        )
    },
    memory("allocations", "allocations per packet on a hit", Goal::at_most(0.0, Unit::Allocations)),
];
