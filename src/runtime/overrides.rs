//! Carries out `fwlb set`: applies the change, and answers with its consequences and with who else holds the object.

use crate::api::{ApiError, Done, ServerChange};
use crate::config::AdminState;
use crate::engine::Controller;
use crate::engine::controller::{Consequence, Order, UnknownName};
use crate::time::Instant;

/// Carries out `fwlb set firewall`.
pub(super) fn firewall(
    controller: &mut Controller,
    group: Option<&str>,
    name: &str,
    admin: Option<AdminState>,
    order: &Order,
    force: bool,
    now: Instant,
) -> Result<Done, ApiError> {
    let consequences = controller.consequences_for_firewall(group, name, admin).map_err(unknown)?;
    let warnings = warnings(&format!("firewall {name}"), admin == Some(AdminState::Maint), consequences, force)?;
    controller.set_admin(group, name, admin, order, now).map_err(unknown)?;
    let held = controller.stricter_orders_at_peers(group, name);
    let done = match (admin, held.is_empty()) {
        (Some(admin), _) => format!("firewall {name} is set to {}", admin.name()),
        (None, true) => format!("firewall {name} is as the file says"),
        (None, false) => format!("firewall {name}: nothing is set here any more"),
    };
    Ok(Done { done, held_elsewhere: held, warnings })
}

/// Carries out `fwlb set server`.
pub(super) fn server(
    controller: &mut Controller,
    service: &str,
    name: &str,
    change: ServerChange,
    order: &Order,
    force: bool,
    now: Instant,
) -> Result<Done, ApiError> {
    let consequences = controller.consequences_for_server(service, name, change).map_err(unknown)?;
    let is_maint = change == ServerChange::Admin(Some(AdminState::Maint));
    let warnings = warnings(&format!("server {service}/{name}"), is_maint, consequences, force)?;
    let subject = format!("{service}/{name}");
    let weight = controller.overrides().into_iter().find_map(|set| set.weight.filter(|_| set.subject == subject));
    controller.set_server(service, name, change, order, now).map_err(unknown)?;
    let what = match (change, weight) {
        (ServerChange::Admin(Some(admin)), None) => format!("set to {}", admin.name()),
        (ServerChange::Admin(Some(admin)), Some(weight)) => {
            format!("set to {}; weight {weight} stays set (weight=default ends it, default ends both)", admin.name())
        }
        (ServerChange::Admin(None), None) => "as the file says".to_owned(),
        (ServerChange::Admin(None), Some(weight)) => format!("as the file says; weight {weight} is not set any more"),
        (ServerChange::Weight(Some(weight)), _) => format!("set to weight {weight}"),
        (ServerChange::Weight(None), _) => "of the file's weight".to_owned(),
    };
    Ok(Done { done: format!("server {subject} is {what}"), warnings, ..Done::default() })
}

/// Carries out `fwlb set service`.
pub(super) fn service(
    controller: &mut Controller,
    name: &str,
    admin: Option<AdminState>,
    order: &Order,
    now: Instant,
) -> Result<Done, ApiError> {
    controller.set_service(name, admin, order, now).map_err(unknown)?;
    let what = admin.map_or_else(|| "as the file says".to_owned(), |admin| format!("set to {}", admin.name()));
    Ok(Done::from(format!("service {name} is {what}")))
}

/// The consequences of an order, as warnings. An order with a grave consequence is refused unless it is forced.
fn warnings(
    subject: &str,
    is_maint: bool,
    consequences: Vec<Consequence>,
    force: bool,
) -> Result<Vec<String>, ApiError> {
    let grave = consequences.iter().find(|one| one.is_grave && is_maint);
    match grave {
        Some(grave) if !force => Err(ApiError::Conflict(format!(
            "{subject} stays as it is, as it is the last one: in maint, {}\nif that is meant: --force (in the API \"force\": true)",
            grave.description.trim_end_matches(" now")
        ))),
        Some(_) | None => Ok(consequences.into_iter().map(|one| one.description).collect()),
    }
}

fn unknown(name: UnknownName) -> ApiError {
    ApiError::NotFound(name.to_string())
}
