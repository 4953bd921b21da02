//! The laboratory.
pub mod firewall;
pub mod host;
pub mod packet;
pub mod rng;
pub mod station;
