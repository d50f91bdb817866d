//! How everything stands: what the keeper leaves behind after each round, for the status and for edits.

use crate::{ech, own::Moment, registrar::Seen};
use std::{collections::BTreeMap, sync::Arc};
use sys_acme::CertificateStatus;
use sys_dns::{
    dnssec::Rollover,
    zone::{Kind, Name, ZoneError},
};

/// All of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// What changes by itself in the server's own records.
    pub(crate) moment: Moment,
    /// By domain.
    pub(crate) zones: BTreeMap<Name, ZoneFacts>,
    /// The certificates that are fetched.
    pub(crate) ordered: Vec<Ordered>,
    /// The certificates that the listener shows.
    pub(crate) shown: Vec<ShownCertificate>,
    /// The ECH keys, with their numbers in the handshake.
    pub(crate) ech: Vec<EchFacts>,
    /// What failed in the keeper itself.
    pub(crate) troubles: Vec<Trouble>,
    /// When these were true.
    pub(crate) now_unix_s: i64,
}

/// One zone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ZoneFacts {
    pub(crate) serial: u32,
    pub(crate) sets: usize,
    pub(crate) rollover: Option<Rollover>,
    pub(crate) hidden: Vec<(Name, Kind)>,
    pub(crate) faults: Vec<ZoneError>,
    pub(crate) seen: Option<Seen>,
}

/// Whoever fetches certificates from a source.
#[derive(Clone)]
pub(crate) struct Fetcher {
    pub(crate) source: Source,
    pub(crate) keeper: Arc<sys_acme::Keeper>,
}

/// How it stands with the certificates of a source.
pub(crate) fn ordered(source: Source, keeper: &sys_acme::Keeper) -> impl Iterator<Item = Ordered> + use<> {
    keeper.status().into_iter().map(move |status| Ordered { source, status })
}

/// A certificate that is fetched, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Ordered {
    pub(crate) source: Source,
    pub(crate) status: CertificateStatus,
}

/// A certificate that the listener shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShownCertificate {
    pub(crate) names: Vec<String>,
    pub(crate) source: Source,
    pub(crate) until_unix_s: i64,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Files,
    Acme,
    LocalCa,
}

/// An ECH key.
#[derive(Debug, Clone)]
pub(crate) struct EchFacts {
    pub(crate) about: ech::Key,
    pub(crate) config_id: u8,
    /// Whether records say it.
    pub(crate) is_shown: bool,
    /// When it is replaced or dropped.
    pub(crate) changes_unix_s: i64,
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Trouble {
    pub(crate) about: String,
    pub(crate) problem: String,
    pub(crate) remedy: String,
    /// Whether something does not work by it, now.
    pub(crate) is_broken: bool,
}
