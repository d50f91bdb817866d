//! The account at a directory: made once, kept, and used from then on.

use crate::{
    clock::AcmeClock,
    directory::{Notes, Watched},
    failure::Failure,
    http::{Exchange, Https},
    kept::{self, Kept},
    settings::{ExternalAccount, Settings, SettingsError},
};
use ::http::Uri;
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};
use tokio::sync::Mutex;

/// A clock that is wrong by more than this is put right first: certificates are dated back by an hour, and one whose end is
/// reckoned wrongly is not renewed in time.
const MAX_SKEW_S: u64 = 3_600;
const FORMAT: u8 = 1;

/// Opens the account at one directory.
pub(crate) struct Accounts {
    directory: Uri,
    contact: Option<String>,
    external: Option<ExternalAccount>,
    exchange: Arc<dyn Exchange>,
    kept: Arc<dyn Kept>,
    clock: Arc<dyn AcmeClock>,
    place: String,
    /// Held while one is made, so that certificates which begin together do not make one each.
    making: Mutex<()>,
}

/// An account, for one try.
pub(crate) struct Opened {
    pub(crate) account: Account,
    pub(crate) notes: Notes,
}

#[derive(Serialize, Deserialize)]
struct KeptAccount {
    format: u8,
    credentials: AccountCredentials,
}

impl Accounts {
    pub(crate) fn new(
        settings: &Settings,
        kept: Arc<dyn Kept>,
        clock: Arc<dyn AcmeClock>,
    ) -> Result<Self, SettingsError> {
        let exchange = Arc::new(Https::new(settings.root_pem.as_deref())?);
        Self::over(exchange, settings, kept, clock)
    }

    /// The same over another way to the directory.
    pub(crate) fn over(
        exchange: Arc<dyn Exchange>,
        settings: &Settings,
        kept: Arc<dyn Kept>,
        clock: Arc<dyn AcmeClock>,
    ) -> Result<Self, SettingsError> {
        let directory = settings.directory_uri()?;
        let contact = settings.contact()?;
        let external = settings.external_account.clone();
        let key_id = external.as_ref().map_or("", |external| &external.key_id);
        let place = kept::place("account", &[&directory.to_string(), key_id]);
        Ok(Self { directory, contact, external, exchange, kept, clock, place, making: Mutex::new(()) })
    }

    /// The account, made if there is none yet. Asks the directory afresh. `notes` are those of this try.
    pub(crate) async fn open(&self, notes: &Notes) -> Result<Opened, Failure> {
        let account = match self.load(notes).await? {
            Some(account) => account,
            None => {
                let _making = self.making.lock().await;
                match self.load(notes).await? {
                    Some(account) => account,
                    None => self.make(notes).await?,
                }
            }
        };
        let skew = notes.skew_s().unwrap_or(0).unsigned_abs();
        if skew > MAX_SKEW_S {
            return Err(Failure::Clock { by_s: skew });
        }
        Ok(Opened { account, notes: notes.clone() })
    }

    /// The directory does not know it any more: the next try makes another.
    pub(crate) async fn forget(&self) -> Result<(), Failure> {
        Ok(self.kept.remove(&self.place).await?)
    }

    async fn load(&self, notes: &Notes) -> Result<Option<Account>, Failure> {
        let Some(kept) = kept::read::<KeptAccount>(&*self.kept, &self.place).await? else { return Ok(None) };
        if kept.format != FORMAT {
            return Err(Failure::Kept { reason: "the ACME account was kept by a newer version".to_owned() });
        }
        let builder = Account::builder_with_http(Box::new(self.way(notes)));
        builder.from_credentials(kept.credentials).await.map(Some).map_err(Failure::from_acme)
    }

    async fn make(&self, notes: &Notes) -> Result<Account, Failure> {
        let contact: Vec<&str> = self.contact.iter().map(String::as_str).collect();
        // Whoever runs a server that gets certificates agrees to the CA's terms: there is no certificate without.
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external =
            self.external.as_ref().map(|external| ExternalAccountKey::new(external.key_id.clone(), &external.key));
        let builder = Account::builder_with_http(Box::new(self.way(notes)));
        let made = builder.create(&new, self.directory.to_string(), external.as_ref()).await;
        let (account, credentials) = made.map_err(Failure::from_acme)?;
        let kept = KeptAccount { format: FORMAT, credentials };
        kept::write(&*self.kept, &self.place, &kept).await?;
        tracing::info!(directory = %self.directory, "an ACME account was made");
        Ok(account)
    }

    fn way(&self, notes: &Notes) -> Watched {
        Watched {
            exchange: Arc::clone(&self.exchange),
            clock: Arc::clone(&self.clock),
            directory: self.directory.clone(),
            notes: notes.clone(),
        }
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("directory", &self.directory).finish_non_exhaustive()
    }
}
