//! What is otherwise about some routes of ops HTTP than about the rest.

use crate::listen::grpc_web::GrpcWeb;

/// Paths, each as it is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Paths {
    /// Where the role `write` is enough for more than to look.
    pub writes: &'static [&'static str],
    /// Where `POST` only looks, so that the role `read` is enough.
    pub reads: &'static [&'static str],
    /// Whose handlers look at the limits of a token; others refuse a limited one. These are for callers, so pages of other sites
    /// may ask them, where `service.cors_origins` names the site.
    pub scoped: &'static [&'static str],
    /// Where gRPC-Web is spoken, if anywhere.
    pub grpc_web: Option<GrpcWeb>,
}
