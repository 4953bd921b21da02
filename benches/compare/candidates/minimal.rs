//! The minimal forwarder: the receive ring and a sender of `io`, and nothing between them but new MAC addresses. It is
//! the least work that any program over this ring has.

use std::path::Path;

use anyhow::{Context, Result, bail};
use fwlb::id::DeviceId;
use fwlb::io::af_packet::{self, RingOptions};
use fwlb::io::af_xdp::{SendSocket, Umem, XdpDevice};
use fwlb::io::frame_io::{Outgoing, Receiver, Sender};
use fwlb::io::isolate::Isolation;
use fwlb::io::netdev;
use fwlb::io::wait::{Waiter, Wake};
use fwlb::time::Duration;
use fwlb::wire::batch::Batch;

use crate::ground;
use crate::lane::{self, Lane};
use crate::placement::DUT_CORE;
use crate::process::Process;

/// The argument that makes this program the minimal forwarder.
pub const WORD: &str = "minimal-forwarder";
const READY: &str = "forwarding";

/// How it sends frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// By `sendmmsg`.
    Messages,
    /// By the send ring of an AF_XDP socket, as fwlb does.
    Ring,
}

impl Sending {
    const fn word(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Ring => "ring",
        }
    }
}

pub(super) fn start(lane: &Lane, sending: Sending, directory: &Path) -> Result<Process> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let words = [WORD, &lane.near, &lane.far, sending.word()];
    let mut process = Process::start(directory, &lane.dut, DUT_CORE, &program, &words)?;
    ground::wait_until(5000, "the minimal forwarder does not start", || {
        process.lives()?;
        Ok(process.has_said(READY))
    })?;
    Ok(process)
}

/// Forwards between two devices until it is killed.
pub fn forward(words: &[String]) -> Result<()> {
    let [near, far, sending] = words else { bail!("{WORD} NEAR FAR messages|ring") };
    let index = |name: &str| Ok::<_, anyhow::Error>(netdev::find(name).context("no such device")?.index);
    let (near_index, far_index) = (index(near)?, index(far)?);
    let mut isolation = Isolation::new("minimal")?;
    isolation.isolate(near)?;
    isolation.isolate(far)?;
    let open =
        |index| Ok::<_, anyhow::Error>(Receiver::Packet(af_packet::Receiver::open(index, RingOptions::default())?));
    let mut receivers = [open(near_index)?, open(far_index)?];
    // A frame that arrives on one device leaves by the other.
    let umem = Umem::for_sending(2)?;
    let out = |name: &str, index| {
        let target = XdpDevice { name, index, mtu: 1500, tagged: false };
        let xdp = (sending == Sending::Ring.word()).then(|| SendSocket::open(target, 0, &umem)).transpose()?;
        Ok::<_, anyhow::Error>(Sender::Packet { socket: af_packet::Sender::open(index)?, xdp })
    };
    let senders = [out(far, far_index)?, out(near, near_index)?];
    let (sink, generator) = ([lane::MAC_SINK, lane::MAC_FAR].concat(), [lane::MAC_GEN, lane::MAC_NEAR].concat());
    let addresses = [sink, generator];
    let mut waiter = Waiter::new(Wake::new()?);
    println!("{READY}");
    loop {
        let mut frames = 0;
        for ((receiver, sender), addresses) in receivers.iter_mut().zip(&senders).zip(&addresses) {
            let mut batch: Batch<'_, ()> = Batch::new();
            frames += receiver.receive(DeviceId(0), &mut batch, || ());
            for packet in &mut batch.packets {
                if let Some(head) = packet.bytes.get_mut(..addresses.len()) {
                    head.copy_from_slice(addresses);
                }
            }
            let outgoing = batch.packets.iter().filter(|packet| packet.verdict.is_none()).map(|packet| Outgoing {
                bytes: packet.bytes,
                vlan: packet.vlan,
                offload: packet.offload,
            });
            sender.send(outgoing, |_, _| {});
            drop(batch);
            receiver.release();
        }
        if frames == 0 {
            waiter.wait(receivers.iter(), Duration::from_millis(50));
        }
    }
}
