//! The way of the server's operator: what an import at the first run writes, in one transaction and with nobody asked whether
//! he may.
//!
//! No request leads here. [`Identity::danger_import`] is called at assembly with a transaction of the server itself
//! ([`crate::monitor::Monitor::danger_as_server`]); whoever can call it can write the data files, too. Accounts that an import
//! makes are managed by an org and have accepted what they hold; for everybody else it leaves invitations, as an admin would.
//! Nothing is made twice: what an import made is remembered by its name in the file.

use super::{
    Email, Identity,
    invitations::Invited,
    limits::{MAX_BINDINGS_PER_ACCOUNT, MAX_INVITATIONS_PER_EMAIL},
    rows::Kept,
    scope::{Held, Scope},
    turn::Turn,
    wire::{Binding, Imported, Invitation, Principal},
};
use crate::{
    import::Brought,
    outbox::{self, Effect, Mail},
    password::{Password, StoredPassword},
    records::Record,
    refusal::Refusal,
};
use std::{fmt, sync::Arc};
use sys_contract::{
    id::{AccountId, OrgId, OrgTag, RecordId},
    model::Role,
};
use sys_keys::Entropy;
use sys_policy::Caller;
use sys_store::{Incoming, Open, Tables};

/// Writes what an import brings: rows of Identity, and records of the account module.
pub struct Importer<'a> {
    turn: Turn<'a, &'a mut Open>,
    records: &'a Tables,
    effects: Vec<Effect>,
}

impl fmt::Debug for Importer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Importer").field("effects", &self.effects.len()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Begins an import in a transaction of the server itself. `records` are the tables of the account module.
    pub fn danger_import<'a>(
        &'a self,
        open: &'a mut Open,
        records: &'a Tables,
        entropy: &'a dyn Entropy,
    ) -> Importer<'a> {
        let turn = Turn::new(open, &self.0.tables, Arc::new(Caller::anonymous()), entropy);
        Importer { turn, records, effects: Vec::new() }
    }

    /// Hashes a password for an import. Comes before the transaction: it takes long.
    pub async fn danger_hash(&self, password: Password) -> Result<StoredPassword, Refusal> {
        self.0.passwords.hash(password).await
    }
}

/// An account that a bulk import makes, as far as logging in goes. It has no password: who forgot his gets a new one by mail.
#[derive(Debug)]
pub struct NewAccount<'a> {
    /// Its id. What follows from it is made of its time.
    pub account: AccountId,
    /// Its address.
    pub email: &'a Email,
    /// The org that manages it.
    pub managed_by: Option<OrgId>,
    /// Its address is proven.
    pub verified: bool,
    /// It is shut out.
    pub disabled: bool,
    /// What it holds, and has accepted.
    pub roles: &'a [(Scope, Role)],
}

impl Identity {
    /// Adds to what a line of a bulk import brings the rows of an account. The same line gives the same rows.
    pub fn danger_bring(&self, brought: &mut Brought, new: &NewAccount<'_>) -> Result<(), Refusal> {
        let id = new.account.record();
        let created_unix_s = i64::try_from(unix_ms_of(id) / 1_000).unwrap_or(i64::MAX);
        let principal = Principal {
            email: new.email.as_str().to_owned(),
            verified: new.verified,
            disabled: new.disabled,
            managed_by_org_id: new.managed_by.map(|org| org.to_string()).unwrap_or_default(),
            created_unix_s,
            ..Principal::default()
        };
        brought.push(self.incoming(id, &principal)?);
        if new.roles.len() > MAX_BINDINGS_PER_ACCOUNT {
            return Err(Refusal::invalid("roles", format!("an account holds {MAX_BINDINGS_PER_ACCOUNT} at most")));
        }
        for (number, (scope, role)) in new.roles.iter().enumerate() {
            if *role == Role::Superadmin {
                return Err(Refusal::invalid("roles", "write GUEST, USER or ADMIN"));
            }
            if new.roles.iter().take(number).any(|(other, _)| other == scope) {
                return Err(Refusal::invalid("roles", "it names a place twice"));
            }
            let account = new.account;
            let held = Held {
                account,
                role: *role,
                scope: Some(*scope),
                expires_unix_s: None,
                suspended: false,
                created_unix_s,
            };
            brought.require(*scope);
            brought.push(self.incoming(binding_id(account, scope), &Binding::of(&held))?);
        }
        Ok(())
    }

    pub(super) fn incoming<M: Record>(&self, id: RecordId, row: &M) -> Result<Incoming, Refusal> {
        let table = self.0.tables.by_name(&M::full_name());
        let table = table.ok_or_else(|| Refusal::internal("a row of Identity has no table"))?;
        let mut message = table.empty_record();
        message.transcode_from(row).map_err(Refusal::internal)?;
        Ok(Incoming::new(table, id, message)?)
    }
}

/// The id of an imported binding.
fn binding_id(account: AccountId, scope: &Scope) -> RecordId {
    let project = scope.project().map(|project| project.to_string()).unwrap_or_default();
    derived_id(account.record(), &format!("binding {account} {} {project}", scope.org()))
}

/// The id of a row that goes with a record: the record's time, and what follows from a text that no other row has.
pub(super) fn derived_id(record: RecordId, text: &str) -> RecordId {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let random = digest.as_ref().first_chunk().copied().unwrap_or_default();
    RecordId::new(OrgTag::GLOBAL, unix_ms_of(record), random)
}

/// The time in an id (RFC 9562 section 5.7).
fn unix_ms_of(id: RecordId) -> u64 {
    let [a, b, c, d, e, f, ..] = *id.uuid.as_bytes();
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

impl Importer<'_> {
    /// The time of the import in Unix seconds.
    pub fn now_unix_s(&self) -> i64 {
        self.turn.now_unix_s
    }

    /// A new id in the global tablespace.
    pub fn new_id(&self) -> RecordId {
        self.turn.new_id()
    }

    /// The id of a new org, whose tag no org has or had.
    pub async fn new_org_id(&mut self) -> Result<OrgId, Refusal> {
        self.turn.new_org_id().await
    }

    /// The record that an import made of this.
    pub async fn imported(&mut self, key: &str) -> Result<Option<RecordId>, Refusal> {
        let found = self.turn.find_one(Imported::KEY, key).await?;
        found.map(|kept| record_id(&kept)).transpose()
    }

    /// Remembers the record that was made of this.
    pub async fn remember(&mut self, key: &str, id: RecordId) -> Result<(), Refusal> {
        let row = Imported { id: String::new(), key: key.to_owned(), record_id: id.text(ANY_PREFIX) };
        self.turn.insert(self.turn.new_id(), &row).await
    }

    /// A record of the account module.
    pub async fn record<M: Record>(&mut self, id: RecordId) -> Result<Option<M>, Refusal> {
        let table = self.table::<M>()?;
        let found = self.turn.open().danger_unruled(&table).get(id).await?;
        found.map(|stored| stored.message().transcode_to().map_err(Refusal::internal)).transpose()
    }

    /// Stores a record of the account module.
    pub async fn create<M: Record>(&mut self, id: RecordId, record: &M) -> Result<(), Refusal> {
        let table = self.table::<M>()?;
        let mut new = table.empty_record();
        new.transcode_from(record).map_err(Refusal::internal)?;
        self.turn.open().danger_unruled(&table).create_as(id, new).await?;
        Ok(())
    }

    /// The account of an address, and whether this org manages it.
    pub async fn account_of(&mut self, email: &Email, org: OrgId) -> Result<Option<(AccountId, bool)>, Refusal> {
        let found = self.turn.find_one(Principal::EMAIL, email.as_str()).await?;
        Ok(found.map(|kept| (AccountId::from_record(kept.id), kept.row.managed_by_org_id == org.to_string())))
    }

    /// Makes an account that an org manages. Its password stood in a file, so that it is good on this machine alone; one that
    /// was drawn for it is good everywhere.
    pub async fn add_account(
        &mut self,
        email: &Email,
        org: OrgId,
        password: &StoredPassword,
        loopback_only: bool,
    ) -> Result<AccountId, Refusal> {
        let row = Principal {
            email: email.as_str().to_owned(),
            password_phc: password.phc().to_owned(),
            verified: true,
            managed_by_org_id: org.to_string(),
            loopback_only_password: loopback_only,
            ..Principal::default()
        };
        self.turn.add_principal(row).await
    }

    /// What an account holds at a scope.
    pub async fn held(&mut self, account: AccountId, scope: Scope) -> Result<Option<Held>, Refusal> {
        let all = self.turn.bindings_of(account).await?;
        Ok(all.into_iter().map(|(_, held)| held).find(|held| held.scope == Some(scope)))
    }

    /// Gives an account that its org manages a role there.
    pub async fn bind(&mut self, account: AccountId, scope: Scope, role: Role) -> Result<Held, Refusal> {
        self.turn.bind(account, scope, role, None).await
    }

    /// Invites the owner of an address, unless an import did that before: then `None`.
    pub async fn invite(&mut self, email: &Email, scope: Scope, role: Role) -> Result<Option<Invited>, Refusal> {
        let waiting = self.turn.find(Invitation::EMAIL, email.as_str(), MAX_INVITATIONS_PER_EMAIL).await?;
        let project = scope.project().map(|project| project.to_string()).unwrap_or_default();
        let same =
            |kept: &Kept<Invitation>| kept.row.org_id == scope.org().to_string() && kept.row.project_id == project;
        if waiting.iter().any(same) {
            return Ok(None);
        }
        self.turn.store_invitation(email, scope, role, String::new()).await.map(Some)
    }

    /// Leaves a mail for after the commit.
    pub fn mail(&mut self, mail: Mail) {
        self.effects.push(Effect::Mail(mail));
    }

    /// Ends the import. The transaction is still to be committed.
    pub async fn finish(self) -> Result<(), Refusal> {
        let Self { mut turn, effects, .. } = self;
        let entropy = turn.entropy();
        outbox::store(turn.open(), &effects, entropy).await?;
        turn.end_as_server().await
    }

    fn table<M: Record>(&self) -> Result<Arc<sys_store::Table>, Refusal> {
        let table = self.records.by_name(&M::full_name());
        table
            .cloned()
            .ok_or_else(|| Refusal::internal(format!("{} is no record of the account module", M::full_name())))
    }
}

/// What stands before the ids that an import remembers: of which kind a record is, its key says.
const ANY_PREFIX: &str = "record";

fn record_id(kept: &Kept<Imported>) -> Result<RecordId, Refusal> {
    let id = RecordId::parse(&kept.row.record_id, ANY_PREFIX).map_err(Refusal::internal)?;
    debug_assert_eq!(id.org, OrgTag::GLOBAL, "imports make records of the account module alone");
    Ok(id)
}
