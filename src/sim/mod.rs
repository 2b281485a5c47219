//! Stub.
mod dice;
mod net;
mod node;
