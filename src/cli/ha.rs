//! `fwlb ha`: the cluster, and who of it is active.

mod failover;
mod key;
mod maintenance;
mod resync;
mod status;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::engines::EngineSelection;

/// Say which node of a cluster is active, and change it
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Who is active and who could take over; exit status 1 unless there is both
    ///
    /// It is 1 too if an engine did not answer. A node of `kind = "vrrp"` counts as one that could take over although
    /// nothing is heard of it: a router of VRRP alone speaks while it is active only.
    Status,
    Failover(failover::Args),
    /// Take this node out of the election: it gives the active role away and takes it no more, also after a restart
    Maint(maintenance::Args),
    /// End maintenance: this node may be active again
    Ready(maintenance::Args),
    /// Tell the other nodes all sessions again that they need copies of, on the active node
    Resync(resync::Args),
    Key(key::Args),
}

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Status => status::run(selection),
        What::Failover(args) => failover::run(args, selection),
        What::Maint(args) => maintenance::run(args, true, selection),
        What::Ready(args) => maintenance::run(args, false, selection),
        What::Resync(args) => resync::run(args, selection),
        What::Key(args) => key::run(args, selection.json),
    }
}
