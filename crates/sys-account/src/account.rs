//! AccountService, as far as it has logic: accounts made for others, searched, shut out and deleted.

use crate::{
    auth::new_account,
    email::is_in_domain,
    mail,
    module::AccountModule,
    request,
    wire::{
        Account, CreateAccountRequest, DeleteAccountRequest, DisableAccountRequest, EnableAccountRequest, Org,
        SearchAccountsRequest, SearchAccountsResponse,
    },
};
use std::sync::Arc;
use sys_contract::id::{AccountId, OrgId};
use sys_core::{call::Call, identity::Email, module::Registry, password::Password, records::Query, refusal::Refusal};

pub(crate) fn register(registry: &mut Registry<'_, AccountModule>) {
    registry.unary("sys.account.v1.AccountService/CreateAccount", create);
    registry.unary("sys.account.v1.AccountService/SearchAccounts", search);
    registry.unary("sys.account.v1.AccountService/DeleteAccount", delete);
    registry.unary("sys.account.v1.AccountService/DisableAccount", disable);
    registry.unary("sys.account.v1.AccountService/EnableAccount", enable);
}

async fn create(module: Arc<AccountModule>, call: Call, request: CreateAccountRequest) -> Result<Account, Refusal> {
    let email = request::email(&request.email, "email")?;
    // Who makes accounts learns which addresses have one: not many of them.
    call.throttle_sign_in(email.as_str())?;
    let managed_by = request::optional_id::<OrgId>(&request.managed_by_org_id, "managed_by_org_id")?;
    let password = match request.password.is_empty() {
        true => None,
        false => Some(Password::to_set(request.password, "password")?),
    };
    if let Some(org) = managed_by {
        let org = call.records().get::<Org>(org.record()).await?.ok_or_else(Refusal::not_found)?;
        // Before anything is looked up by the address: beyond the org's own mail, all addresses are refused alike.
        require_domain(&email, &org)?;
    }
    let created = module.identity.create_account(&call, &email, managed_by, password).await?;
    delete_made_way(&call, created.made_way).await?;
    let record = Account {
        managed_by_org_id: request.managed_by_org_id,
        verified: created.verified,
        ..new_account(&call, &email, request.display_name)
    };
    let stored = call.elevated()?.create_as(created.account.record(), &record).await?;
    if let Some(token) = &created.token {
        call.after_commit(mail::welcome(&email, &module.settings.server, token)).await?;
    }
    Ok(stored)
}

/// Deletes the records of accounts of which nobody proved the address, and which are gone.
pub(crate) async fn delete_made_way(call: &Call, accounts: impl IntoIterator<Item = AccountId>) -> Result<(), Refusal> {
    for account in accounts {
        call.elevated()?.delete::<Account>(account.record(), None).await?;
    }
    Ok(())
}

/// Refuses an address for whose mail an org does not vouch.
pub(crate) fn require_domain(email: &Email, org: &Org) -> Result<(), Refusal> {
    if is_in_domain(email.as_str(), &org.account_domains) {
        return Ok(());
    }
    Err(Refusal::permission_denied().help(
        "the org's own accounts have addresses in its own domains of mail, which a superadmin names (`sys org set-account-domains`); \
         invite people with other addresses",
    ))
}

/// An account with the whole address, if the caller may read one; else those with words in name or address that begin so. What
/// the caller may not read decides nothing here: both are lists of what he may.
async fn search(
    _: Arc<AccountModule>,
    call: Call,
    request: SearchAccountsRequest,
) -> Result<SearchAccountsResponse, Refusal> {
    let whole = request::email(&request.query, "query").ok().filter(|_| request.page_token.is_empty());
    if let Some(email) = whole {
        let filter = format!("email == {}", literal(email.as_str()));
        let page = call.records().list::<Account>(Query { filter, ..Query::default() }).await?;
        if !page.records.is_empty() {
            return Ok(SearchAccountsResponse { accounts: page.records, next_page_token: String::new() });
        }
    }
    let query = Query {
        search: request.query,
        page_size: request.page_size,
        page_token: request.page_token,
        ..Query::default()
    };
    let page = call.records().list::<Account>(query).await?;
    Ok(SearchAccountsResponse { accounts: page.records, next_page_token: page.next_page_token })
}

async fn delete(module: Arc<AccountModule>, call: Call, request: DeleteAccountRequest) -> Result<(), Refusal> {
    let account: AccountId = request::id(&request.id, "id")?;
    module.identity.remove(&call, account).await?;
    call.elevated()?.delete::<Account>(account.record(), None).await
}

async fn disable(module: Arc<AccountModule>, call: Call, request: DisableAccountRequest) -> Result<Account, Refusal> {
    let account: AccountId = request::id(&request.id, "id")?;
    module.identity.disable(&call, account).await?;
    show_disabled(&call, account, true).await
}

async fn enable(module: Arc<AccountModule>, call: Call, request: EnableAccountRequest) -> Result<Account, Refusal> {
    let account: AccountId = request::id(&request.id, "id")?;
    module.identity.enable(&call, account).await?;
    show_disabled(&call, account, false).await
}

/// Shows in the account's record what its principal now says.
async fn show_disabled(call: &Call, account: AccountId, disabled: bool) -> Result<Account, Refusal> {
    let record = Account { disabled, ..Account::default() };
    call.elevated()?.update(account.record(), &["disabled"], &record, None).await
}

/// A text as a literal of the filter language: what a person typed is never read as a part of the filter.
fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => literal.extend(['\\', letter]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            letter if letter.is_control() => literal.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => literal.push(letter),
        }
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys_policy::Rules;

    #[test]
    fn fault_8_what_a_person_searches_for_is_never_read_as_a_filter() {
        let contract = crate::module::contract().unwrap();
        let rules = Rules::compile(&contract).unwrap();
        let index = contract.records.iter().position(|record| record.message.name() == "Account").unwrap();
        let long = "x".repeat(254);
        for text in
            ["ada", "\") || true || (\"", "a\\", "a\"b", "\u{1}\u{7f}\u{85}", "a\nb\r\tc", "{{}}", "ünïcödé 🦀", &long]
        {
            let filter = format!("display_name.startsWith({})", literal(text));
            let filter = rules.record(index).filter(&filter).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            // The whole text went into one comparison: its own value passes and another does not.
            let matches = |name: &str| {
                let mut record = prost_reflect::DynamicMessage::new(contract.records[index].message.clone());
                record.set_field_by_name("display_name", prost_reflect::Value::String(name.to_owned()));
                let now = sys_policy::Now { unix_s: 0, nanos: 0 };
                filter.matches(&record, &sys_policy::FieldSet::default(), &now)
            };
            assert!(matches(text), "{text:?}");
            assert!(!matches("somebody else"), "{text:?}");
        }
    }
}
