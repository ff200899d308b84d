//! The lab's network: who stands where, on which wire.
//!
//! ```text
//!  instance                              internet (also the VPC's router and resolver)
//!  eth0 10.77.0.10/24  fd77::10/64 ───── vpc0 10.77.0.1  10.77.0.2 (DNS)  fd77::1  fd77::2
//!  mgmt0 10.78.0.10/24                   every address of 192.0.2.0/24, 198.51.100.0/24,
//!    │                                   203.0.113.0/24 and 2001:db8::/32 is its own
//!  mgmt0 10.78.0.1/24
//!  collector
//! ```
//!
//! The collector has a wire of its own, so that a sensor on `eth0` sees the traffic of the scene and
//! nothing else, and two runs of a scene compare.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::disk;
use super::namespace::{self, LabName, Namespace};

/// The instance's address in its VPC.
pub const INSTANCE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
/// The instance's IPv6 address.
pub const INSTANCE_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x10);
/// The VPC's router.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The VPC's resolver, two above the base as in EC2.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The resolver's IPv6 address.
pub const RESOLVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
/// The collector, as the instance reaches it.
pub const COLLECTOR: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
/// The interface of the instance that the scenes play on.
pub const SCENE_INTERFACE: &str = "eth0";
/// The internet's end of that wire.
pub const VPC_INTERFACE: &str = "vpc0";
/// Nets whose every address is a host of the lab's internet (RFC 5737, RFC 3849).
pub const INTERNET: [&str; 4] = [
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001:db8::/32",
];

/// Says whether an address of the scene is the instance's own.
pub fn is_instance(address: IpAddr) -> bool {
    address == IpAddr::V4(INSTANCE) || address == IpAddr::V6(INSTANCE_V6)
}

/// How the wire between instance and internet behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// As the kernel makes it: segments are merged, checksums left to the card.
    Ordinary,
    /// Every offload off: what crosses the wire is what a capture of it shows.
    Plain,
    /// Plain, and no kernel speaks on it by itself (no ARP, no IPv6): for injected packets.
    Silent,
}

/// The namespaces of one lab, wired up, and a folder for its files. Dropping it removes everything.
#[derive(Debug)]
pub struct Lab {
    /// The host that is watched.
    pub instance: Namespace,
    /// Router, resolver and every host outside.
    pub internet: Namespace,
    /// Where the collector runs, and whom it alerts.
    pub collector: Namespace,
    folder: TempDir,
    name: LabName,
}

impl Lab {
    /// Builds the network. Needs root; sweeps what labs of dead processes left first.
    ///
    /// # Errors
    /// With the command that failed.
    pub fn build(wire: Wire) -> Result<Self> {
        for name in sweep()? {
            eprintln!("removed {name}, left by a lab that is gone");
        }
        let name = LabName::fresh();
        let folder = tempfile::Builder::new()
            .prefix(&format!("{}-", name.as_str()))
            .tempdir()
            .context("make the lab's folder")?;
        let lab = Self {
            instance: Namespace::create(&name, "instance")?,
            internet: Namespace::create(&name, "internet")?,
            collector: Namespace::create(&name, "collector")?,
            folder,
            name,
        };
        lab.lay_scene_wire(wire)?;
        lab.lay_management_wire()?;
        Ok(lab)
    }

    /// The lab's own folder; removed with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The common part of its namespaces' names.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    fn lay_scene_wire(&self, wire: Wire) -> Result<()> {
        let (instance, internet) = (&self.instance, &self.internet);
        instance.ip(&format!(
            "link add {SCENE_INTERFACE} type veth peer name {VPC_INTERFACE} netns {}",
            internet.name()
        ))?;
        let ends = [(instance, SCENE_INTERFACE), (internet, VPC_INTERFACE)];
        for (namespace, interface) in ends {
            if wire == Wire::Silent {
                namespace.sysctl(&format!("ipv6/conf/{interface}/disable_ipv6"), "1")?;
                namespace.ip(&format!("link set {interface} arp off"))?;
            }
            if wire != Wire::Ordinary {
                offloads_off(namespace, interface)?;
            }
        }
        for address in [ROUTER, RESOLVER] {
            internet.ip(&format!("address add {address}/24 dev {VPC_INTERFACE}"))?;
        }
        instance.ip(&format!("address add {INSTANCE}/24 dev {SCENE_INTERFACE}"))?;
        if wire == Wire::Silent {
            // The instance has the address, and its kernel no reason to announce it on the wire.
            instance.ip(&format!("address add {INSTANCE_V6}/128 dev lo"))?;
        } else {
            for address in [Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1), RESOLVER_V6] {
                internet.ip(&format!(
                    "address add {address}/64 dev {VPC_INTERFACE} nodad"
                ))?;
            }
            instance.ip(&format!(
                "address add {INSTANCE_V6}/64 dev {SCENE_INTERFACE} nodad"
            ))?;
        }
        for (namespace, interface) in ends {
            namespace.ip(&format!("link set {interface} up"))?;
        }
        // A local route makes an IPv4 address bindable; IPv6 asks for this besides.
        internet.sysctl("ipv6/ip_nonlocal_bind", "1")?;
        for net in INTERNET {
            if wire == Wire::Silent && net.contains(':') {
                continue;
            }
            internet.ip(&format!("route add local {net} dev lo"))?;
        }
        instance.ip(&format!("route add default via {ROUTER}"))?;
        if wire != Wire::Silent {
            instance.ip("-6 route add default via fd77::1")?;
        }
        Ok(())
    }

    fn lay_management_wire(&self) -> Result<()> {
        self.instance.ip(&format!(
            "link add mgmt0 type veth peer name mgmt0 netns {}",
            self.collector.name()
        ))?;
        self.instance.ip("address add 10.78.0.10/24 dev mgmt0")?;
        self.collector
            .ip(&format!("address add {COLLECTOR}/24 dev mgmt0"))?;
        for namespace in [&self.instance, &self.collector] {
            namespace.ip("link set mgmt0 up")?;
        }
        Ok(())
    }
}

/// Removes the namespaces, processes and folders of labs whose process is gone, and returns their
/// names.
///
/// # Errors
/// When a namespace cannot be removed.
pub fn sweep() -> Result<Vec<String>> {
    let mut swept = namespace::sweep()?;
    let folders =
        fs::read_dir(std::env::temp_dir()).context("read the folder for scratch files")?;
    for folder in folders.flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        if !namespace::is_abandoned(&name) {
            continue;
        }
        disk::release_below(&folder.path());
        // Another lab may be sweeping as well.
        if fs::remove_dir_all(folder.path()).is_ok() {
            swept.push(name);
        }
    }
    Ok(swept)
}

/// Switches off whatever merges, splits or leaves packets unfinished on `interface`.
fn offloads_off(namespace: &Namespace, interface: &str) -> Result<()> {
    let mut command = namespace.command("ethtool");
    command.args(["-K", interface]);
    for feature in ["tx", "rx", "sg", "tso", "gso", "gro"] {
        command.args([feature, "off"]);
    }
    let output = command
        .output()
        .context("run ethtool (Debian package ethtool)")?;
    if !output.status.success() {
        bail!(
            "ethtool -K {interface}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Says what this machine lacks for a lab, or nothing if one can be built.
pub fn lacking() -> Vec<String> {
    let mut lacking = Vec::new();
    for (command, package) in [
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
        ("setpriv", "util-linux"),
        ("ethtool", "ethtool"),
        ("dnsmasq", "dnsmasq-base"),
    ] {
        if Command::new(command).arg("--version").output().is_err()
            && Command::new(command).arg("-V").output().is_err()
        {
            lacking.push(format!("the command {command} (Debian package {package})"));
        }
    }
    if !rustix::process::geteuid().is_root() {
        lacking.push("root, for network namespaces and kernel programs".to_owned());
    } else if lacking.is_empty()
        && let Err(error) = Namespace::create(&LabName::fresh(), "trial")
    {
        lacking.push(format!("the right to make network namespaces ({error:#})"));
    }
    lacking
}
