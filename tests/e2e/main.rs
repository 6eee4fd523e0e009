//! End-to-end tests: real clusters made by the real `skiff up` on the real Docker and kernel, used
//! through the real `skiffctl`. Each test makes a cluster of its own name and removes it, also when
//! it fails.
//!
//! `make e2e` builds the binaries, says in SKIFF_BIN where they are, and runs the tests on the embedded store and, with
//! SKIFF_E2E_STORE=etcd, on a real etcd server.
#![allow(clippy::disallowed_methods, reason = "tests look from outside, in real time")]

mod bad_input;
mod budgets;
mod by_hand;
mod cluster;
mod containers;
mod faults;
mod guestbook;
mod kube_rs;
mod kubectl;
mod leftovers;
mod links;
mod monitoring;
mod processes;
mod python;
mod rollout;
mod security;
mod web;
