//! When a member is up: rise, fall, hold, flap damping; and the probes that tell.

pub mod monitor;
pub mod prober;
