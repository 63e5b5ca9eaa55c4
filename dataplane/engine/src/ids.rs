//! Numbers that must not be mixed up.

/// A DPDK port, by its position in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NicPortId(pub u16);

/// A routed interface, by its position in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub u16);

/// A tenant: internal hosts with an address space of their own, apart from all others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TenantId(pub u16);

impl TenantId {
    /// Of interfaces that name no tenant, and of all that is external.
    pub const NONE: Self = Self(0);
}

/// A thread that handles packets: workers first, then ALG cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u16);
