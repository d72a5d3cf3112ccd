//! What stands behind the capabilities: one folder a capability.

pub mod llm;
