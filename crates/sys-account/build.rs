//! Generates the types of the account module's contract. No protoc needed: protox compiles the files.

use protox::{
    Compiler,
    file::{ChainFileResolver, DescriptorSetFileResolver, GoogleFileResolver, IncludeFileResolver},
};
use std::error::Error;

const PROTO_ROOT: &str = "../../proto";
const FILES: [&str; 7] = [
    "sys/account/v1/account.proto",
    "sys/account/v1/audit.proto",
    "sys/account/v1/auth.proto",
    "sys/account/v1/membership.proto",
    "sys/account/v1/org.proto",
    "sys/account/v1/project.proto",
    "sys/account/v1/session.proto",
];

/// What holds a password or token: `wire` writes their Debug by hand.
const WITHOUT_DEBUG: [&str; 13] = [
    "sys.account.v1.RegisterRequest",
    "sys.account.v1.VerifyEmailRequest",
    "sys.account.v1.LoginRequest",
    "sys.account.v1.TokenPair",
    "sys.account.v1.RefreshRequest",
    "sys.account.v1.ResetPasswordRequest",
    "sys.account.v1.SetupRequest",
    "sys.account.v1.StepUpRequest",
    "sys.account.v1.ChangePasswordRequest",
    "sys.account.v1.ConfirmEmailRequest",
    "sys.account.v1.CreateAccountRequest",
    "sys.account.v1.AcceptInvitationRequest",
    "sys.account.v1.DeclineInvitationRequest",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES.into_iter().chain(["sys/policy/v1/policy.proto"]) {
        println!("cargo:rerun-if-changed={PROTO_ROOT}/{file}");
    }
    let mut files = ChainFileResolver::new();
    files.add(IncludeFileResolver::new(PROTO_ROOT.into()));
    files.add(GoogleFileResolver::new());
    files
        .add(DescriptorSetFileResolver::decode(prost_protovalidate_types::DESCRIPTOR_POOL.encode_to_vec().as_slice())?);
    let set = Compiler::with_file_resolver(files).include_imports(true).open_files(FILES)?.file_descriptor_set();
    prost_build::Config::new()
        .enable_type_names()
        .skip_debug(WITHOUT_DEBUG)
        .extern_path(".sys.policy.v1", "::sys_core::identity::wire::policy")
        .compile_fds(set)?;
    Ok(())
}
