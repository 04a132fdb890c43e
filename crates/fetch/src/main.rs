//! Puts certificates in place inside a pod and keeps them fresh.

fn main() {}
