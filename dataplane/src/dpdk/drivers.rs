//! Finds the drivers that the configuration names, and keeps the EAL from loading all others.
//!
//! Each driver is code that runs as root: the one that is not there has no bug. A shared EAL loads
//! whatever lies in the distribution's driver folder (150 libraries), whether `-d` names drivers or
//! not; the folder's path is compiled in, and no argument turns it off (DPDK 22.11,
//! `eal_plugins_init`). But first it asks with `stat64` whether the folder exists. So this module defines
//! a `stat64` of the process's own, found before the C library's, which says no to this one question
//! when the EAL starts, and passes every other one on.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::device::EalDevice;
use crate::setup_error::SetupError;

/// Where the distribution keeps drivers.
pub(super) struct DriverFolder {
    directory: PathBuf,
    /// The version in the drivers' file names (`23.0`).
    abi: String,
}

impl DriverFolder {
    /// The folder that belongs to the very `librte_eal` this process is linked with: `dpdk/pmds-23.0`
    /// beside `librte_eal.so.23.0`.
    pub(super) fn of_process() -> Result<Self, SetupError> {
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let found = maps.lines().find_map(|line| {
            let path = Path::new(line.get(line.find('/')?..)?);
            let abi = path.file_name()?.to_str()?.strip_prefix("librte_eal.so.")?;
            let directory = path.parent()?.join(format!("dpdk/pmds-{abi}"));
            Some(Self { directory, abi: abi.to_owned() })
        });
        found.ok_or_else(|| {
            SetupError::new("librte_eal is not among this process's shared objects: link algate dynamically")
        })
    }

    /// The shared objects of `devices` and the mempool's, each once.
    pub(super) fn paths(&self, devices: &[EalDevice]) -> Result<Vec<PathBuf>, SetupError> {
        let mut names = vec!["rte_mempool_ring"];
        names.extend(devices.iter().flat_map(|device| device.drivers.iter().copied()));
        names.sort_unstable();
        names.dedup();
        let path = |name| self.directory.join(format!("lib{name}.so.{}", self.abi));
        let paths: Vec<PathBuf> = names.into_iter().map(path).collect();
        let missing = |path: &PathBuf| {
            format!("DPDK's driver {} is not installed: apt-get install libdpdk-dev", path.display())
        };
        SetupError::unless_empty(paths.iter().filter(|path| !path.exists()).map(missing).collect())?;
        Ok(paths)
    }

    /// Makes the next `stat64` of the folder itself, not of files in it, fail: the question whether it
    /// exists. Later ones are about its permissions, once per named driver. Ends when the result is
    /// dropped.
    pub(super) fn hide(&self) -> Hidden {
        // A path has no zero byte; an empty one hides nothing.
        let path = CString::new(self.directory.as_os_str().as_bytes()).unwrap_or_default();
        // Pairs with the Acquire in `stat64`.
        HIDDEN.store(path.as_ptr().cast_mut(), Ordering::Release);
        Hidden { _path: path }
    }
}

/// A folder is hidden while this lives. One at a time: the EAL starts once.
pub(super) struct Hidden {
    _path: CString,
}

impl Drop for Hidden {
    fn drop(&mut self) {
        HIDDEN.store(ptr::null_mut(), Ordering::Release);
    }
}

/// The path whose next `stat64` fails; null: none.
static HIDDEN: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// `stat64(2)`, except that the hidden folder does not exist when first asked for.
///
/// # Safety
/// As for `stat64`: `path` is a C string, `out` has room for a `struct stat64`.
#[unsafe(no_mangle)]
unsafe extern "C" fn stat64(path: *const c_char, out: *mut c_void) -> c_int {
    let hidden = HIDDEN.load(Ordering::Acquire);
    // SAFETY: not null means a C string that lives until `Hidden::drop` has put null there; only the
    // EAL's start on this thread runs in between, and it ends before the drop.
    if !hidden.is_null() && unsafe { same(hidden, path) } {
        HIDDEN.store(ptr::null_mut(), Ordering::Release);
        return -1;
    }
    // SAFETY: the caller's promises are those that `fstatat64` asks for.
    unsafe { fstatat64(AT_FDCWD, path, out, 0) }
}

/// Whether two paths are the same text.
///
/// # Safety
/// Both are C strings.
unsafe fn same(a: *const c_char, b: *const c_char) -> bool {
    // SAFETY: the caller's promise.
    let a = unsafe { CStr::from_ptr(a) };
    // SAFETY: the caller's promise.
    let b = unsafe { CStr::from_ptr(b) };
    a == b
}

unsafe extern "C" {
    /// The C library's own; `stat64(path, out)` is `fstatat64(AT_FDCWD, path, out, 0)`.
    fn fstatat64(directory: c_int, path: *const c_char, out: *mut c_void, flags: c_int) -> c_int;
}

const AT_FDCWD: c_int = -100;
