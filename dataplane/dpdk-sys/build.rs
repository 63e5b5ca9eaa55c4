//! Finds libdpdk with pkg-config, compiles the shim and generates the bindings.
//!
//! pkg-config's flags go to the C compiler and to bindgen as they are: they carry
//! `-include rte_config.h` and the `-march` that DPDK's inlines need. Linked are only the libraries
//! whose functions are used; drivers are loaded at run time, by name (`algate::dpdk::eal`).

use std::env;
use std::panic;
use std::path::PathBuf;
use std::process::{Command, exit};

fn main() {
    println!("cargo::rerun-if-changed=shim.h");
    println!("cargo::rerun-if-changed=shim.c");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG_PATH");

    if pkg_config(&["--atleast-version=22.11"]).is_none() {
        refuse("libdpdk 22.11 or newer not found by pkg-config: apt-get install libdpdk-dev pkg-config");
    }
    let cflags = pkg_config(&["--cflags"]).unwrap_or_default();
    compile_shim(&cflags);
    generate_bindings(&cflags);
    link();
}

/// Runs pkg-config on libdpdk; the words it prints, or `None` when it fails or does not exist.
fn pkg_config(arguments: &[&str]) -> Option<Vec<String>> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let output = Command::new(program).args(arguments).arg("libdpdk").output().ok()?;
    let words = || String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect();
    output.status.success().then(words)
}

fn compile_shim(cflags: &[String]) {
    let mut build = cc::Build::new();
    build.file("shim.c").warnings(false).opt_level(2);
    for flag in cflags {
        build.flag(flag);
    }
    if let Err(error) = build.try_compile("dpdk_shim") {
        refuse(&format!("shim.c does not compile against this libdpdk: {error}"));
    }
}

fn generate_bindings(cflags: &[String]) {
    // bindgen panics with a page of advice when it cannot load libclang; one sentence is enough.
    panic::set_hook(Box::new(|_| {}));
    let has_clang = panic::catch_unwind(bindgen::clang_version).is_ok();
    let _ = panic::take_hook();
    if !has_clang {
        refuse("libclang not found, bindgen needs it: apt-get install libclang-dev");
    }

    let mut builder = bindgen::Builder::default()
        .header("shim.h")
        .clang_args(cflags)
        .derive_default(true)
        .generate_comments(false)
        .prepend_enum_name(false)
        .default_enum_style(bindgen::EnumVariation::Consts)
        // Packed and aligned at once, which Rust cannot say; algate never looks inside.
        .opaque_type("rte_mbuf")
        .opaque_type("rte_mempool");
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    for constant in CONSTANTS {
        builder = builder.allowlist_var(constant);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("bindings.rs");
    match builder.generate() {
        Ok(bindings) => {
            if let Err(error) = bindings.write_to_file(&out) {
                refuse(&format!("{}: {error}", out.display()));
            }
        }
        Err(error) => refuse(&format!("bindgen failed on libdpdk's headers: {error}")),
    }
}

fn link() {
    for flag in pkg_config(&["--libs-only-L", "--keep-system-libs"]).unwrap_or_default() {
        if let Some(directory) = flag.strip_prefix("-L") {
            println!("cargo::rustc-link-search=native={directory}");
        }
    }
    for library in ["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_eal"] {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
}

/// Ends the build with one sentence.
fn refuse(sentence: &str) -> ! {
    println!("cargo::error={sentence}");
    exit(1);
}

const FUNCTIONS: &[&str] = &[
    "shim_.*",
    "rte_eal_init",
    "rte_eal_cleanup",
    "rte_eal_get_runtime_dir",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_link_get_nowait",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_enable",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_tx_queue_setup",
    "rte_get_tsc_hz",
    "rte_mempool_avail_count",
    "rte_mempool_free",
    "rte_pktmbuf_free_bulk",
    "rte_pktmbuf_pool_create",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_unregister",
];

const CONSTANTS: &[&str] = &["RTE_PKTMBUF_HEADROOM"];

const TYPES: &[&str] = &[
    "shim_.*",
    "rte_eth_conf",
    "rte_eth_dev_info",
    "rte_eth_link",
    "rte_eth_rx_mq_mode",
    "rte_eth_stats",
    "rte_ether_addr",
];
