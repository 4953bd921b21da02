//! The sandwich on real packets: engines, the kernel's own strict firewalls and ordinary hosts in network namespaces.
//!
//! The judges stand apart from the engines: the firewalls' INVALID and new-not-SYN counters, and what the hosts' programs
//! lived through. Every test builds its own laboratory and removes it, also when it panics; at the end of each, both engines'
//! counters have to add up. Needs root; `FWLB_TEST_NO_ROOT=1` lets the tests pass over.

mod baseline;
mod capture;
mod commands;
mod confinement;
mod failure;
mod flood;
mod ground;
mod idle;
mod laboratory;
mod placement;
mod reload;
mod router;
mod services;
mod traffic;
mod tunnel;
mod workers;
mod xdp;
