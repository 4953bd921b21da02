use super::*;
use crate::io::testing::{ip, namespace};

/// A directory that stands in for `/`.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn directory(&self, path: &str) -> &Self {
        fs::create_dir_all(self.path().join(path)).unwrap();
        self
    }
}

fn found(name: &str, index: u32) -> netdev::Device {
    let mac = "02:00:00:00:00:01".parse().unwrap();
    netdev::Device { index, name: name.to_owned(), mac, mtu: 1500, oper_up: true, admin_up: true }
}

#[test]
fn a_card_is_read_with_its_queues_interrupts_and_kernel_threads() {
    let root = Root::new();
    let net = "sys/class/net/eth0";
    root.file(&format!("{net}/ifindex"), "2\n")
        .file(&format!("{net}/address"), "02:00:00:00:00:01\n")
        .file(&format!("{net}/threaded"), "1\n")
        .file(&format!("{net}/queues/rx-0/rps_cpus"), "00000001,00000006\n")
        .file(&format!("{net}/queues/rx-1/rps_cpus"), "00000000,00000000\n")
        .file(&format!("{net}/queues/rx-10/rps_cpus"), "8\n")
        .file(&format!("{net}/queues/rx-2/rps_cpus"), "4\n")
        .directory(&format!("{net}/queues/tx-0"))
        .directory(&format!("{net}/device/msi_irqs/37"))
        .directory(&format!("{net}/device/msi_irqs/38"))
        .directory(&format!("{net}/device/msi_irqs/39"))
        .directory("proc/irq/37/virtio2-config")
        .file("proc/irq/37/effective_affinity_list", "0\n")
        .file("proc/irq/38/effective_affinity_list", "1\n")
        .file("proc/irq/39/effective_affinity_list", "\n")
        .file("proc/irq/39/smp_affinity_list", "0-1,3\n")
        .file("proc/17/comm", "napi/eth0-8193\n")
        .file("proc/17/status", "Name:\tnapi/eth0-8193\nCpus_allowed_list:\t1\n")
        .file("proc/18/comm", "napi/eth01-8193\n")
        .file("proc/18/status", "Cpus_allowed_list:\t1\n")
        .file("proc/sys/net/ipv4/conf/eth0/forwarding", "1\n")
        .file("proc/sys/net/ipv6/conf/all/forwarding", "0\n");

    let device = device(root.path(), &found("eth0", 2), &threads(&root.path().join("proc")));

    assert_eq!(device.forwards, [Family::V4]);
    let [port] = &device.ports[..] else { panic!("{device:?}") };
    assert!(port.is_card);
    assert_eq!(port.rps_cpus, [vec![1, 2, 32], vec![], vec![2], vec![3]], "in the order of the queues' numbers");
    assert_eq!(port.interrupts, [(38, vec![1]), (39, vec![0, 1, 3])], "without that of the card's configuration");
    assert_eq!(port.napi_threads, [PinnedThread { pid: 17, name: "napi/eth0-8193".to_owned(), cpus: vec![1] }]);
}

#[test]
fn a_device_on_others_receives_where_they_do() {
    let root = Root::new();
    root.file("sys/class/net/bond0.7/ifindex", "9")
        .file("sys/class/net/bond0.7/address", "02:00:00:00:00:01")
        .directory("sys/class/net/bond0.7/lower_bond0")
        .directory("sys/class/net/bond0/lower_eth0")
        .directory("sys/class/net/bond0/lower_eth1")
        .file("sys/class/net/eth0/queues/rx-0/rps_cpus", "0")
        .file("sys/class/net/eth1/queues/rx-0/rps_cpus", "2");

    let device = device(root.path(), &found("bond0.7", 9), &[]);

    let ports: Vec<_> = device.ports.iter().map(|port| (port.name.as_str(), port.rps_cpus.clone())).collect();
    assert_eq!(ports, [("eth0", vec![vec![]]), ("eth1", vec![vec![1]])]);
}

#[test]
fn a_device_of_the_same_name_in_another_namespace_is_not_taken_for_it() {
    let root = Root::new();
    root.file("sys/class/net/eth0/ifindex", "3")
        .file("sys/class/net/eth0/address", "02:00:00:00:00:01")
        .file("sys/class/net/eth0/queues/rx-0/rps_cpus", "2");

    assert_eq!(device(root.path(), &found("eth0", 2), &[]).ports, []);
    assert_eq!(device(root.path(), &found("eth0", 3), &[]).ports.len(), 1);
}

#[test]
fn packet_workers_of_other_processes_are_found_and_nobody_else() {
    let root = Root::new();
    let own = std::process::id();
    for (pid, thread, process, name) in [
        (70, 71, "fwlb", "fwlb-worker-0"),
        (70, 72, "fwlb", "fwlb-control"),
        (own, 73, "fwlb", "fwlb-worker-0"),
        (90, 91, "other", "fwlb-worker-0"),
    ] {
        root.file(&format!("proc/{pid}/comm"), process)
            .file(&format!("proc/{pid}/task/{thread}/comm"), name)
            .file(&format!("proc/{pid}/task/{thread}/status"), "Name:\tx\nCpus_allowed_list:\t2-3\n");
    }
    root.file("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");

    let machine = inspect_in(root.path(), vec![0, 1], []);

    assert_eq!(machine.workers, [PinnedThread { pid: 70, name: "fwlb-worker-0".to_owned(), cpus: vec![2, 3] }]);
    assert!(machine.huge_pages_never);
    assert_eq!((machine.cpus, machine.devices), (vec![0, 1], vec![]));
}

#[test]
fn what_cannot_be_read_is_left_out() {
    let root = Root::new();

    let machine = inspect_in(root.path(), vec![0], []);

    assert_eq!(machine, Machine { cpus: vec![0], ..Machine::default() });
    assert_eq!(device(root.path(), &found("none0", 2), &[]), Device { name: "none0".to_owned(), ..Device::default() });
    assert_eq!((mask("zz"), list("1-x")), (None, None));
}

#[test]
fn a_device_of_this_machine_is_found_and_another_is_passed_over() {
    if !namespace() {
        return;
    }
    ip("link add ma0 type veth peer name ma1");
    std::fs::write("/proc/sys/net/ipv4/conf/ma0/forwarding", "1").unwrap();
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "0").unwrap();

    let machine = inspect(["ma0", "none"]);

    assert!(!machine.cpus.is_empty());
    let devices: Vec<_> = machine.devices.iter().map(|device| (device.name.as_str(), &device.forwards[..])).collect();
    assert_eq!(devices, [("ma0", &[Family::V4][..])]);
}

#[test]
fn a_virtual_wire_has_no_interrupts_though_a_card_of_its_name_has() {
    if !namespace() {
        return;
    }
    ip("link add mw0 type veth peer name mw1");
    let root = Root::new();
    root.directory("sys/class/net/mw0/device/msi_irqs/38").file("proc/irq/38/effective_affinity_list", "1");

    let software = port(root.path(), "mw0", &[], is_software("mw0"));
    let card = port(root.path(), "mw0", &[], is_software("none"));

    assert_eq!((software.is_card, software.interrupts), (false, Vec::new()));
    assert_eq!((card.is_card, card.interrupts), (true, vec![(38, vec![1])]));
}
