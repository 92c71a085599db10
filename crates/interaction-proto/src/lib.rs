//! gRPC contract of the interaction service, generated from `proto/`.
//!
//! Deliberately absent: conversions to domain types. They belong to the server, which decides what is valid.

/// Version 1 of the contract.
pub mod v1 {
    #![expect(
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated; documented in the proto files"
    )]
    tonic::include_proto!("interaction.v1");
}

/// Encoded `FileDescriptorSet` of the contract, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/interaction_descriptor.bin"));
