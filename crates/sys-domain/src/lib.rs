//! The built-in module for the organisation's domain: its zone, its certificates and its ECH keys, kept consistent by themselves.
//!
//! What must never happen here: a key or certificate kept anywhere but in the vault of sys-core, or a decision about who may
//! change the zone, which the contract makes.
