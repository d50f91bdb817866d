//! Generates the types of the domain module's contract. No protoc needed: protox compiles the files.

use protox::{
    Compiler,
    file::{ChainFileResolver, DescriptorSetFileResolver, GoogleFileResolver, IncludeFileResolver},
};
use std::error::Error;

const PROTO_ROOT: &str = "../../proto";
const FILES: [&str; 3] = ["sys/domain/v1/dns.proto", "sys/domain/v1/finding.proto", "sys/domain/v1/tls.proto"];

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
        .extern_path(".sys.policy.v1", "::sys_core::identity::wire::policy")
        .compile_fds(set)?;
    Ok(())
}
