//! `scripts/nic --dry-run` over a made-up `/sys`: what it would do, and what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs, process};

/// A directory like `/sys/bus/pci/devices` with three devices; removed when dropped.
struct Sysfs(PathBuf);

impl Sysfs {
    fn new(name: &str) -> Self {
        let root = env::temp_dir().join(format!("algate-nic-{}-{name}", process::id()));
        for (address, class, driver) in [
            ("0000:01:00.0", "0x020000", "ixgbe"),
            ("0000:01:00.1", "0x020000", "vfio-pci"),
            ("0000:02:00.0", "0x010802", "nvme"),
        ] {
            let device = root.join(address);
            fs::create_dir_all(device.join("net")).unwrap();
            fs::create_dir_all(root.join("drivers").join(driver)).unwrap();
            fs::write(device.join("class"), format!("{class}\n")).unwrap();
            symlink(root.join("drivers").join(driver), device.join("driver")).unwrap();
        }
        Self(root)
    }

    fn nic(&self, arguments: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/nic");
        Command::new(script).arg("--dry-run").args(arguments).env("NIC_SYSFS", &self.0).output().unwrap()
    }
}

impl Drop for Sysfs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn list_shows_network_devices_and_their_drivers() {
    let sysfs = Sysfs::new("list");
    let printed = text(&sysfs.nic(&["list"]).stdout);
    assert!(printed.contains("0000:01:00.0  driver ixgbe"), "{printed}");
    assert!(printed.contains("0000:01:00.1  driver vfio-pci"), "{printed}");
    assert!(!printed.contains("0000:02:00.0"), "{printed}");
}

#[test]
fn bind_takes_the_device_from_its_driver() {
    let sysfs = Sysfs::new("bind");
    let output = sysfs.nic(&["bind", "0000:01:00.0"]);
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let at = |wanted: &str| printed.find(wanted).unwrap_or_else(|| panic!("no {wanted:?} in {printed}"));
    let device = sysfs.0.join("0000:01:00.0");
    let written = at(&format!("would write: 'vfio-pci' to {}/driver_override", device.display()));
    let let_go = at(&format!("would write: '0000:01:00.0' to {}/driver/unbind", device.display()));
    let probed = at("would write: '0000:01:00.0' to /sys/bus/pci/drivers_probe");
    assert!(written < let_go && let_go < probed, "{printed}");
    assert!(!device.join("driver_override").exists(), "a dry run writes");
}

#[test]
fn bind_does_nothing_twice() {
    let sysfs = Sysfs::new("twice");
    let output = sysfs.nic(&["bind", "0000:01:00.1"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), "0000:01:00.1 is bound to vfio-pci already\n");
}

#[test]
fn unbind_gives_the_device_back_to_the_kernel() {
    let sysfs = Sysfs::new("unbind");
    let printed = text(&sysfs.nic(&["unbind", "0000:01:00.1"]).stdout);
    assert!(printed.contains("would write: '' to") && printed.contains("drivers_probe"), "{printed}");
}

#[test]
fn what_cannot_be_meant_is_refused_in_a_sentence() {
    let sysfs = Sysfs::new("refused");
    for (arguments, sentence) in [
        (&["bind", "eth0"][..], "'eth0' is no PCI address like 0000:01:00.0"),
        (&["bind", "0000:09:00.0"], "there is no PCI device 0000:09:00.0"),
        (&["bind", "0000:02:00.0"], "0000:02:00.0 is no network device"),
        (&["unbind", "0000:01:00.0"], "0000:01:00.0 is not bound to vfio-pci but to ixgbe"),
    ] {
        let output = sysfs.nic(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output.stderr).contains(sentence), "{arguments:?}: {}", text(&output.stderr));
    }
    assert_eq!(sysfs.nic(&["bnid"]).status.code(), Some(2));
}
