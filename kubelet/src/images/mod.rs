//! Images: how one of ours is made ([`archive`]), the sandbox's ([`pause`]), and when one is pulled ([`pull`]).

pub mod archive;
pub mod pause;
pub mod pull;
