//! Receives rtnetlink notifications about network devices, in the network namespace of the thread that opened the
//! monitor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::{Connection, parse_route};

/// `RTNLGRP_LINK`.
const GROUP_LINK: u32 = 1;

/// What the notifications since the last call were about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChanges {
    /// Names of the devices that appeared, changed or went: each once, in the order of the first notification.
    Devices(Vec<String>),
    /// Notifications were lost (ENOBUFS): anything may have changed.
    All,
}

/// A non-blocking stream of notifications; its descriptor is readable when some wait.
#[derive(Debug)]
pub struct Monitor {
    connection: Connection,
}

impl Monitor {
    /// Subscribes to notifications from this moment on.
    pub fn open() -> io::Result<Self> {
        let connection = Connection::open(NETLINK_ROUTE)?;
        connection.join(GROUP_LINK)?;
        Ok(Self { connection })
    }

    /// Takes all notifications that wait. Never blocks.
    pub fn read_changes(&mut self) -> io::Result<LinkChanges> {
        let mut names: Vec<String> = Vec::new();
        loop {
            let received = self.connection.receive(|message| {
                if let Some(name) = parse_route(message.kind, message.payload).and_then(name_of)
                    && !names.contains(&name)
                {
                    names.push(name);
                }
            });
            match received {
                Ok(true) => {}
                Ok(false) => return Ok(LinkChanges::Devices(names)),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    while self.connection.receive(|_| {})? {}
                    return Ok(LinkChanges::All);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.connection.as_raw_fd()
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as `self` lives. JUSTIFICATION: netlink-sys hands out raw numbers
        // only.
        unsafe { BorrowedFd::borrow_raw(self.connection.as_raw_fd()) }
    }
}

fn name_of(message: RouteNetlinkMessage) -> Option<String> {
    let link = match message {
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => link,
        _ => return None,
    };
    link.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::{ip, namespace};

    #[test]
    fn up_down_delete_and_return_of_a_device_are_heard() {
        if !namespace() {
            return;
        }
        ip("link add mo0 type veth peer name mo1");
        let mut monitor = Monitor::open().unwrap();
        assert_eq!(monitor.read_changes().unwrap(), LinkChanges::Devices(vec![]));

        for command in
            ["link set mo0 up", "link set mo0 down", "link delete mo0", "link add mo0 type veth peer name mo1"]
        {
            ip(command);
            let LinkChanges::Devices(names) = monitor.read_changes().unwrap() else {
                panic!("few enough to be heard one by one")
            };
            assert!(names.contains(&"mo0".to_owned()), "{command}: {names:?}");
        }
    }

    #[test]
    fn lost_news_are_told_as_such() {
        if !namespace() {
            return;
        }
        ip("link add ml0 type veth peer name ml1");
        let mut monitor = Monitor::open().unwrap();
        monitor.connection.shrink_for_test();

        for _ in 0..20 {
            ip("link set ml0 up");
            ip("link set ml0 down");
        }

        assert_eq!(monitor.read_changes().unwrap(), LinkChanges::All);
        assert_eq!(monitor.read_changes().unwrap(), LinkChanges::Devices(vec![]));
    }
}
