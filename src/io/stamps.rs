//! Makes the kernel note when it takes a frame from a device.
//!
//! Without a request a ring notes when the frame reached that ring, which is another time for each ring of the device.
//! With one, the frame has its time before it reaches the first ring, and all rings say the same.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use super::sockopt;

/// The kernel notes the times as long as this lives.
#[derive(Debug)]
pub struct FrameStamps {
    _socket: UdpSocket,
}

impl FrameStamps {
    /// Requests the times, by a socket that receives nothing (`SO_TIMESTAMP`, socket(7)). It takes some milliseconds until
    /// every frame has its time.
    ///
    /// # Errors
    /// No socket can be made, or the kernel refuses the option.
    pub fn request() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let on: libc::c_int = 1;
        sockopt::set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMP, &on)?;
        Ok(Self { _socket: socket })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DeviceId;
    use crate::io::af_packet::{FrameWindow, Receiver};
    use crate::io::clock::Clock;
    use crate::io::netdev;
    use crate::io::testing::{Host, ip, namespace};
    use crate::wire::batch::Batch;

    /// The frames that wait in a ring, by what follows their Ethernet header.
    fn waiting(receiver: &mut Receiver) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let mut batch = Batch::<()>::new();
            let received = receiver.receive(DeviceId(0), &mut batch, || ());
            let marked = |bytes: &&[u8]| bytes.get(12..14) == Some(&[0x88, 0xb5]);
            let bytes = batch.packets.iter().map(|packet| &*packet.bytes).filter(marked);
            all.extend(bytes.map(|bytes| bytes[14..18].to_vec()));
            drop(batch);
            receiver.release();
            if received == 0 {
                return all;
            }
        }
    }

    #[test]
    fn two_rings_divide_the_frames_at_any_moment_so_that_each_frame_is_in_one_of_them() {
        if !namespace() {
            return;
        }
        let host = Host::new();
        ip(&format!("link add e0 type veth peer name h0 netns {}", host.id));
        ip("link set e0 up");
        host.ip("link set h0 up");
        let index = netdev::find("e0").unwrap().index;
        let _stamps = FrameStamps::request().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let clock = Clock::new();
        let [mut old, mut new] = [(); 2].map(|()| Receiver::open(index, Default::default()).unwrap());

        let moments: Vec<u64> = host.run(move || {
            let sender = crate::io::af_packet::Sender::open(netdev::find("h0").unwrap().index).unwrap();
            let send = |number: u32| {
                let head = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[0x88, 0xb5]].concat();
                let mut frame = [&head[..], &number.to_be_bytes(), &[0; 42]].concat();
                let out = crate::io::frame_io::Outgoing {
                    bytes: &mut frame,
                    vlan: None,
                    offload: crate::wire::offload::Offload::NONE,
                };
                assert_eq!(sender.send([out].into_iter(), |_, error| panic!("{error:?}")), 1);
            };
            (0..400)
                .map(|number| {
                    send(number);
                    clock.wall_nanos(clock.now())
                })
                .collect()
        });

        let moment = moments[200];
        old.set_window(FrameWindow { until: moment, ..FrameWindow::default() });
        new.set_window(FrameWindow { from: moment, ..FrameWindow::default() });
        let (before, after) = (waiting(&mut old), waiting(&mut new));
        assert!(before.len() > 150 && after.len() > 150, "{} and {}", before.len(), after.len());
        let all: Vec<_> = before.iter().chain(&after).cloned().collect();
        assert_eq!(all, (0..400_u32).map(|number| number.to_be_bytes().to_vec()).collect::<Vec<_>>());

        old.set_window(FrameWindow { until: moments[300], ..FrameWindow::default() });
        let more = waiting(&mut old);
        assert_eq!(more[..], after[..more.len()], "another end");
        old.set_window(FrameWindow::default());
        assert_eq!(waiting(&mut old), after[more.len()..], "what was kept back is still there");
        assert_eq!(waiting(&mut old), Vec::<Vec<u8>>::new());
    }
}
