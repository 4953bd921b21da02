//! The `fwlb` program: see [`fwlb::cli`].

fn main() {}
