//! //! The classic BPF program that decides which frames the kernel queues on a probe socket (Linux
//! `Documentation/networking/filter.rst`).

use std::os::fd::OwnedFd;

use super::OpenError;
use super::socket::refused;
use crate::io::sockopt;
use crate::wire::probe;

/// One instruction: operation, operand, and for a comparison the indexes of the next instruction if it holds and if it
/// does not.
type Step = (u32, u32, [u8; 2]);

const ETHERTYPE: u32 = 12;
const IP: u32 = 14;
const IPV6_HEADER: u32 = 40;
/// Bytes of a UDP header, and of an ICMP echo header.
const TRANSPORT_HEADER: u32 = 8;
/// The packet type of the frame: whether its destination MAC address is this device's (packet(7), `sll_pkttype`).
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
/// `PACKET_HOST`; a promiscuous device also receives frames for other stations.
const TO_THIS_STATION: u32 = 0;

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_WORD_BEHIND: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_IND;
const LOAD_BYTE_BEHIND: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_IND;
/// Loads four times the low half of a byte: the length of an IPv4 header in bytes.
const LOAD_HEADER_LENGTH: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
const IS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const HAS_BITS: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const GIVE: u32 = libc::BPF_RET | libc::BPF_K;

const YES: u8 = 24;
const NO: u8 = 25;
const NEXT: [u8; 2] = [0; 2];

/// Accepts unfragmented ICMP echoes and UDP datagrams that are addressed to this station and whose payload begins with
/// the magic number of a probe. The kernel has already taken an outer VLAN tag out of the frame. A load beyond the end
/// of the frame ends the program and rejects the frame.
const PROBES: [Step; 26] = [
    (LOAD_BYTE, PACKET_TYPE, NEXT),
    (IS, TO_THIS_STATION, [2, NO]),
    (LOAD_HALF, ETHERTYPE, NEXT),
    (IS, libc::ETH_P_IP as u32, [4, 15]),
    // A fragment: the flag "more fragments" or an offset is set.
    (LOAD_HALF, IP + 6, NEXT),
    (HAS_BITS, 0x3fff, [NO, 6]),
    (LOAD_HEADER_LENGTH, IP, NEXT),
    (LOAD_BYTE, IP + 9, NEXT),
    (IS, libc::IPPROTO_UDP as u32, [13, 9]),
    (IS, libc::IPPROTO_ICMP as u32, [10, NO]),
    (LOAD_BYTE_BEHIND, IP, NEXT),
    (IS, 8, [13, 12]),
    (IS, 0, [13, NO]),
    // Instruction 13: the payload of UDP or of an ICMP echo over IPv4.
    (LOAD_WORD_BEHIND, IP + TRANSPORT_HEADER, NEXT),
    (IS, MAGIC, [YES, NO]),
    // Instruction 15: not IPv4.
    (IS, libc::ETH_P_IPV6 as u32, [16, NO]),
    (LOAD_BYTE, IP + 6, NEXT),
    (IS, libc::IPPROTO_UDP as u32, [22, 18]),
    (IS, libc::IPPROTO_ICMPV6 as u32, [19, NO]),
    (LOAD_BYTE, IP + IPV6_HEADER, NEXT),
    (IS, 128, [22, 21]),
    (IS, 129, [22, NO]),
    // Instruction 22: the payload of UDP or of an ICMP echo over IPv6.
    (LOAD_WORD, IP + IPV6_HEADER + TRANSPORT_HEADER, NEXT),
    (IS, MAGIC, [YES, NO]),
    (GIVE, u32::MAX, NEXT),
    (GIVE, 0, NEXT),
];
const MAGIC: u32 = u32::from_be_bytes(probe::MAGIC);

/// Attaches the filter: `socket` receives probes and answers to probes only.
pub(super) fn take_probes_only(socket: &OwnedFd) -> Result<(), OpenError> {
    let mut program: Vec<libc::sock_filter> = Vec::with_capacity(PROBES.len());
    for (&(operation, k, targets), place) in PROBES.iter().zip(1u8..) {
        let code = u16::try_from(operation).expect("operations have 16 bits");
        let [jt, jf] = targets.map(|target| target.saturating_sub(place));
        program.push(libc::sock_filter { code, jt, jf, k });
    }
    let len = u16::try_from(program.len()).expect("the program is short");
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    sockopt::set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
        .map_err(|error| refused("let the kernel choose frames", error))
}
