//! Intake, tested by what comes in.
