//! What a change costs where there are many: only its service is built, and all changes at once make one publication.

use std::sync::Arc;

use super::farm::{Farm, check, web};
use crate::config::{AdminState, ServiceCheckKind};
use crate::engine::controller::{Order, ServerChange};
use crate::id::{ServerId, ServiceId};

#[test]
fn a_change_in_one_service_leaves_every_other_as_it_was_built() {
    let mut config = web(2, check(ServiceCheckKind::None));
    let mut names = config.services[0].clone();
    names.name = "names".to_owned();
    (names.ports, names.servers) = (vec![53..=53], vec![ServerId(2)]);
    let mut server = config.servers[0].clone();
    server.service = ServiceId(1);
    config.services.push(names);
    config.servers.push(server);
    let mut farm = Farm::new(config);
    farm.wait_ms(10);
    let before = farm.snapshot();

    let maint = ServerChange::Admin(Some(AdminState::Maint));
    farm.controller.set_server("web", "s1", maint, &Order::default(), farm.now).unwrap();

    let after = farm.snapshot();
    let is_shared = |index: usize| Arc::ptr_eq(&before.services.all()[index], &after.services.all()[index]);
    assert_eq!((after.epoch, is_shared(0), is_shared(1)), (before.epoch + 1, false, true));
    assert_eq!(farm.up(), [false, true]);
    let vip = farm.snapshot().services.all()[0].addresses[0];
    assert_eq!(after.services.find(vip, 6, 80).map(|service| service.servers[0].up[0]), Some(false));
}

#[test]
fn a_thousand_servers_that_come_up_in_a_second_are_published_in_few_steps() {
    let mut farm = Farm::new(web(1_000, check(ServiceCheckKind::HalfOpen)));

    farm.wait_ms(1_500);

    assert!(farm.up().iter().all(|up| *up));
    let epoch = farm.snapshot().epoch;
    assert!(epoch < 300, "{epoch} publications");
}
