//! The environment abstraction layer: DPDK's memory, devices and threads.
//!
//! Its arguments are derived from the configuration, never typed. It starts once per process. Each
//! process has a file prefix of its own (the configured one and the process id), so that several run
//! on one machine; the files under it are removed at exit.
//!
//! Only the drivers that the configuration names are loaded (`drivers`).

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use algate_config::{Config, LogLevel};

use super::device::{EalArgument, EalDevice};
use super::drivers::DriverFolder;
use super::memory::{Backing, MemoryPlan};
use super::{error_text, last_errno};
use crate::setup_error::SetupError;

/// The started EAL. Dropping it cleans up.
#[derive(Debug)]
pub struct Eal {
    memory: MemoryPlan,
    runtime_directory: PathBuf,
    keep_memory: AtomicBool,
    /// The EAL may point into its arguments as long as it runs.
    _arguments: Vec<CString>,
}

impl Eal {
    /// Starts the EAL with `devices`, the configured NIC ports.
    ///
    /// # Errors
    /// When it was started before in this process, a driver is not installed, or the EAL refuses;
    /// its own words are then on the standard error output.
    pub fn start(config: &Config, devices: &[EalDevice], memory: MemoryPlan) -> Result<Self, SetupError> {
        let folder = DriverFolder::of_process()?;
        let drivers = folder.paths(devices)?;
        let arguments = arguments(config, devices, &memory, &drivers, process::id());
        log::debug!("eal starting arguments=\"{}\"", arguments.join(" "));
        match &memory.backing {
            Backing::Hugepages => log::info!("memory backing=hugepages mebibytes={}", memory.mebibytes),
            Backing::Ordinary(why) => log::info!(
                "memory backing=ordinary_pages mebibytes={} reason=\"{why}\" effect=slower",
                memory.mebibytes
            ),
        }
        let arguments: Vec<CString> = arguments
            .into_iter()
            .map(CString::new)
            .collect::<Result<_, _>>()
            .map_err(|_| SetupError::new("a value for DPDK has a zero byte in it: remove it"))?;
        let mut pointers: Vec<*mut c_char> = arguments.iter().map(|a| a.as_ptr().cast_mut()).collect();
        let count = c_int::try_from(pointers.len()).unwrap_or(c_int::MAX);
        if STARTED.swap(true, Ordering::Relaxed) {
            return Err(SetupError::new("DPDK was started before in this process: start algate anew"));
        }
        let only_named = folder.hide();
        // SAFETY: first call in this process (STARTED); `pointers` are `count` C strings that live as
        // long as the returned value. The EAL may reorder the pointers, and writes to no string.
        let code = unsafe { dpdk_sys::rte_eal_init(count, pointers.as_mut_ptr()) };
        drop(only_named);
        let runtime_directory = runtime_directory();
        if code < 0 {
            remove(&runtime_directory);
            return Err(SetupError::new(format!(
                "DPDK does not start ({}): its own message is above",
                error_text(last_errno())
            )));
        }
        remove_leftovers(&runtime_directory, &config.eal.file_prefix);
        Ok(Self { memory, runtime_directory, keep_memory: AtomicBool::new(false), _arguments: arguments })
    }

    /// What it was started with.
    #[must_use]
    pub fn memory(&self) -> &MemoryPlan {
        &self.memory
    }

    /// The folder of this process's EAL files, removed at the end.
    #[must_use]
    pub fn runtime_directory(&self) -> &Path {
        &self.runtime_directory
    }

    /// Says that memory is still in use: it must not be unmapped at the end.
    pub(super) fn keep_memory(&self) {
        self.keep_memory.store(true, Ordering::Relaxed);
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        if !self.keep_memory.load(Ordering::Relaxed) {
            // SAFETY: started by us, once; ports and mempools hold an `Arc` of `self`, so none is
            // left, and the last mempool found all its buffers at home.
            unsafe { dpdk_sys::rte_eal_cleanup() };
        }
        remove(&self.runtime_directory);
    }
}

/// The EAL's arguments. `drivers` are paths of shared objects.
fn arguments(
    config: &Config,
    devices: &[EalDevice],
    memory: &MemoryPlan,
    drivers: &[PathBuf],
    process_id: u32,
) -> Vec<String> {
    let level = match config.log.level {
        LogLevel::Error => "error",
        LogLevel::Warn | LogLevel::Info => "warning",
        LogLevel::Debug => "info",
    };
    let mut arguments: Vec<String> = vec![
        "algate".to_owned(),
        "-l".to_owned(),
        config.eal.main_core.to_string(),
        format!("--file-prefix={}.{process_id}", config.eal.file_prefix),
        "--no-telemetry".to_owned(),
        format!("--log-level=*:{level}"),
    ];
    match memory.backing {
        Backing::Hugepages => arguments.push("--huge-unlink=always".to_owned()),
        Backing::Ordinary(_) => {
            arguments.extend(["--no-huge".to_owned(), "-m".to_owned(), memory.mebibytes.to_string()]);
        }
    }
    for driver in drivers {
        arguments.extend(["-d".to_owned(), driver.display().to_string()]);
    }
    let is_pci = |device: &EalDevice| matches!(device.argument, EalArgument::Pci(_));
    if !devices.iter().any(is_pci) {
        arguments.push("--no-pci".to_owned());
    }
    for device in devices {
        match &device.argument {
            EalArgument::Vdev(vdev) => arguments.push(format!("--vdev={vdev}")),
            EalArgument::Pci(address) => arguments.extend(["-a".to_owned(), address.clone()]),
        }
    }
    arguments
}

/// Where the EAL puts its files; empty when it failed before it knew.
fn runtime_directory() -> PathBuf {
    // SAFETY: no precondition; returns a C string that lives as long as the process.
    let directory = unsafe { dpdk_sys::rte_eal_get_runtime_dir() };
    // SAFETY: not null, ends with a zero byte (see above); copied at once.
    let directory = unsafe { CStr::from_ptr(directory) };
    PathBuf::from(directory.to_string_lossy().into_owned())
}

/// Removes what processes of the same prefix left that were killed: over a megabyte each, in memory.
fn remove_leftovers(runtime_directory: &Path, prefix: &str) {
    let entries = runtime_directory.parent().and_then(|parent| fs::read_dir(parent).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process_id = name.to_str().and_then(|name| name.strip_prefix(prefix)?.strip_prefix('.'));
        let Some(Ok(process_id)) = process_id.map(str::parse::<u32>) else {
            continue;
        };
        if !Path::new(&format!("/proc/{process_id}")).exists() {
            remove(&entry.path());
        }
    }
}

fn remove(directory: &Path) {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            log::warn!("eal directory not removed path={} error=\"{error}\"", directory.display());
        }
        _ => {}
    }
}

static STARTED: AtomicBool = AtomicBool::new(false);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_the_leftovers_of_dead_processes_of_its_prefix_only() {
        let base = std::env::temp_dir().join(format!("algate-leftovers-{}", process::id()));
        // No process has this number: it is above the kernel's limit of 2^22.
        let names = ["algate.4194305", "other.4194305", "algate.new", &format!("algate.{}", process::id())];
        for name in names {
            fs::create_dir_all(base.join(name).join("inside")).unwrap();
        }
        remove_leftovers(&base.join("algate.1"), "algate");
        let left: Vec<bool> = names.iter().map(|name| base.join(name).exists()).collect();
        assert_eq!(left, [false, true, true, true]);
        fs::remove_dir_all(&base).unwrap();
    }
}
