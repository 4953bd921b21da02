//! //! The classic BPF program that decides which frames the kernel queues on a probe socket (Linux
//! `Documentation/networking/filter.rst`).

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

use super::PacketSocketError;
use super::socket::refused;
use crate::io::sockopt;
use crate::wire::frame::tcp_flags;
use crate::wire::{MacAddr, probe};

/// What a verdict about a firewall or a server hangs on, as far as the kernel can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Hardware addresses of the engine on the device; none: the device's own. Beyond [`Wanted::STATIONS_MAX`] frames to any are
    /// given.
    pub stations: Vec<MacAddr>,
    /// Addresses to which checks are answered; of more than [`Wanted::ANSWERS_MAX`] the first.
    pub answers: Vec<IpAddr>,
    /// The ports, and identifiers of echoes, that checks are sent from.
    pub ports: RangeInclusive<u16>,
}

impl Wanted {
    /// So many hardware addresses fit.
    pub const STATIONS_MAX: usize = 8;
    /// So many addresses fit: a jump of the program goes over 255 steps.
    pub const ANSWERS_MAX: usize = 8;
}

const ETHERTYPE: u32 = 12;
const IP: u32 = 14;
const IPV6_HEADER: u32 = 40;
/// Bytes of a UDP header, and of an ICMP echo header.
const TRANSPORT_HEADER: u32 = 8;
/// The packet type of the frame: whether its destination MAC address is this device's (packet(7), `sll_pkttype`).
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
/// `PACKET_HOST`; a promiscuous device also receives frames for other stations.
const TO_THIS_STATION: u32 = 0;
const MAGIC: u32 = u32::from_be_bytes(probe::MAGIC);

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_WORD_BEHIND: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_IND;
const LOAD_HALF_BEHIND: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const LOAD_BYTE_BEHIND: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_IND;
/// Loads four times the low half of a byte: the length of an IPv4 header in bytes.
const LOAD_HEADER_LENGTH: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
const IS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IS_ABOVE: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
const IS_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const HAS_BITS: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const GIVE: u32 = libc::BPF_RET | libc::BPF_K;

const TCP: u32 = libc::IPPROTO_TCP as u32;
const UDP: u32 = libc::IPPROTO_UDP as u32;
const ACK: u32 = tcp_flags::ACK as u32;

/// Where a comparison goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// After so many steps.
    Over(u8),
    /// At a mark.
    Ethertype,
    V4,
    V4Tcp,
    V4Own,
    V4Probe,
    V6,
    V6Tcp,
    V6Own,
    V6Probe,
    Yes,
    No,
}

const NEXT: To = To::Over(0);

/// One instruction: operation, a number, and for a comparison where it goes on if it holds and if it does not.
type Step = (u32, u32, [To; 2]);

/// A program whose jumps go forward only, as the kernel wants them.
#[derive(Debug, Default)]
struct Program {
    steps: Vec<Step>,
    marks: Vec<(To, usize)>,
}

impl Program {
    fn mark(&mut self, mark: To) {
        self.marks.push((mark, self.steps.len()));
    }

    fn load(&mut self, operation: u32, at: u32) {
        self.steps.push((operation, at, [NEXT; 2]));
    }

    fn compare(&mut self, operation: u32, with: u32, yes: To, no: To) {
        self.steps.push((operation, with, [yes, no]));
    }

    /// Goes on at `yes` if what was loaded is within `range`.
    fn within(&mut self, range: &RangeInclusive<u16>, yes: To, no: To) {
        self.compare(IS_AT_LEAST, (*range.start()).into(), NEXT, no);
        self.compare(IS_ABOVE, (*range.end()).into(), no, yes);
    }

    fn finish(self) -> Vec<libc::sock_filter> {
        let steps = self.steps.iter().zip(1usize..);
        let built = steps.map(|(&(operation, k, targets), next)| {
            let code = u16::try_from(operation).expect("operations have 16 bits");
            let [jt, jf] = targets.map(|target| match target {
                To::Over(steps) => steps,
                mark => {
                    let place = self.marks.iter().find(|(name, _)| *name == mark).map_or(next, |(_, place)| *place);
                    u8::try_from(place - next).expect("what is wanted is bounded so that jumps fit")
                }
            });
            libc::sock_filter { code, jt, jf, k }
        });
        built.collect()
    }
}

/// Echoes and UDP datagrams to the engine's stations, whole, whose payload begins as that of a probe; and what may answer a check:
/// TCP with ACK, or an echo reply, to its addresses and ports. An outer VLAN tag is not in the frame any more; what is not in the
/// frame at all ends the program with no.
fn program(wanted: &Wanted) -> Vec<libc::sock_filter> {
    let Wanted { stations, answers, ports } = wanted;
    let answers = &answers[..answers.len().min(Wanted::ANSWERS_MAX)];
    let mut program = Program::default();
    to_stations(&mut program, stations);
    program.mark(To::Ethertype);
    program.load(LOAD_HALF, ETHERTYPE);
    program.compare(IS, libc::ETH_P_IP as u32, To::V4, NEXT);
    program.compare(IS, libc::ETH_P_IPV6 as u32, To::V6, To::No);

    program.mark(To::V4);
    // A fragment.
    program.load(LOAD_HALF, IP + 6);
    program.compare(HAS_BITS, 0x3fff, To::No, NEXT);
    program.load(LOAD_HEADER_LENGTH, IP);
    program.load(LOAD_BYTE, IP + 9);
    program.compare(IS, UDP, To::V4Probe, NEXT);
    program.compare(IS, TCP, To::V4Tcp, NEXT);
    program.compare(IS, libc::IPPROTO_ICMP as u32, NEXT, To::No);
    program.load(LOAD_BYTE_BEHIND, IP);
    program.compare(IS, 8, To::V4Probe, NEXT);
    program.compare(IS, 0, NEXT, To::No);
    program.load(LOAD_HALF_BEHIND, IP + 4);
    program.within(ports, To::V4Own, To::V4Probe);
    program.mark(To::V4Tcp);
    program.load(LOAD_BYTE_BEHIND, IP + 13);
    program.compare(HAS_BITS, ACK, NEXT, To::No);
    program.load(LOAD_HALF_BEHIND, IP + 2);
    program.within(ports, To::V4Own, To::No);
    program.mark(To::V4Own);
    program.load(LOAD_WORD, IP + 16);
    for address in answers {
        if let IpAddr::V4(address) = address {
            program.compare(IS, address.to_bits(), To::Yes, NEXT);
        }
    }
    program.mark(To::V4Probe);
    program.load(LOAD_WORD_BEHIND, IP + TRANSPORT_HEADER);
    program.compare(IS, MAGIC, To::Yes, To::No);

    program.mark(To::V6);
    program.load(LOAD_BYTE, IP + 6);
    program.compare(IS, UDP, To::V6Probe, NEXT);
    program.compare(IS, TCP, To::V6Tcp, NEXT);
    program.compare(IS, libc::IPPROTO_ICMPV6 as u32, NEXT, To::No);
    program.load(LOAD_BYTE, IP + IPV6_HEADER);
    program.compare(IS, 128, To::V6Probe, NEXT);
    program.compare(IS, 129, NEXT, To::No);
    program.load(LOAD_HALF, IP + IPV6_HEADER + 4);
    program.within(ports, To::V6Own, To::V6Probe);
    program.mark(To::V6Tcp);
    program.load(LOAD_BYTE, IP + IPV6_HEADER + 13);
    program.compare(HAS_BITS, ACK, NEXT, To::No);
    program.load(LOAD_HALF, IP + IPV6_HEADER + 2);
    program.within(ports, To::V6Own, To::No);
    program.mark(To::V6Own);
    for address in answers {
        let IpAddr::V6(address) = address else { continue };
        let octets = address.octets();
        let (words, _) = octets.as_chunks::<4>();
        for (word, number) in words.iter().zip(0u8..) {
            program.load(LOAD_WORD, IP + 24 + 4 * u32::from(number));
            let yes = if number == 3 { To::Yes } else { NEXT };
            program.compare(IS, u32::from_be_bytes(*word), yes, To::Over(2 * (3 - number)));
        }
    }
    program.mark(To::V6Probe);
    program.load(LOAD_WORD, IP + IPV6_HEADER + TRANSPORT_HEADER);
    program.compare(IS, MAGIC, To::Yes, To::No);
    program.mark(To::Yes);
    program.load(GIVE, u32::MAX);
    program.mark(To::No);
    program.load(GIVE, 0);
    program.finish()
}

/// Ends the program with no for frames to other stations.
fn to_stations(program: &mut Program, stations: &[MacAddr]) {
    if stations.is_empty() {
        program.load(LOAD_BYTE, PACKET_TYPE);
        program.compare(IS, TO_THIS_STATION, To::Ethertype, To::No);
        return;
    }
    if stations.len() > Wanted::STATIONS_MAX {
        return;
    }
    for MacAddr([a, b, c, d, e, f]) in stations {
        program.load(LOAD_WORD, 0);
        program.compare(IS, u32::from_be_bytes([*a, *b, *c, *d]), NEXT, To::Over(2));
        program.load(LOAD_HALF, 4);
        program.compare(IS, u16::from_be_bytes([*e, *f]).into(), To::Ethertype, NEXT);
    }
    program.compare(IS, 0, To::No, To::No);
}

/// Gives `socket` what is wanted, and nothing else; instead of what was wanted before.
pub(super) fn choose(socket: &OwnedFd, wanted: &Wanted) -> Result<(), PacketSocketError> {
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
        let wanted = Wanted { stations, answers, ports: 512..=1023 };
        assert!(program(&wanted).len() < 255);
    }
}
