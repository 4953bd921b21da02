//! The classic BPF program that decides which frames the kernel queues on a probe socket (Linux
//! `Documentation/networking/filter.rst`).

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

use super::PacketSocketError;
use super::socket::refused;
use crate::io::sockopt;
use crate::wire::frame::tcp_flags;
use crate::wire::{MacAddr, probe};

/// What a probe socket receives: path probes, and the answers to health checks, as far as the kernel can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeFilter {
    /// Hardware addresses of the engine on the device; none: the device's own. If there are more than
    /// [`ProbeFilter::MACS_MAX`], frames to any address are queued.
    pub macs: Vec<MacAddr>,
    /// Addresses to which checks are answered; of more than [`ProbeFilter::ADDRESSES_MAX`], only the first are used.
    pub addresses: Vec<IpAddr>,
    /// The ports, and identifiers of echo requests, from which checks are sent.
    pub ports: RangeInclusive<u16>,
}

impl ProbeFilter {
    /// Number of hardware addresses that fit into the program.
    pub const MACS_MAX: usize = 8;
    /// Number of addresses that fit: a jump of the program skips 255 instructions at most.
    pub const ADDRESSES_MAX: usize = 8;
}

const ETHERTYPE: u32 = 12;
const IP: u32 = 14;
const IPV6_HEADER: u32 = 40;
/// Bytes of a UDP header, and of an ICMP echo header.
const TRANSPORT_HEADER: u32 = 8;
/// The packet type of the frame: whether its destination MAC address is this device's (packet(7), `sll_pkttype`).
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
/// `PACKET_HOST`; a promiscuous device also receives frames for other stations.
const FOR_THIS_HOST: u32 = 0;
const MAGIC: u32 = u32::from_be_bytes(probe::MAGIC);

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_WORD_INDEXED: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_IND;
const LOAD_HALF_INDEXED: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const LOAD_BYTE_INDEXED: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_IND;
/// Loads four times the low half of a byte: the length of an IPv4 header in bytes.
const LOAD_HEADER_LENGTH: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_IF_ABOVE: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
const JUMP_IF_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const JUMP_IF_BITS: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

const TCP: u32 = libc::IPPROTO_TCP as u32;
const UDP: u32 = libc::IPPROTO_UDP as u32;
const ACK: u32 = tcp_flags::ACK as u32;

/// Where the program goes on after a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JumpTarget {
    /// After skipping this number of instructions.
    Skip(u8),
    /// At a label.
    Ethertype,
    V4,
    V4Tcp,
    V4Own,
    V4Probe,
    V6,
    V6Tcp,
    V6Own,
    V6Probe,
    Accept,
    Reject,
}

const NEXT: JumpTarget = JumpTarget::Skip(0);

/// One instruction: operation, operand, and for a comparison where to go on if it holds and if it does not.
type Instruction = (u32, u32, [JumpTarget; 2]);

/// A program whose jumps all go forward, as the kernel requires.
#[derive(Debug, Default)]
struct Program {
    instructions: Vec<Instruction>,
    labels: Vec<(JumpTarget, usize)>,
}

impl Program {
    fn label(&mut self, mark: JumpTarget) {
        self.labels.push((mark, self.instructions.len()));
    }

    fn load(&mut self, operation: u32, at: u32) {
        self.instructions.push((operation, at, [NEXT; 2]));
    }

    fn compare(&mut self, operation: u32, with: u32, yes: JumpTarget, no: JumpTarget) {
        self.instructions.push((operation, with, [yes, no]));
    }

    /// Goes on at `yes` if what was loaded is within `range`.
    fn within(&mut self, range: &RangeInclusive<u16>, yes: JumpTarget, no: JumpTarget) {
        self.compare(JUMP_IF_AT_LEAST, (*range.start()).into(), NEXT, no);
        self.compare(JUMP_IF_ABOVE, (*range.end()).into(), no, yes);
    }

    fn finish(self) -> Vec<libc::sock_filter> {
        let steps = self.instructions.iter().zip(1usize..);
        let built = steps.map(|(&(operation, k, targets), next)| {
            let code = u16::try_from(operation).expect("operations have 16 bits");
            let [jt, jf] = targets.map(|target| match target {
                JumpTarget::Skip(steps) => steps,
                mark => {
                    let place = self.labels.iter().find(|(name, _)| *name == mark).map_or(next, |(_, place)| *place);
                    u8::try_from(place - next).expect("what is wanted is bounded so that jumps fit")
                }
            });
            libc::sock_filter { code, jt, jf, k }
        });
        built.collect()
    }
}

/// Accepts whole ICMP echo requests and replies and UDP datagrams to the engine's MAC addresses whose payload begins as
/// that of a probe; and what may answer a check: TCP with ACK, or an echo reply, to its addresses and ports. An outer
/// VLAN tag has been taken out of the frame. A frame that is too short for a load is rejected.
fn program(wanted: &ProbeFilter) -> Vec<libc::sock_filter> {
    let ProbeFilter { macs: stations, addresses: answers, ports } = wanted;
    let answers = &answers[..answers.len().min(ProbeFilter::ADDRESSES_MAX)];
    let mut program = Program::default();
    match_macs(&mut program, stations);
    program.label(JumpTarget::Ethertype);
    program.load(LOAD_HALF, ETHERTYPE);
    program.compare(JUMP_IF_EQUAL, libc::ETH_P_IP as u32, JumpTarget::V4, NEXT);
    program.compare(JUMP_IF_EQUAL, libc::ETH_P_IPV6 as u32, JumpTarget::V6, JumpTarget::Reject);

    program.label(JumpTarget::V4);
    // A fragment.
    program.load(LOAD_HALF, IP + 6);
    program.compare(JUMP_IF_BITS, 0x3fff, JumpTarget::Reject, NEXT);
    program.load(LOAD_HEADER_LENGTH, IP);
    program.load(LOAD_BYTE, IP + 9);
    program.compare(JUMP_IF_EQUAL, UDP, JumpTarget::V4Probe, NEXT);
    program.compare(JUMP_IF_EQUAL, TCP, JumpTarget::V4Tcp, NEXT);
    program.compare(JUMP_IF_EQUAL, libc::IPPROTO_ICMP as u32, NEXT, JumpTarget::Reject);
    program.load(LOAD_BYTE_INDEXED, IP);
    program.compare(JUMP_IF_EQUAL, 8, JumpTarget::V4Probe, NEXT);
    program.compare(JUMP_IF_EQUAL, 0, NEXT, JumpTarget::Reject);
    program.load(LOAD_HALF_INDEXED, IP + 4);
    program.within(ports, JumpTarget::V4Own, JumpTarget::V4Probe);
    program.label(JumpTarget::V4Tcp);
    program.load(LOAD_BYTE_INDEXED, IP + 13);
    program.compare(JUMP_IF_BITS, ACK, NEXT, JumpTarget::Reject);
    program.load(LOAD_HALF_INDEXED, IP + 2);
    program.within(ports, JumpTarget::V4Own, JumpTarget::Reject);
    program.label(JumpTarget::V4Own);
    program.load(LOAD_WORD, IP + 16);
    for address in answers {
        if let IpAddr::V4(address) = address {
            program.compare(JUMP_IF_EQUAL, address.to_bits(), JumpTarget::Accept, NEXT);
        }
    }
    program.label(JumpTarget::V4Probe);
    program.load(LOAD_WORD_INDEXED, IP + TRANSPORT_HEADER);
    program.compare(JUMP_IF_EQUAL, MAGIC, JumpTarget::Accept, JumpTarget::Reject);

    program.label(JumpTarget::V6);
    program.load(LOAD_BYTE, IP + 6);
    program.compare(JUMP_IF_EQUAL, UDP, JumpTarget::V6Probe, NEXT);
    program.compare(JUMP_IF_EQUAL, TCP, JumpTarget::V6Tcp, NEXT);
    program.compare(JUMP_IF_EQUAL, libc::IPPROTO_ICMPV6 as u32, NEXT, JumpTarget::Reject);
    program.load(LOAD_BYTE, IP + IPV6_HEADER);
    program.compare(JUMP_IF_EQUAL, 128, JumpTarget::V6Probe, NEXT);
    program.compare(JUMP_IF_EQUAL, 129, NEXT, JumpTarget::Reject);
    program.load(LOAD_HALF, IP + IPV6_HEADER + 4);
    program.within(ports, JumpTarget::V6Own, JumpTarget::V6Probe);
    program.label(JumpTarget::V6Tcp);
    program.load(LOAD_BYTE, IP + IPV6_HEADER + 13);
    program.compare(JUMP_IF_BITS, ACK, NEXT, JumpTarget::Reject);
    program.load(LOAD_HALF, IP + IPV6_HEADER + 2);
    program.within(ports, JumpTarget::V6Own, JumpTarget::Reject);
    program.label(JumpTarget::V6Own);
    for address in answers {
        let IpAddr::V6(address) = address else { continue };
        let octets = address.octets();
        let (words, _) = octets.as_chunks::<4>();
        for (word, number) in words.iter().zip(0u8..) {
            program.load(LOAD_WORD, IP + 24 + 4 * u32::from(number));
            let yes = if number == 3 { JumpTarget::Accept } else { NEXT };
            program.compare(JUMP_IF_EQUAL, u32::from_be_bytes(*word), yes, JumpTarget::Skip(2 * (3 - number)));
        }
    }
    program.label(JumpTarget::V6Probe);
    program.load(LOAD_WORD, IP + IPV6_HEADER + TRANSPORT_HEADER);
    program.compare(JUMP_IF_EQUAL, MAGIC, JumpTarget::Accept, JumpTarget::Reject);
    program.label(JumpTarget::Accept);
    program.load(RETURN, u32::MAX);
    program.label(JumpTarget::Reject);
    program.load(RETURN, 0);
    program.finish()
}

/// Rejects frames to other MAC addresses.
fn match_macs(program: &mut Program, stations: &[MacAddr]) {
    if stations.is_empty() {
        program.load(LOAD_BYTE, PACKET_TYPE);
        program.compare(JUMP_IF_EQUAL, FOR_THIS_HOST, JumpTarget::Ethertype, JumpTarget::Reject);
        return;
    }
    if stations.len() > ProbeFilter::MACS_MAX {
        return;
    }
    for MacAddr([a, b, c, d, e, f]) in stations {
        program.load(LOAD_WORD, 0);
        program.compare(JUMP_IF_EQUAL, u32::from_be_bytes([*a, *b, *c, *d]), NEXT, JumpTarget::Skip(2));
        program.load(LOAD_HALF, 4);
        program.compare(JUMP_IF_EQUAL, u16::from_be_bytes([*e, *f]).into(), JumpTarget::Ethertype, NEXT);
    }
    program.compare(JUMP_IF_EQUAL, 0, JumpTarget::Reject, JumpTarget::Reject);
}

/// Gives `socket` the filter `wanted` instead of the one that it had before.
pub(super) fn attach_probe_filter(socket: &OwnedFd, wanted: &ProbeFilter) -> Result<(), PacketSocketError> {
    let mut program = program(wanted);
    let len = u16::try_from(program.len()).expect("the program is short");
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    sockopt::set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
        .map_err(|error| refused("let the kernel choose frames", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_program_still_jumps_far_enough() {
        let stations = (0..8).map(|number| MacAddr([2, 0, 0, 0, 0, number])).collect();
        let answers = (0..9u16).map(|number| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, number])).collect();
        let wanted = ProbeFilter { macs: stations, addresses: answers, ports: 512..=1023 };
        assert!(program(&wanted).len() < 255);
    }
}
