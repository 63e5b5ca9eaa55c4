//! The facts of the machine that a config is checked against.

use crate::read::Field;
use crate::schema::enumerate;
use crate::value;

/// What the machine has. Stated by the caller: this crate does not look for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Cores that exist and may be used, ascending; empty: not known, every core is believed.
    pub cores: Vec<usize>,
    /// Names of the kernel's network interfaces; `None`: not known, every name is believed.
    pub kernel_interfaces: Option<Vec<String>>,
}

impl Machine {
    /// A machine of which nothing is known: every core and every kernel interface is believed. Where
    /// a default follows from the cores, it is that of two cores.
    pub fn unchecked() -> Self {
        Self { cores: Vec::new(), kernel_interfaces: None }
    }

    /// The cores that defaults are chosen from.
    pub(crate) fn usable_cores(&self) -> &[usize] {
        if self.cores.is_empty() { &[0, 1] } else { &self.cores }
    }

    /// Reads the number of a core that exists.
    pub(crate) fn core(&self) -> impl Fn(&Field<'_>) -> Option<usize> {
        |field| {
            let core = value::integer(0..=1023)(field)?;
            if self.cores.is_empty() || self.cores.contains(&core) {
                return Some(core);
            }
            let cores: Vec<String> = self.cores.iter().map(usize::to_string).collect();
            field.place.refuse("does not exist or may not be used", enumerate("core", &cores));
            None
        }
    }

    /// Reads the name of a kernel interface that exists.
    pub(crate) fn existing_interface(&self) -> impl Fn(&Field<'_>) -> Option<String> {
        |field| {
            let name = value::kernel_interface(field)?;
            match &self.kernel_interfaces {
                Some(existing) if !existing.contains(&name) => {
                    let remedy = enumerate("kernel interface", existing);
                    field.place.refuse("does not exist on this machine", remedy);
                    None
                }
                _ => Some(name),
            }
        }
    }
}
