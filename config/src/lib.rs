//! What the operator wrote: one TOML file, validated into a [`Config`], all errors at once.
//!
//! Pure: text in, model or errors out. Nothing here opens a device or knows DPDK; what must be known
//! of the machine is stated as a [`Machine`].
//!
//! Each table of the file is one module that declares its keys (`schema`), reads them through a
//! cursor that notes every mistake (`read`, `value`, `address`, `names`), and prints them (`print`).
//!
//! ```
//! use algate_config::{Config, Machine};
//!
//! let errors = Config::parse("[eal]\nburst = 32\n", "algate.toml", &Machine::unchecked()).unwrap_err();
//! assert_eq!(
//!     errors.iter().last().map(|error| error.to_string()).as_deref(),
//!     Some("algate.toml:2: eal.burst: is not a key of [eal]; it belongs in [workers]")
//! );
//! ```
#![forbid(unsafe_code)]

mod address;
mod alg;
mod control;
mod duration;
mod eal;
mod errors;
mod events;
mod filter;
mod fragments;
mod icmp;
mod interface;
mod log;
mod machine;
mod model;
mod names;
mod nat;
mod nic_port;
mod pcp;
mod print;
mod protocol;
mod read;
mod route;
mod schema;
mod tables;
mod tcp;
mod timeouts;
mod value;
mod workers;

pub use errors::{Error, Errors};
pub use machine::Machine;
pub use model::*;

impl Config {
    /// Reads and checks a whole file. `file` is its name in messages.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file, in line order. A text that is not TOML is not looked
    /// into any further.
    pub fn parse(text: &str, file: &str, machine: &Machine) -> Result<Self, Errors> {
        let (entries, syntax_errors) = toml::de::DeTable::parse_recoverable(text);
        let document = read::Document::new(file, text);
        document.check_syntax(&syntax_errors)?;
        let config = Self::read(&read::Table::root(&document, entries.get_ref()), machine);
        document.finish(config)
    }

    /// The effective config as TOML: every default filled in, a reason for each key. Parsed again, it
    /// is the same config.
    pub fn to_toml(&self) -> String {
        let mut out = print::Printer::default();
        eal::print(&self.eal, &mut out);
        workers::print(&self.workers, &mut out);
        nic_port::print(&self.nic_ports, &mut out);
        interface::print(&self.interfaces, &self.nic_ports, &mut out);
        route::print(&self.routes, &self.interfaces, &mut out);
        nat::print(&self.nat, &mut out);
        filter::print(&self.filter, &self.interfaces, &mut out);
        alg::print(&self.alg, &mut out);
        tcp::print(&self.tcp, &mut out);
        timeouts::print(&self.timeouts, &mut out);
        fragments::print(&self.fragments, &mut out);
        tables::print(&self.tables, &mut out);
        icmp::print(&self.icmp, &mut out);
        pcp::print(&self.pcp, &mut out);
        events::print(&self.events, &mut out);
        control::print(&self.control, &mut out);
        log::print(&self.log, &mut out);
        out.finish()
    }

    /// What is wrong is noted in the document and replaced by a value that nobody will see.
    fn read(root: &read::Table<'_>, machine: &Machine) -> Self {
        let eal = eal::read(root, machine);
        let workers = workers::read(root, &eal, machine);
        let nic_ports = nic_port::read(root, machine);
        let interfaces = interface::read(root, &nic_ports);
        let routes = route::read(root, &interfaces);
        let alg = alg::read(root, &interfaces);
        let fragments = fragments::read(root, &alg);
        let tables = tables::read(root, &workers, &nic_ports, &fragments);
        Self {
            nat: nat::read(root, &interfaces, &routes, tables.sessions),
            filter: filter::read(root, &interfaces),
            alg,
            tcp: tcp::read(root),
            timeouts: timeouts::read(root),
            fragments,
            icmp: icmp::read(root),
            pcp: pcp::read(root, &tables),
            tables,
            events: events::read(root),
            control: control::read(root),
            log: log::read(root),
            eal,
            workers,
            nic_ports: nic_ports.into_iter().map(|nic_port| nic_port.value).collect(),
            interfaces: interfaces.into_iter().map(interface::Draft::into_model).collect(),
            routes: routes.into_iter().map(|route| route.value).collect(),
        }
    }
}
