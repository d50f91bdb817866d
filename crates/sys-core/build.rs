//! Generates the types of sys-core's own contract. No protoc needed: protox compiles the files.

use std::error::Error;

const PROTO_ROOT: &str = "../../proto";
const FILES: [&str; 3] = ["sys/core/v1/descriptor.proto", "sys/core/v1/identity.proto", "sys/core/v1/vault.proto"];

/// What holds a secret or its hash: `wire` writes their Debug by hand.
const WITHOUT_DEBUG: [&str; 5] = [
    "sys.core.v1.Principal",
    "sys.core.v1.Session",
    "sys.core.v1.Invitation",
    "sys.core.v1.OneTimeToken",
    "sys.core.v1.VaultItem",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO_ROOT}/sys/policy/v1/policy.proto");
    for file in FILES {
        println!("cargo:rerun-if-changed={PROTO_ROOT}/{file}");
    }
    let set = protox::compile(FILES, [PROTO_ROOT])?;
    prost_build::Config::new().enable_type_names().skip_debug(WITHOUT_DEBUG).compile_fds(set)?;
    Ok(())
}
