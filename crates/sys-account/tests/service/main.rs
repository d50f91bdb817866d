//! The account module behind the real gate, on a store in memory, called as a client calls it: JSON over the Connect protocol,
//! without a socket.

mod harness;
mod import;
mod memberships;
mod orgs;
mod sign_in;
