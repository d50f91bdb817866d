//! What must not happen to identities, tested below the gate: each test acts through a [`Turn`] on a store in memory, with the
//! caller loaded in the same transaction, as the gate's epoch check makes it.

mod bed;
mod model;
mod roles;
mod sessions;

use super::{
    rows::By,
    wire::{AccountDomain, Binding, Imported, Invitation, OneTimeToken, Principal, Purpose, Session},
};
use bed::Bed;

#[tokio::test]
async fn rows_are_found_by_fields_that_are_indexed_and_named_so() {
    fn check<M: super::rows::Row>(bed: &Bed, by: By<M>, name: &str) {
        let table = bed.tables.by_name(&M::full_name()).unwrap();
        let field = table.record().fields.iter().find(|field| field.descriptor.number() == by.0).unwrap();
        assert_eq!(field.descriptor.name(), name, "{}", M::full_name());
        assert!(field.index.is_some(), "{}.{name}", M::full_name());
    }
    let bed = Bed::new().await;
    check(&bed, Principal::EMAIL, "email");
    check(&bed, Principal::UNPROVEN, "unproven");
    check(&bed, Session::ACCOUNT, "account_id");
    check(&bed, Binding::ACCOUNT, "account_id");
    check(&bed, Binding::ORG, "org_id");
    check(&bed, Binding::PROJECT, "project_id");
    check(&bed, Binding::HEADS, "heads");
    check(&bed, Invitation::EMAIL, "email");
    check(&bed, Invitation::ORG, "org_id");
    check(&bed, Invitation::PROJECT, "project_id");
    check(&bed, Invitation::INVITED_BY, "invited_by");
    check(&bed, Invitation::TOKEN_HASH, "token_hash");
    check(&bed, OneTimeToken::TOKEN_HASH, "token_hash");
    check(&bed, OneTimeToken::PURPOSE, "purpose");
    check(&bed, OneTimeToken::ACCOUNT, "account_id");
    check(&bed, AccountDomain::DOMAIN, "domain");
    check(&bed, AccountDomain::ORG, "org_id");
    check(&bed, Imported::KEY, "key");
    assert_ne!(i32::from(Purpose::Setup), 0, "a default has no index rows");
}
