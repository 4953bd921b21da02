//! The sandwich on real packets: engines, the kernel's own strict firewalls and ordinary hosts in network namespaces.
//!
//! The result is judged independently of the engines, by the firewalls' INVALID and new-not-SYN counters, and by what
//! the programs of the hosts observe. Every test builds its own lab and removes it, even after a panic. At its end the
//! counters of both engines must add up. The tests need root; with `FWLB_TEST_NO_ROOT=1` they are skipped.

mod baseline;
mod capture;
mod commands;
mod confinement;
mod failure;
mod flood;
mod ground;
mod idle;
mod laboratory;
mod pairs;
mod placement;
mod related;
mod reload;
mod router;
mod services;
mod traffic;
mod tunnel;
mod upgrade;
mod withheld;
mod workers;
mod xdp;
