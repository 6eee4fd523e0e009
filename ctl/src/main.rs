//! skiffctl
fn main(){}
