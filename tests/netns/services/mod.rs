//! The server side on real packets: virtual services, real servers that live and die, and the ways between them.
//!
//! [`sandwich`] has the services behind strict firewalls; the others put one engine between clients and a farm ([`farm`]),
//! whose hosts are sockets of the test itself ([`host`]) or ordinary programs. What matters is asked of both families.

mod capture;
pub mod farm;
pub mod host;

mod bulk;
mod checks;
mod exchange;
mod failure;
mod fair;
mod modes;
mod observe;
mod orders;
pub mod sandwich;
mod scale;
mod schedulers;
mod sticky;
