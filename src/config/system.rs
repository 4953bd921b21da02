//! Adds warnings to a valid file about things of the machine that it refers to, such as a device that does not exist.
//! The caller knows the machine; this module knows the place in the file.

use std::ops::Range;

use crate::config::diagnostic::Diagnostic;
use crate::config::reader::Field;
use crate::config::{Config, LoadedConfig};

/// The part of a file that refers to something of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern<'a> {
    /// The device of a link, by name.
    Device(&'a str),
    /// `user` of `[engine]`.
    User,
    /// `group` of `[engine]`.
    Group,
    /// `socket-group` of `[api]`.
    SocketGroup,
}

/// Adds a warning at the place of `concern`. A file with errors is left as it is.
pub fn warn(outcome: &mut LoadedConfig, concern: Concern<'_>, message: String, hint: String) {
    let (Some(config), Some(file)) = (&outcome.config, &outcome.file) else { return };
    let given = |field: &Field<String>| field.given().map(|at| at.span.clone());
    let place = match concern {
        Concern::Device(name) => {
            let is_on = |index: usize| device_of(config, index) == Some(name);
            let typed = file.links.iter().enumerate().find(|(index, _)| is_on(*index)).map(|(_, link)| link);
            typed.and_then(|link| given(&link.device))
        }
        Concern::User => file.engine.as_ref().and_then(|engine| given(&engine.user)),
        Concern::Group => file.engine.as_ref().and_then(|engine| given(&engine.group)),
        Concern::SocketGroup => given(&file.api.socket_group),
    };
    let place: Range<usize> = place.unwrap_or(0..0);
    outcome.diagnostics.push(Diagnostic::warning(place, message).hint(hint));
    outcome.diagnostics.sort();
}

/// The name of the device of a link, by the link's position in the file.
fn device_of(config: &Config, link: usize) -> Option<&str> {
    let link = config.links.get(link)?;
    config.devices.get(link.device.index()).map(String::as_str)
}
