//! 802.1Q tags as metadata: the kernel strips the outer tag into the ring's header, the engine keeps it there.

/// The tag protocol identifier of a customer tag (IEEE 802.1Q).
pub const TPID_CUSTOMER: u16 = 0x8100;
/// The tag protocol identifier of a service tag (IEEE 802.1ad).
pub const TPID_SERVICE: u16 = 0x88a8;

/// One tag: protocol identifier and control information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanTag {
    /// Tag protocol identifier, [`TPID_CUSTOMER`] as a rule.
    pub tpid: u16,
    /// Priority (3 bits), drop eligible (1 bit), VLAN identifier (12 bits).
    pub tci: u16,
}

impl VlanTag {
    /// A customer tag for `vid` with priority 0.
    pub const fn new(vid: u16) -> Self {
        Self { tpid: TPID_CUSTOMER, tci: vid & 0x0fff }
    }

    /// VLAN identifier, 0..=4095; 0 means "no VLAN, priority only", 4095 is reserved.
    pub const fn vid(self) -> u16 {
        self.tci & 0x0fff
    }

    /// The same priority and drop-eligible bits with another VLAN identifier.
    pub const fn with_vid(self, vid: u16) -> Self {
        Self { tpid: self.tpid, tci: (self.tci & 0xf000) | (vid & 0x0fff) }
    }
}
