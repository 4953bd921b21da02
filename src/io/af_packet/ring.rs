//! The memory of a TPACKET_V2 receive ring, shared with the kernel.
//!
//! A slot belongs to the kernel while its status word is 0, and to us while `TP_STATUS_USER` is set in it; only its
//! owner may touch it. The status word hands it over: it is read with Acquire and written with Release.

use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::socket::{PacketSocketError, set_packet};

/// Bytes of one block, the unit in which the kernel allocates a ring.
const BLOCK_BYTES: u32 = 256 * 1024;

/// A receive ring, mapped until it is dropped.
#[derive(Debug)]
pub(super) struct Ring {
    memory: NonNull<u8>,
    bytes: usize,
    slot_bytes: usize,
    slots: usize,
}

/// What the kernel wrote at the head of a slot (`struct tpacket2_hdr`).
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotHeader {
    /// Flags `TP_STATUS_*` of linux/if_packet.h.
    pub status: u32,
    /// Bytes of the frame on the wire.
    pub len: usize,
    /// Bytes of the frame that lie in the slot.
    pub captured: usize,
    /// Offset of the frame in the slot, in bytes.
    pub mac: usize,
    /// When the kernel took the frame from the device: wall-clock time in nanoseconds since 1970.
    pub stamp: u64,
    /// Tag control information.
    pub vlan_tci: u16,
    /// Tag protocol identifier.
    pub vlan_tpid: u16,
}

// SAFETY: the mapping belongs to this value alone, is not tied to a thread, and its data is reached through `&mut
// self`. JUSTIFICATION: the control thread opens receivers and hands them to the workers.
unsafe impl Send for Ring {}

impl Ring {
    /// Gives `socket` a ring of `slots` slots of `slot_bytes` each (a power of two from 256 to 256 KiB) and maps it.
    pub(super) fn map(socket: &OwnedFd, slots: u32, slot_bytes: u32) -> Result<Self, PacketSocketError> {
        assert!(
            slot_bytes.is_power_of_two() && (256..=BLOCK_BYTES).contains(&slot_bytes),
            "slots of whole cache lines"
        );
        let per_block = BLOCK_BYTES / slot_bytes;
        let blocks = slots.div_ceil(per_block).max(1);
        let request = libc::tpacket_req {
            tp_block_size: BLOCK_BYTES,
            tp_block_nr: blocks,
            tp_frame_size: slot_bytes,
            tp_frame_nr: blocks * per_block,
        };
        set_packet(socket, libc::PACKET_RX_RING, &request, "reserve the receive ring")?;
        let bytes = BLOCK_BYTES as usize * blocks as usize;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no other memory; length and descriptor
        // are those of the ring that was just made. JUSTIFICATION: a shared ring exists only as a mapping.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(PacketSocketError::last("map the receive ring"));
        }
        let memory = NonNull::new(memory.cast()).expect("a successful mapping is not at address 0");
        Ok(Self { memory, bytes, slot_bytes: slot_bytes as usize, slots: (blocks * per_block) as usize })
    }

    /// Number of slots.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// The header of a slot that is ours; `None` while the slot is the kernel's.
    pub(super) fn header(&self, slot: usize) -> Option<SlotHeader> {
        let status = self.status(slot).load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: `slot` lies in the mapping (`at` checks it), is aligned to its power-of-two size, and is ours: the
        // kernel does not write it until `release`; the Acquire above orders these reads after its writes. All fields
        // are integers. JUSTIFICATION: the header is memory that the kernel wrote.
        let header = unsafe { self.at(slot).cast::<libc::tpacket2_hdr>().read() };
        Some(SlotHeader {
            status,
            len: header.tp_len as usize,
            captured: header.tp_snaplen as usize,
            mac: usize::from(header.tp_mac),
            stamp: u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec),
            vlan_tci: header.tp_vlan_tci,
            vlan_tpid: header.tp_vlan_tpid,
        })
    }

    /// `len` bytes of a slot from offset `start`; empty if that range does not lie in the slot.
    ///
    /// # Safety
    /// The slot is ours, and no other slice of it lives until it is released.
    pub(super) unsafe fn bytes<'a>(&self, slot: usize, start: usize, len: usize) -> &'a mut [u8] {
        let fits = start.checked_add(len).is_some_and(|end| end <= self.slot_bytes);
        if !fits {
            return &mut [];
        }
        // SAFETY: the range lies in the slot and the slot in the mapping; the caller promises exclusive use.
        // JUSTIFICATION: frames are edited where they lie, which is the point of the ring.
        unsafe { std::slice::from_raw_parts_mut(self.at(slot).add(start).as_ptr(), len) }
    }

    /// Gives a slot back to the kernel.
    pub(super) fn release(&mut self, slot: usize) {
        self.status(slot).store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }

    fn status(&self, slot: usize) -> &AtomicU32 {
        // SAFETY: the status word is the first field of a slot, aligned, inside the mapping that lives as long as
        // `self`, and both sides access it atomically. JUSTIFICATION: it is shared with the kernel.
        unsafe { AtomicU32::from_ptr(self.at(slot).cast::<u32>().as_ptr()) }
    }

    fn at(&self, slot: usize) -> NonNull<u8> {
        assert!(slot < self.slots, "slot numbers wrap at the end of the ring");
        // SAFETY: `slot < slots`, and slots times slot size is the size of the mapping. JUSTIFICATION: pointer
        // arithmetic.
        unsafe { self.memory.add(slot * self.slot_bytes) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping that `map` made; no slice of it outlives the receiver that owns this ring.
        // JUSTIFICATION: mappings are not freed by themselves.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.bytes) };
    }
}
