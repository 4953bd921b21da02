//! Keeps the kernel's own stack off the engine's devices: an nftables `netdev` chain at ingress whose policy is drop.
//!
//! AF_PACKET taps a device before that hook, and AF_XDP takes frames before both. So the engine sees every frame and
//! the kernel none: it sends no ARP answer, no echo reply and no RST, and forwards no second copy of a frame. The table
//! has `flags owner`: the kernel removes it when the netlink socket that made it is closed, however the process ends.
//!
//! ```text
//! table netdev fwlb_4711_outer {
//!     flags owner
//!     chain eth0_1 { type filter hook ingress device "eth0" priority -500; policy drop; }
//! }
//! ```

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::netlink::Connection;

/// Why the kernel's stack could not be kept off a device.
#[derive(Debug, thiserror::Error)]
pub enum IsolateError {
    /// The process lacks CAP_NET_ADMIN.
    #[error("no permission to keep the kernel's stack off the device: run as root, or give the program CAP_NET_ADMIN")]
    NotPermitted,
    /// The kernel has no nftables, or no ingress hook for it.
    #[error("the kernel has no nftables with netdev ingress hooks (CONFIG_NF_TABLES_NETDEV): {0}")]
    Unsupported(io::Error),
    /// The device does not exist, or has been removed.
    #[error("the device does not exist")]
    NoDevice,
    /// The kernel refused for another reason.
    #[error("keep the kernel's stack off the device: {0}")]
    System(io::Error),
}

/// Keeps the kernel's stack off devices until it is dropped.
#[derive(Debug)]
pub struct Isolation {
    connection: Connection,
    table: String,
    devices: Vec<IsolatedDevice>,
    chains: u32,
}

#[derive(Debug)]
struct IsolatedDevice {
    device: String,
    chain: String,
}

/// Names to try for the table: other engines of this process may have the first ones.
const TABLE_NAMES_MAX: u32 = 64;

impl Isolation {
    /// Makes an empty table; no device is held yet. `label` becomes a part of the table's name.
    pub fn new(label: &str) -> Result<Self, IsolateError> {
        let mut connection = Connection::open(NETLINK_NETFILTER).map_err(classify)?;
        let label: String = label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let mut refusal = io::Error::from(io::ErrorKind::AlreadyExists);
        for number in 0..TABLE_NAMES_MAX {
            let suffix = if number == 0 { String::new() } else { format!("_{number}") };
            let table = format!("fwlb_{}_{label}{suffix}", std::process::id());
            match connection.transact(&batch(&[message(NEW_TABLE, CREATE | EXCLUSIVE, &table_attributes(&table))])) {
                Ok(()) => return Ok(Self { connection, table, devices: Vec::new(), chains: 0 }),
                // The kernel says "not permitted" also of a table that another socket owns.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::PermissionDenied) =>
                {
                    refusal = error;
                }
                Err(error) => return Err(classify(error)),
            }
        }
        Err(classify(refusal))
    }

    /// Keeps the kernel's stack off a device; several engines may do so. To be called again for a device that was
    /// deleted and made again: some kernels remove a chain with its device, others keep it.
    pub fn isolate(&mut self, device: &str) -> Result<(), IsolateError> {
        self.chains += 1;
        let chain = format!("{device}_{}", self.chains);
        let attributes = chain_attributes(&self.table, &chain, device);
        self.connection.transact(&batch(&[message(NEW_CHAIN, CREATE | EXCLUSIVE, &attributes)])).map_err(classify)?;
        let outcome = self.release(device);
        self.devices.push(IsolatedDevice { device: device.to_owned(), chain });
        outcome
    }

    /// Lets the kernel's stack have a device again. The device may be gone.
    pub fn release(&mut self, device: &str) -> Result<(), IsolateError> {
        let Some(position) = self.devices.iter().position(|held| held.device == device) else { return Ok(()) };
        let held = self.devices.swap_remove(position);
        let mut chain = Vec::new();
        put_text(&mut chain, CHAIN_TABLE, &self.table);
        put_text(&mut chain, CHAIN_NAME, &held.chain);
        match self.connection.transact(&batch(&[message(DELETE_CHAIN, 0, &chain)])) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.map_err(classify),
        }
    }
}

fn classify(error: io::Error) -> IsolateError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => IsolateError::NotPermitted,
        Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EINVAL) => {
            IsolateError::Unsupported(error)
        }
        Some(libc::ENOENT | libc::ENODEV) => IsolateError::NoDevice,
        _ => IsolateError::System(error),
    }
}

// Messages of linux/netfilter/nf_tables.h, as far as needed. Numbers in attributes are big endian.

const NFPROTO_NETDEV: u8 = 5;
const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
const NEW_TABLE: u16 = SUBSYSTEM | libc::NFT_MSG_NEWTABLE as u16;
const NEW_CHAIN: u16 = SUBSYSTEM | libc::NFT_MSG_NEWCHAIN as u16;
const DELETE_CHAIN: u16 = SUBSYSTEM | libc::NFT_MSG_DELCHAIN as u16;

const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ACKNOWLEDGE: u16 = libc::NLM_F_ACK as u16;
const CREATE: u16 = libc::NLM_F_CREATE as u16;
const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_OWNER: u32 = 2;

const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;

const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
const NESTED: u16 = 1 << 15;

/// Before every other chain, so that a dropped frame costs least.
const PRIORITY: i32 = -500;

fn table_attributes(table: &str) -> Vec<u8> {
    let mut attributes = Vec::new();
    put_text(&mut attributes, TABLE_NAME, table);
    put(&mut attributes, TABLE_FLAGS, &TABLE_OWNER.to_be_bytes());
    attributes
}

fn chain_attributes(table: &str, chain: &str, device: &str) -> Vec<u8> {
    let mut hook = Vec::new();
    put(&mut hook, HOOK_NUMBER, &(libc::NF_NETDEV_INGRESS as u32).to_be_bytes());
    put(&mut hook, HOOK_PRIORITY, &PRIORITY.to_be_bytes());
    put_text(&mut hook, HOOK_DEVICE, device);
    let mut attributes = Vec::new();
    put_text(&mut attributes, CHAIN_TABLE, table);
    put_text(&mut attributes, CHAIN_NAME, chain);
    put(&mut attributes, CHAIN_HOOK | NESTED, &hook);
    put(&mut attributes, CHAIN_POLICY, &(libc::NF_DROP as u32).to_be_bytes());
    put_text(&mut attributes, CHAIN_TYPE, "filter");
    attributes
}

fn put(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).expect("names are bounded and nothing else is long");
    to.extend(len.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn put_text(to: &mut Vec<u8>, kind: u16, text: &str) {
    put(to, kind, &[text.as_bytes(), &[0]].concat());
}

fn message(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    raw_message(kind, flags | REQUEST | ACKNOWLEDGE, NFPROTO_NETDEV, 0, attributes)
}

/// Encloses messages in a batch: the kernel takes nftables messages only in batches, and applies all of one or nothing.
fn batch(messages: &[Vec<u8>]) -> Vec<u8> {
    let edge = |kind: i32| raw_message(kind as u16, REQUEST, 0, libc::NFNL_SUBSYS_NFTABLES as u16, &[]);
    [&[edge(libc::NFNL_MSG_BATCH_BEGIN)], messages, &[edge(libc::NFNL_MSG_BATCH_END)]].concat().concat()
}

fn raw_message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(20 + attributes.len()).expect("a message is small");
    let mut message = Vec::with_capacity(20 + attributes.len());
    message.extend(len.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]); // sequence and port: answers are counted, not matched
    message.extend([family, 0]);
    message.extend(resource.to_be_bytes());
    message.extend(attributes);
    message
}

#[cfg(test)]
mod tests;
