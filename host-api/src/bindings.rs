//! What the contract's shared types are in Rust. Each room generates its own interface on top.

#![allow(missing_docs, reason = "generated from the WIT, which has the documentation")]

wasmtime::component::bindgen!({
    inline: "package holm:bindings; world types { import holm:host/types@0.1.0; }",
    path: "wit",
});

pub use holm::host::types;
