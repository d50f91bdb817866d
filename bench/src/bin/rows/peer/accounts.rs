//! Login, who one is, and roles.

use super::{State, failed, parse_id, tokens::Caller};
use crate::messages::{AssignRole, Binding, Login, TokenPair, WhoAmI};
use anyhow::{Result, anyhow};
use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use connectrpc::ConnectError;
use uuid::Uuid;

const ACCOUNT: &str = "SELECT id, password FROM account WHERE email = $1 AND verified";
const SESSION: &str = "WITH noted AS (\
         INSERT INTO audit (account_id, session_id, method) VALUES ($2, $1, 'Login')) \
     INSERT INTO session (id, account_id, refresh_hash, device_name) VALUES ($1, $2, $3, $4)";
const BINDINGS: &str = "SELECT org_id, project_id, role FROM member WHERE account_id = $1";
const ASSIGN: &str = "WITH noted AS (\
         INSERT INTO audit (org_id, account_id, session_id, method, record_id) VALUES ($2, $5, $6, 'AssignRole', $1)) \
     INSERT INTO member (account_id, org_id, project_id, role) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (account_id, org_id, project_id) DO UPDATE SET role = EXCLUDED.role";
const ROLES: [&str; 3] = ["GUEST", "USER", "ADMIN"];

/// A hash of no account's password, with the parameters of all: 19 MiB, two passes, as ours.
pub(super) fn decoy() -> Result<String> {
    hash("no account's password")
}

/// The hash of a password as it stands in the database.
pub fn hash(password: &str) -> Result<String> {
    let mut salt = [0; 16];
    rand::fill(&mut salt)?;
    let hash =
        Argon2::default().hash_password_with_salt(password.as_bytes(), &salt).map_err(|error| anyhow!("{error}"))?;
    Ok(hash.to_string())
}

impl State {
    pub(super) async fn login(&self, request: Login) -> Result<TokenPair, ConnectError> {
        let short = request.email.len() <= 254 && request.password.len() <= 1024 && request.device_name.len() <= 400;
        if !short || request.email.is_empty() || request.password.is_empty() {
            return Err(ConnectError::invalid_argument("email, password or device_name: too long, or empty"));
        }
        let client = self.connection().await?;
        let statement = client.prepare_cached(ACCOUNT).await.map_err(failed)?;
        let row = client.query_opt(&statement, &[&request.email.to_lowercase()]).await.map_err(failed)?;
        // Given back while the password is checked.
        drop(client);
        let (account, stored) = match &row {
            Some(row) => (Some(row.get::<_, Uuid>(0)), row.get(1)),
            None => (None, self.decoy.clone()),
        };
        let holds = tokio::task::spawn_blocking(move || {
            let parsed = PasswordHash::new(&stored).ok()?;
            Argon2::default().verify_password(request.password.as_bytes(), &parsed).ok()
        });
        let holds = holds.await.map_err(|error| ConnectError::internal(error.to_string()))?;
        let account = account.filter(|_| holds.is_some());
        let account = account.ok_or_else(|| ConnectError::unauthenticated("wrong address or password"))?;

        let session = Uuid::now_v7();
        let mut secret = [0; 32];
        rand::fill(&mut secret).map_err(|_| ConnectError::internal("no randomness"))?;
        let refresh_hash = digest(&SHA256, &secret);
        let client = self.connection().await?;
        let statement = client.prepare_cached(SESSION).await.map_err(failed)?;
        client
            .execute(&statement, &[&session, &account, &refresh_hash.as_ref(), &request.device_name])
            .await
            .map_err(failed)?;
        let access_token =
            self.tokens.sign(account, session).map_err(|error| ConnectError::internal(error.to_string()))?;
        let refresh_token = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(TokenPair { access_token, refresh_token, account_id: account.to_string(), session_id: session.to_string() })
    }

    pub(super) async fn who_am_i(&self, caller: &Caller) -> Result<WhoAmI, ConnectError> {
        let rows = self.as_caller(caller, BINDINGS, &[&caller.account]).await?;
        let bindings = rows.iter().map(|row| Binding {
            role: role_name(row.get(2)).to_owned(),
            org_id: row.get::<_, Uuid>(0).to_string(),
            project_id: row.get::<_, Option<Uuid>>(1).map(|project| project.to_string()).unwrap_or_default(),
        });
        Ok(WhoAmI { account_id: caller.account.to_string(), bindings: bindings.collect() })
    }

    /// Gives a member a role. Roles are read in each transaction, so that it holds from the next one on.
    pub(super) async fn assign_role(&self, caller: &Caller, request: AssignRole) -> Result<Binding, ConnectError> {
        // To make somebody an admin takes a fresh proof of the password, which is no part of the comparison.
        let role = i16::try_from(request.role).ok().filter(|role| (1..=2).contains(role));
        let role = role.ok_or_else(|| ConnectError::invalid_argument("role: GUEST or USER"))?;
        let (account, org) = (parse_id(&request.account_id, "account_id")?, parse_id(&request.org_id, "org_id")?);
        let project = match request.project_id.as_str() {
            "" => None,
            id => Some(parse_id(id, "project_id")?),
        };
        self.as_caller(caller, ASSIGN, &[&account, &org, &project, &role, &caller.account, &caller.session]).await?;
        Ok(Binding { role: role_name(role).to_owned(), org_id: request.org_id, project_id: request.project_id })
    }
}

fn role_name(role: i16) -> &'static str {
    usize::try_from(role - 1).ok().and_then(|index| ROLES.get(index)).copied().unwrap_or_default()
}
