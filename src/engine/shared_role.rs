//! The role of this node as packet workers see it: one word, compared with the time of each batch.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::DropReason;
use crate::ha::{Forwarding, RoleWord};
use crate::time::Instant;

/// What packet workers may do at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Nothing: what comes for the virtual MAC address is dropped.
    Silent,
    /// Everything: this node is the virtual router.
    Router,
    /// It forwards what still arrives, from the link's own MAC address, and answers for no floating address.
    Lingering,
    /// It was the virtual router, but has sent no hello for so long that another node may have taken over.
    Expired,
}

impl Permission {
    /// Why a packet is dropped that only the virtual router forwards; `None` if it is forwarded.
    pub const fn refusal(self) -> Option<DropReason> {
        match self {
            Self::Router | Self::Lingering => None,
            Self::Silent => Some(DropReason::Standby),
            Self::Expired => Some(DropReason::Lease),
        }
    }
}

/// The role word, which the owner of the role machine stores and packet workers load once per batch.
///
/// The lowest two bits are the permission, the others the end of the lease in nanoseconds, so that no reader sees the
/// one without the other. A worker that loads an old word stops at the end of the old lease.
#[derive(Debug, Default)]
pub struct SharedRole(AtomicU64);

const SILENT: u64 = 0;
const ROUTER: u64 = 1;
const LINGERING: u64 = 2;
const PERMISSION: u64 = 3;

impl SharedRole {
    /// Stores what is allowed from now on.
    pub fn store(&self, word: RoleWord) {
        let permission = match word.forwarding {
            Forwarding::Silent => SILENT,
            Forwarding::Router => ROUTER,
            Forwarding::Lingering => LINGERING,
        };
        // The lease ends up to 3 ns early, never late.
        self.0.store(word.until.as_nanos() & !PERMISSION | permission, Ordering::Release);
    }

    /// What is allowed at `now`.
    #[inline]
    pub fn at(&self, now: Instant) -> Permission {
        let word = self.0.load(Ordering::Acquire);
        match word & PERMISSION {
            SILENT => Permission::Silent,
            _ if now.as_nanos() >= word & !PERMISSION => Permission::Expired,
            ROUTER => Permission::Router,
            _ => Permission::Lingering,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::Role;

    #[test]
    fn a_lease_ends_at_its_instant_and_a_standby_needs_none() {
        let role = SharedRole::default();
        assert_eq!(role.at(Instant::ZERO), Permission::Silent, "before anything is known");
        for (forwarding, permission) in
            [(Forwarding::Router, Permission::Router), (Forwarding::Lingering, Permission::Lingering)]
        {
            role.store(RoleWord { role: Role::Active, forwarding, until: Instant::from_nanos(1000) });
            assert_eq!(role.at(Instant::from_nanos(999)), permission);
            assert_eq!(role.at(Instant::from_nanos(1000)), Permission::Expired);
            role.store(RoleWord { role: Role::Active, forwarding, until: Instant::from_nanos(u64::MAX) });
            assert_eq!(role.at(Instant::from_nanos(u64::MAX / 2)), permission, "no lease");
        }
        role.store(RoleWord { role: Role::Standby, forwarding: Forwarding::Silent, until: Instant::ZERO });
        assert_eq!(role.at(Instant::from_nanos(5)), Permission::Silent);
    }
}
