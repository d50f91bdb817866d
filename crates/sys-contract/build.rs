//! Generates the types of the options, so that they are read typed. No protoc needed: protox compiles the file.

use std::error::Error;

const PROTO_ROOT: &str = "../../proto";
const POLICY: &str = "sys/policy/v1/policy.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO_ROOT}/{POLICY}");
    let set = protox::compile([POLICY], [PROTO_ROOT])?;
    prost_build::Config::new().compile_fds(set)?;
    Ok(())
}
