//! The server binary: webhook and controller.

fn main() {}
