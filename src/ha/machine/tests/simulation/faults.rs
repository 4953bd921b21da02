//! One fault of each kind, chosen by the seed, and their end.

use super::*;

/// Injects one fault.
pub fn inject(world: &mut World) {
    let count = world.nodes.len() as u64;
    let node = world.below(count) as usize;
    let other = world.below(count) as usize;
    let path = world.below(3) as usize;
    match world.below(12) {
        0 => world.crash(node),
        1 if world.nodes[node].running.is_none() => world.start(node),
        1 | 2 => {
            let time = ms(world.below(3000));
            let workers_run = world.below(2) == 0;
            (world.nodes[node].paused_until, world.nodes[node].workers_run) = (world.now + time, workers_run);
        }
        3 | 4 => world.cut[path][node][other] = true,
        5 => {
            for path in 0..3 {
                (world.cut[path][node][other], world.cut[path][other][node]) = (true, true);
            }
        }
        6 => {
            for other in 0..3 {
                (world.cut[path][node][other], world.cut[path][other][node]) = (true, true);
            }
            if path < 2 {
                world.outside[node][path] = false;
            }
        }
        7 => world.loss[path] = 30,
        8 => world.far[node] = !world.far[node],
        9 => {
            let carrier = (0..2).map(|_| world.below(2) == 0).collect();
            let faults = if world.below(3) == 0 { vec![Fault::Worker] } else { Vec::new() };
            world.set_health(node, Health { carrier, faults, ..Health::default() });
        }
        10 => {
            let local = world.local(node, world.now);
            let order = Order::Failover { to: None, force: true, by: OrderedBy::default() };
            if let Some((machine, _)) = &mut world.nodes[node].running
                && let Ok(out) = machine.handle_order(order, local)
            {
                world.take(node, out);
            }
        }
        _ => {
            world.cut = Default::default();
            world.outside = [[true; 2]; 3];
        }
    }
}

/// Ends all faults.
pub fn heal(world: &mut World) {
    world.cut = Default::default();
    world.loss = [0; 3];
    world.outside = [[true; 2]; 3];
    world.far = [true; 3];
    for node in 0..world.nodes.len() {
        world.nodes[node].paused_until = world.now;
        if world.nodes[node].running.is_none() {
            world.start(node);
        }
        world.set_health(node, Health::default());
        // Who repairs a node that flapped says so.
        world.call(node, |machine, now| machine.handle_order(Order::Ready, now).expect("never refused"));
    }
}
