//! Devices under test: programs with one worker between two memif servers.
//!
//! A device is restarted for each run, for DPDK 22.11's memif driver does not survive every reconnection. Devices end with the
//! bench, however it ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::generator::flow::Treatment;

/// A program that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// `dpdk-testpmd --burst=128` in io mode, which looks at no packet: the limit.
    Io,
    /// The same, writing MAC addresses.
    Mac,
    /// The same, exchanging MAC addresses, addresses and ports.
    Swap,
    /// algate with a rule that leaves addresses as they are. It keeps sessions all the same: algate has no forwarding
    /// without them.
    Route,
    /// algate's NAT, endpoint-independent, ports one by one.
    Nat,
    /// algate's NAT with port blocks and event records.
    NatBlocks,
    /// algate's NAT, SIP read by its ALG.
    NatSip,
}

impl Device {
    /// As tables call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Io => "testpmd io",
            Self::Mac => "testpmd mac",
            Self::Swap => "testpmd 5tswap",
            Self::Route => "algate, no NAT",
            Self::Nat => "algate NAT",
            Self::NatBlocks => "algate NAT, blocks",
            Self::NatSip => "algate NAT, SIP",
        }
    }

    /// What it does to packets.
    #[must_use]
    pub const fn treatment(self) -> Treatment {
        match self {
            Self::Io | Self::Mac => Treatment::Forward,
            Self::Swap => Treatment::Swap,
            Self::Route => Treatment::Route,
            Self::Nat | Self::NatBlocks | Self::NatSip => Treatment::Nat,
        }
    }

    /// Whether it is a router, which must be introduced.
    #[must_use]
    pub const fn is_router(self) -> bool {
        matches!(self.treatment(), Treatment::Route | Treatment::Nat)
    }

    /// What it says when it runs. A client that comes between its socket and its start gets no link, ever; what it
    /// sends before testpmd has emptied the queues is lost.
    const fn started(self) -> &'static str {
        if self.is_router() { "algate started" } else { "packets/burst=" }
    }
}

/// Where devices run.
#[derive(Debug, Clone)]
pub struct Place {
    /// For sockets, configurations and logs.
    pub directory: PathBuf,
    /// The program `algate`.
    pub algate: PathBuf,
    /// Whether there are hugepages.
    pub has_hugepages: bool,
    /// The core of the generator, and that of the device's worker.
    pub cores: [usize; 2],
    /// The core of the device's main thread: with two cores the generator's, which it disturbs whenever it wakes up.
    pub main_core: usize,
}

/// A running device.
#[derive(Debug)]
pub struct Running {
    child: Child,
    directory: PathBuf,
}

impl Place {
    /// Starts `device` with tables for `flows` flows, and waits until it runs.
    ///
    /// # Errors
    /// It does not, with the end of its log.
    pub fn start(&self, device: Device, flows: u32) -> Result<Running, String> {
        // What a bench that was killed has left.
        remove_sockets(&self.directory);
        let log = self.log();
        let output = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = output.try_clone().map_err(|error| error.to_string())?;
        let mut command = if device.is_router() { self.algate(device, flows)? } else { self.testpmd(device) };
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().map_err(|error| format!("{}: {error}", device.name()))?;
        let mut running = Running { child, directory: self.directory.clone() };
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if fs::read_to_string(&log).is_ok_and(|text| text.contains(device.started())) {
                return Ok(running);
            }
            if !matches!(running.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("{} does not start; it said: {}", device.name(), self.last_words()))
    }

    /// The end of the device's log.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(5)).fold(String::new(), |all, line| all + "\n  " + line)
    }

    /// The socket of the internal, or of the external link.
    #[must_use]
    pub fn socket(&self, side: &str) -> PathBuf {
        self.directory.join(format!("{side}.sock"))
    }

    fn log(&self) -> PathBuf {
        self.directory.join("device.log")
    }

    fn algate(&self, device: Device, flows: u32) -> Result<Command, String> {
        let config = self.directory.join("algate.toml");
        fs::write(&config, config_of(device, flows, self))
            .map_err(|error| format!("{}: {error}", config.display()))?;
        let mut command = self.mortal(&self.algate);
        command.arg("run").arg("-c").arg(config);
        Ok(command)
    }

    /// `--disable-link-check`, or it waits 9 s for links.
    fn testpmd(&self, device: Device) -> Command {
        let mode = match device {
            Device::Mac => "mac",
            Device::Swap => "5tswap",
            _ => "io",
        };
        let mut command = self.mortal(Path::new("stdbuf"));
        command.args(["-oL", "dpdk-testpmd", "-l", &self.core_list()]);
        command.args(["--no-pci", "--no-telemetry", "--log-level=*:warning"]);
        command.arg(format!("--file-prefix=algate-limit-{}", std::process::id()));
        match self.has_hugepages {
            true => command.arg("--huge-unlink=always"),
            false => command.args(["--no-huge", "-m", "256"]),
        };
        for (number, side) in ["internal", "external"].into_iter().enumerate() {
            let socket = self.socket(side);
            command.arg(format!(
                "--vdev=net_memif{number},role=server,id=0,socket={},socket-abstract=no,rsize=10",
                socket.display()
            ));
        }
        command.args(["--", "--burst=128", "--nb-cores=1", "--disable-link-check"]);
        command.args(["--total-num-mbufs=16384", "--stats-period=3600"]);
        command.arg(format!("--forward-mode={mode}"));
        command
    }

    /// A command that ends when the bench does, even when that is killed, and that may use both of its cores, though this thread
    /// is pinned to another.
    fn mortal(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "taskset", "-c", &self.core_list()]).arg(program);
        command
    }

    fn core_list(&self) -> String {
        let [_, device] = self.cores;
        format!("{},{device}", self.main_core)
    }
}

impl Running {
    /// Memory of the device that is in RAM, bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kilobytes =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
        kilobytes.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
        let start = Instant::now();
        while start.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        remove_sockets(&self.directory);
    }
}

fn remove_sockets(directory: &Path) {
    for side in ["internal", "external", "control"] {
        let _ = fs::remove_file(directory.join(format!("{side}.sock")));
    }
}

/// First and last address of the pool for so many flows: a quarter of the ports is used at most.
#[must_use]
pub const fn pool_for(flows: u32) -> (u32, u32) {
    const FIRST: u32 = 0xC613_0000;
    let addresses = match flows {
        0..=4_194_304 => 256,
        _ => 1024,
    };
    (FIRST, FIRST + addresses - 1)
}

fn config_of(device: Device, flows: u32, place: &Place) -> String {
    // A quarter of them may be half-open connections: more than are ever in flight. A sixteenth is free, as in a table that is large
    // enough: in one that is full to its last slot, one insert in millions finds its buckets taken.
    let sessions = flows.max(15 * 1024) + flows / 16 + 1024;
    let (first, last) = pool_for(flows);
    let pool_bits = 32 - (last - first + 1).ilog2();
    let rule = if device == Device::Route { "action = \"none\"" } else { "pool = \"bench\"" };
    let (pool, events) = match device {
        Device::NatBlocks => ("block_size = 64\nblocks_per_host = 4", ""),
        _ => ("", "[events]\nmappings = \"never\""),
    };
    let alg = if device == Device::NatSip { "[alg.sip]\nenabled = true" } else { "" };
    TEMPLATE
        .replace("DIRECTORY", &place.directory.display().to_string())
        .replace("PREFIX", &format!("algate-perf-{}", std::process::id()))
        .replace("MAIN", &place.main_core.to_string())
        .replace("CORE", &place.cores[1].to_string())
        .replace("SESSIONS", &sessions.to_string())
        .replace("SUBSCRIBERS", &(sessions / 64 + 4096).to_string())
        .replace("POOL_BITS", &pool_bits.to_string())
        .replace("POOL_KEYS", pool)
        .replace("RULE", rule)
        .replace("EVENTS", events)
        .replace("ALG", alg)
}

const TEMPLATE: &str = include_str!("../../algate.toml.in");
/// 16 million sessions take a few seconds to allocate.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use algate_config::{Config, Machine};

    #[test]
    fn every_device_of_ours_has_a_configuration_that_is_accepted() {
        let place = Place {
            directory: std::env::temp_dir().join("bench"),
            algate: "algate".into(),
            has_hugepages: false,
            cores: [0, 1],
            main_core: 0,
        };
        for device in [Device::Route, Device::Nat, Device::NatBlocks, Device::NatSip] {
            for flows in [1, 1_048_576, 16_777_216] {
                let text = config_of(device, flows, &place);
                let config = Config::parse(&text, "bench", &Machine::unchecked())
                    .unwrap_or_else(|errors| panic!("{device:?}: {errors:?}"));
                assert!(config.tables.sessions as u32 >= flows);
            }
        }
    }
}
