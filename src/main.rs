//! The `fwlb` program: see [`fwlb::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    fwlb::cli::run(std::env::args_os())
}
