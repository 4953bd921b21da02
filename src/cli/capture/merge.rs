//! Merges the captures of several engines into one file: interfaces are numbered anew, frames are ordered by time, and
//! the counts are at the end.

use std::collections::BTreeMap;

use crate::wire::pcapng::{self, BlockKind, NotABlock};

/// Merges the captures, see the module.
#[derive(Debug)]
pub(super) struct Merge {
    engines: Vec<Stream>,
    has_section: bool,
    interfaces: u32,
    /// Frames by time and order of arrival, held back until those of the other engines have arrived.
    held: BTreeMap<(u64, u64), Vec<u8>>,
    /// Frames up to this time had arrived at the last release.
    release_until: Option<u64>,
    statistics: Vec<u8>,
    frames: u64,
    arrived: u64,
    lost: u64,
    frames_max: Option<u64>,
}

/// One engine's capture.
#[derive(Debug, Default)]
struct Stream {
    /// Bytes of a block that has not arrived completely.
    partial_block: Vec<u8>,
    /// Numbers of its interfaces in the file.
    interfaces: Vec<u32>,
}

impl Merge {
    /// Merges this many captures, up to `enough` frames.
    pub(super) fn new(engines: usize, enough: Option<u64>) -> Self {
        Self {
            engines: std::iter::repeat_with(Stream::default).take(engines).collect(),
            has_section: false,
            interfaces: 0,
            held: BTreeMap::new(),
            release_until: None,
            statistics: Vec::new(),
            frames: 0,
            arrived: 0,
            lost: 0,
            frames_max: enough,
        }
    }

    /// Takes bytes from engine number `engine`, and appends to `out` what can be written.
    pub(super) fn add(&mut self, engine: usize, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), NotABlock> {
        let mut rest = std::mem::take(&mut self.engines[engine].partial_block);
        rest.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(block) = pcapng::next_block(&rest[at..])? {
            at += block.bytes().len();
            let stream = &mut self.engines[engine];
            let known = |interface: u32| stream.interfaces.get(interface as usize).copied();
            match block.kind {
                BlockKind::Section if self.has_section => {}
                BlockKind::Section => {
                    self.has_section = true;
                    block.write(0, out);
                }
                BlockKind::Interface => {
                    stream.interfaces.push(self.interfaces);
                    self.interfaces += 1;
                    block.write(0, out);
                }
                BlockKind::Packet { interface, at } => {
                    let Some(interface) = known(interface) else { continue };
                    let mut packet = Vec::with_capacity(block.bytes().len());
                    block.write(interface, &mut packet);
                    self.arrived += 1;
                    self.held.insert((at, self.arrived), packet);
                }
                BlockKind::Statistics { interface, received: _, dropped } => {
                    let Some(interface) = known(interface) else { continue };
                    self.lost += dropped;
                    block.write(interface, &mut self.statistics);
                }
                BlockKind::Other => {}
            }
        }
        rest.drain(..at);
        self.engines[engine].partial_block = rest;
        if self.engines.len() == 1 {
            self.write_until(u64::MAX, out);
        }
        Ok(())
    }

    /// Time has passed: writes the frames that had arrived at the last release.
    pub(super) fn release(&mut self, out: &mut Vec<u8>) {
        if let Some(mark) = self.release_until {
            self.write_until(mark, out);
        }
        self.release_until = self.held.last_key_value().map(|((at, _), _)| *at);
    }

    /// Writes all remaining frames, and the counts.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.write_until(u64::MAX, out);
        out.append(&mut self.statistics);
    }

    /// Whether as many frames have been written as were asked for.
    pub(super) fn is_enough(&self) -> bool {
        self.frames_max.is_some_and(|enough| self.frames + self.held.len() as u64 >= enough)
    }

    /// Number of frames that were written.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Number of frames that the engines had no room for.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    fn write_until(&mut self, until: u64, out: &mut Vec<u8>) {
        while let Some(first) = self.held.first_entry()
            && first.key().0 <= until
        {
            let packet = first.remove();
            if self.frames_max.is_none_or(|enough| self.frames < enough) {
                self.frames += 1;
                out.extend_from_slice(&packet);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MacAddr;
    use crate::wire::pcapng::{CaptureDirection, CaptureInterface, CapturedPacket, InterfaceStatistics};

    /// What an engine with one link sends: frames at these times, then its counts.
    fn engine(name: &str, times: &[u64], dropped: u64) -> Vec<u8> {
        let mut out = Vec::new();
        pcapng::section(&mut out, "test");
        pcapng::interface(&mut out, &CaptureInterface { name, description: "", mac: MacAddr::default(), snaplen: 0 });
        for at in times {
            let bytes = &[0; 60];
            let direction = CaptureDirection::Inbound;
            let frame =
                CapturedPacket { interface: 0, at: *at, direction, vlan: None, bytes, length: 60, comment: name };
            pcapng::packet(&mut out, &frame);
        }
        let counts = InterfaceStatistics { interface: 0, from: 0, to: 0, received: times.len() as u64, dropped };
        pcapng::statistics(&mut out, &counts);
        out
    }

    fn kinds(file: &[u8]) -> Vec<BlockKind> {
        let mut kinds = Vec::new();
        let mut rest = file;
        while let Some(block) = pcapng::next_block(rest).unwrap() {
            kinds.push(block.kind);
            rest = &rest[block.bytes().len()..];
        }
        assert!(rest.is_empty());
        kinds
    }

    #[test]
    fn two_engines_become_one_file_in_order_of_time() {
        let mut merge = Merge::new(2, None);
        let mut file = Vec::new();
        // In pieces, as they come from a socket.
        for (number, bytes) in [engine("outer", &[10, 30], 1), engine("inner", &[20, 40], 2)].iter().enumerate() {
            bytes.chunks(7).for_each(|chunk| merge.add(number, chunk, &mut file).unwrap());
        }
        merge.finish(&mut file);

        let packet = |interface, at| BlockKind::Packet { interface, at };
        let counts = |interface, dropped| BlockKind::Statistics { interface, received: 2, dropped };
        assert_eq!(
            kinds(&file),
            [
                BlockKind::Section,
                BlockKind::Interface,
                BlockKind::Interface,
                packet(0, 10),
                packet(1, 20),
                packet(0, 30),
                packet(1, 40),
                counts(0, 1),
                counts(1, 2),
            ]
        );
        assert_eq!((merge.frames(), merge.lost()), (4, 3));
    }

    #[test]
    fn frames_wait_for_those_of_the_other_engine_and_no_longer() {
        let mut merge = Merge::new(2, None);
        let mut file = Vec::new();
        merge.add(0, &engine("outer", &[10], 0), &mut file).unwrap();
        merge.release(&mut file);
        assert_eq!(merge.frames(), 0);
        merge.add(1, &engine("inner", &[5, 15], 0), &mut file).unwrap();
        merge.release(&mut file);
        assert_eq!(merge.frames(), 2, "5 and 10; 15 has come just now");
        merge.release(&mut file);
        assert_eq!(merge.frames(), 3);
    }

    #[test]
    fn no_more_frames_are_written_than_were_asked_for() {
        let mut merge = Merge::new(1, Some(2));
        let mut file = Vec::new();
        merge.add(0, &engine("outer", &[1, 2, 3], 0), &mut file).unwrap();
        merge.finish(&mut file);
        assert!(merge.is_enough());
        assert_eq!(kinds(&file).iter().filter(|kind| matches!(kind, BlockKind::Packet { .. })).count(), 2);
    }

    #[test]
    fn what_is_no_capture_is_refused() {
        let mut merge = Merge::new(1, None);
        assert!(merge.add(0, b"HTTP/1.1 200 OK\r\n", &mut Vec::new()).is_err());
    }
}
