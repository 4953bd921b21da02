//! 802.1Q tags as metadata: the kernel moves the outer tag of a frame into the header of the receive ring, and the
//! engine keeps it beside the frame.

/// The tag protocol identifier of a customer tag (IEEE 802.1Q).
pub const TPID_CUSTOMER: u16 = 0x8100;
/// The tag protocol identifier of a service tag (IEEE 802.1ad).
pub const TPID_SERVICE: u16 = 0x88a8;

/// One VLAN tag: protocol identifier and control information (IEEE 802.1Q).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanTag {
    /// Tag protocol identifier, usually [`TPID_CUSTOMER`].
    pub tpid: u16,
    /// Tag control information: priority (3 bits), drop eligible (1 bit) and VLAN identifier (12 bits).
    pub tci: u16,
}

impl VlanTag {
    /// A customer tag with the VLAN identifier `vid` and priority 0.
    pub const fn new(vid: u16) -> Self {
        Self { tpid: TPID_CUSTOMER, tci: vid & 0x0fff }
    }

    /// The VLAN identifier, 0 to 4095; 0 means a tag for priority only, 4095 is reserved.
    pub const fn vid(self) -> u16 {
        self.tci & 0x0fff
    }

    /// The tag with another VLAN identifier and the same priority and drop-eligible bits.
    pub const fn with_vid(self, vid: u16) -> Self {
        Self { tpid: self.tpid, tci: (self.tci & 0xf000) | (vid & 0x0fff) }
    }
}
