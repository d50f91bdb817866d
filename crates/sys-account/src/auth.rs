//! AuthService: becoming somebody, and proving it.

use crate::{
    account::{delete_made_way, require_domain},
    mail,
    module::AccountModule,
    request,
    wire::{
        Account, ChangeEmailRequest, ChangePasswordRequest, ConfirmEmailRequest, ForgotPasswordRequest, LoginRequest,
        LogoutRequest, Org, RefreshRequest, RegisterRequest, ResetPasswordRequest, SetupRequest, StepUpRequest,
        StepUpResponse, TokenPair, VerifyEmailRequest, WhoAmIRequest, WhoAmIResponse,
    },
};
use std::sync::Arc;
use sys_contract::id::OrgId;
use sys_core::{
    call::Call,
    identity::{Email, Registered, SignedIn},
    module::Registry,
    password::Password,
    refusal::Refusal,
};

/// What a superadmin is called who gave no name.
const SUPERADMIN_NAME: &str = "Superadmin";

pub(crate) fn register(registry: &mut Registry<'_, AccountModule>) {
    registry.unary("sys.account.v1.AuthService/Register", register_account);
    registry.unary("sys.account.v1.AuthService/VerifyEmail", verify_email);
    registry.unary("sys.account.v1.AuthService/Login", log_in);
    registry.unary("sys.account.v1.AuthService/Refresh", refresh);
    registry.unary("sys.account.v1.AuthService/Logout", log_out);
    registry.unary("sys.account.v1.AuthService/ForgotPassword", forgot_password);
    registry.unary("sys.account.v1.AuthService/ResetPassword", reset_password);
    registry.unary("sys.account.v1.AuthService/Setup", set_up);
    registry.unary("sys.account.v1.AuthService/StepUp", step_up);
    registry.unary("sys.account.v1.AuthService/ChangePassword", change_password);
    registry.unary("sys.account.v1.AuthService/ChangeEmail", change_email);
    registry.unary("sys.account.v1.AuthService/ConfirmEmail", confirm_email);
    registry.unary("sys.account.v1.AuthService/WhoAmI", who_am_i);
}

/// One answer and one mail, whatever becomes of it.
async fn register_account(module: Arc<AccountModule>, call: Call, request: RegisterRequest) -> Result<(), Refusal> {
    let email = request::email(&request.email, "email")?;
    let password = Password::to_set(request.password, "password")?;
    call.throttle_sign_in(email.as_str())?;
    delete_made_way(&call, module.identity.clear_unproven(&call).await?).await?;
    let server = &module.settings.server;
    let mail = match module.identity.register(&call, &email, password, &request.display_name).await? {
        Registered::New { account, token, made_way } => {
            delete_made_way(&call, made_way).await?;
            let record = new_account(&call, &email, request.display_name);
            call.elevated()?.create_as(account.record(), &record).await?;
            mail::verify(&email, server, &token)
        }
        Registered::Waiting { token: Some(token) } => mail::verify(&email, server, &token),
        // Enough mails are on their way; this one takes the place of another.
        Registered::Waiting { token: None } | Registered::Taken => mail::registered_already(&email, server),
    };
    call.after_commit(mail).await
}

async fn verify_email(module: Arc<AccountModule>, call: Call, request: VerifyEmailRequest) -> Result<(), Refusal> {
    let password = Password::to_check(request.password);
    let (account, display_name) = module.identity.verify_email(&call, &request.token, password).await?;
    let proven = Account { verified: true, display_name, ..Account::default() };
    // A token from before names were kept with it has none: then the first registration's stays.
    let named: &[&str] = if proven.display_name.is_empty() { &["verified"] } else { &["verified", "display_name"] };
    call.elevated()?.update(account.record(), named, &proven, None).await?;
    Ok(())
}

async fn log_in(module: Arc<AccountModule>, call: Call, request: LoginRequest) -> Result<TokenPair, Refusal> {
    let email = request::email(&request.email, "email")?;
    call.throttle_sign_in(email.as_str())?;
    let password = Password::to_check(request.password);
    module.identity.log_in(&call, &email, password, &request.device_name).await.map(token_pair)
}

async fn refresh(module: Arc<AccountModule>, call: Call, request: RefreshRequest) -> Result<TokenPair, Refusal> {
    module.identity.refresh(&call, &request.refresh_token).await.map(token_pair)
}

async fn log_out(module: Arc<AccountModule>, call: Call, _: LogoutRequest) -> Result<(), Refusal> {
    module.identity.log_out(&call).await
}

/// One answer and one mail, whether the address has an account or not.
async fn forgot_password(
    module: Arc<AccountModule>,
    call: Call,
    request: ForgotPasswordRequest,
) -> Result<(), Refusal> {
    let email = request::email(&request.email, "email")?;
    call.throttle_sign_in(email.as_str())?;
    let server = &module.settings.server;
    let mail = match module.identity.forget_password(&call, &email).await? {
        Some(token) => mail::reset(&email, server, &token),
        None => mail::no_account(&email, server),
    };
    call.after_commit(mail).await
}

async fn reset_password(module: Arc<AccountModule>, call: Call, request: ResetPasswordRequest) -> Result<(), Refusal> {
    let password = Password::to_set(request.new_password, "new_password")?;
    let reset = module.identity.reset_password(&call, &request.token, password).await?;
    let proven = Account { verified: true, ..Account::default() };
    // The name of an unproven registration may be a stranger's choice: it ends with his password.
    let shown: &[&str] = if reset.was_unproven { &["verified", "display_name"] } else { &["verified"] };
    call.elevated()?.update(reset.account.record(), shown, &proven, None).await?;
    call.after_commit(mail::password_changed(&reset.email, &module.settings.server)).await
}

async fn set_up(module: Arc<AccountModule>, call: Call, request: SetupRequest) -> Result<TokenPair, Refusal> {
    let email = request::email(&request.email, "email")?;
    let password = Password::to_set(request.password, "password")?;
    let (signed_in, made_way) =
        module.identity.set_up(&call, &request.token, &email, password, &request.device_name).await?;
    delete_made_way(&call, made_way).await?;
    let name = if request.display_name.is_empty() { SUPERADMIN_NAME.to_owned() } else { request.display_name };
    let record = Account { verified: true, ..new_account(&call, &email, name) };
    call.elevated()?.create_as(signed_in.account.record(), &record).await?;
    Ok(token_pair(signed_in))
}

async fn step_up(module: Arc<AccountModule>, call: Call, request: StepUpRequest) -> Result<StepUpResponse, Refusal> {
    let fresh_until = module.identity.step_up(&call, Password::to_check(request.password)).await?;
    Ok(StepUpResponse { fresh_until: Some(request::timestamp(fresh_until)) })
}

async fn change_password(
    module: Arc<AccountModule>,
    call: Call,
    request: ChangePasswordRequest,
) -> Result<(), Refusal> {
    let next = Password::to_set(request.new_password, "new_password")?;
    let present = Password::to_check(request.password);
    let email = module.identity.change_password(&call, present, next).await?;
    call.after_commit(mail::password_changed(&email, &module.settings.server)).await
}

/// One answer and two mails, whether the new address has an account or not.
async fn change_email(module: Arc<AccountModule>, call: Call, request: ChangeEmailRequest) -> Result<(), Refusal> {
    let new = request::email(&request.new_email, "new_email")?;
    call.throttle_sign_in(new.as_str())?;
    require_manager_domain(&call, &new).await?;
    let server = &module.settings.server;
    let asked = module.identity.ask_address(&call, &new).await?;
    let mail = match &asked.token {
        Some(token) => mail::confirm_email(&new, server, token),
        None => mail::email_in_use(&new, server),
    };
    call.after_commit(mail).await?;
    call.after_commit(mail::email_change_asked(&asked.present, server)).await
}

async fn confirm_email(module: Arc<AccountModule>, call: Call, request: ConfirmEmailRequest) -> Result<(), Refusal> {
    let account = call.caller().account().ok_or_else(Refusal::unauthenticated)?;
    let new = module.identity.asked_address(&call, &request.token).await?;
    // The org may have lost the domain meanwhile.
    require_manager_domain(&call, &new).await?;
    let changed = module.identity.change_address(&call, &request.token).await?;
    delete_made_way(&call, changed.made_way).await?;
    let record = Account { email: changed.now.as_str().to_owned(), ..Account::default() };
    call.elevated()?.update(account.record(), &["email"], &record, None).await?;
    call.after_commit(mail::email_changed(&changed.before, &module.settings.server)).await
}

/// An account that an org manages has its address on that org's word, which is good for its own domains alone.
async fn require_manager_domain(call: &Call, new: &Email) -> Result<(), Refusal> {
    let account = call.caller().account().ok_or_else(Refusal::unauthenticated)?;
    let own = call.records().get::<Account>(account.record()).await?.ok_or_else(Refusal::not_found)?;
    let Some(manager) = request::optional_id::<OrgId>(&own.managed_by_org_id, "managed_by_org_id")? else {
        return Ok(());
    };
    let manager = call.elevated()?.get::<Org>(manager.record()).await?.ok_or_else(Refusal::not_found)?;
    require_domain(new, &manager)
}

async fn who_am_i(module: Arc<AccountModule>, call: Call, _: WhoAmIRequest) -> Result<WhoAmIResponse, Refusal> {
    let account = call.caller().account().ok_or_else(Refusal::unauthenticated)?;
    let who = module.identity.who_am_i(&call).await?;
    let record = call.records().get::<Account>(account.record()).await?.unwrap_or_default();
    Ok(WhoAmIResponse {
        account_id: account.to_string(),
        email: who.email.as_str().to_owned(),
        display_name: record.display_name,
        verified: who.verified,
        bindings: who.held.iter().map(request::binding).collect(),
        session_id: call.caller().session().map(|session| session.to_string()).unwrap_or_default(),
    })
}

/// The record of an account that is made now.
pub(crate) fn new_account(call: &Call, email: &Email, display_name: String) -> Account {
    Account {
        email: email.as_str().to_owned(),
        display_name,
        created_at: Some(request::timestamp(call.now().unix_s)),
        ..Account::default()
    }
}

fn token_pair(signed_in: SignedIn) -> TokenPair {
    TokenPair {
        access_expires_at: Some(request::timestamp(signed_in.access.expires_unix_s)),
        access_token: signed_in.access.text,
        refresh_token: signed_in.refresh.to_string(),
        account_id: signed_in.account.to_string(),
        session_id: signed_in.session.to_string(),
    }
}
