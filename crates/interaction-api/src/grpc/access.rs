//! Which role each gRPC call needs, and the layer in front of all services that insists on it.
//!
//! Refused are calls without a known token (UNAUTHENTICATED) and with one whose role is too low (PERMISSION_DENIED). Who
//! calls is an extension of the request ([`Caller`](service_runtime::listen::access::Caller)). What the table does not know needs
//! the highest role: a method that somebody adds is closed until it stands here.

use super::calls::count;
use crate::status;
use axum::http::{Request, Response};
use futures::future::{Either, Ready, ready};
use service_runtime::listen::Stage;
use service_runtime::listen::access::{Access, CallerAddress, Denied, Role, caller_address};
use service_runtime::{Gate, TrustedProxies};
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tower::{Layer, Service};

/// Open to everybody: probes carry no token.
pub(super) const HEALTH: &str = "/grpc.health.v1.Health/";

/// What looks at the limits of a token itself; other services refuse a limited one.
const SCOPED: &str = "/interaction.v1.InteractionService/";

/// Methods of `interaction.v1`, and what they need.
const ROLES: &[(&str, Role)] = &[
    ("InteractionService/Like", Role::Write),
    ("InteractionService/Unlike", Role::Write),
    ("InteractionService/ApplyLikes", Role::Write),
    ("InteractionService/GetLikeCounts", Role::Read),
    ("InteractionService/GetLikeStates", Role::Read),
    ("InteractionService/GetLikeSummaries", Role::Read),
    ("InteractionService/ListLikedResources", Role::Read),
    ("InteractionService/ListLikers", Role::Read),
    ("InteractionService/ListHotResources", Role::Read),
    ("InteractionService/WatchLikeCounts", Role::Read),
    ("SyncAdminService/GetConsistencyReport", Role::Read),
    ("SyncAdminService/GetCacheStats", Role::Read),
    ("SyncAdminService/ListEvents", Role::Read),
    ("SyncAdminService/ExplainLike", Role::Read),
    ("SyncAdminService/GetErasure", Role::Read),
    ("SyncAdminService/GetDeletion", Role::Read),
    ("SyncAdminService/CheckConsistency", Role::Operate),
    ("SyncAdminService/WarmUp", Role::Operate),
    ("SyncAdminService/ReplayEvents", Role::Operate),
    ("SyncAdminService/DiscardEvents", Role::Operate),
    ("SyncAdminService/EraseUser", Role::Operate),
    ("SyncAdminService/DeleteResource", Role::Operate),
    ("SyncAdminService/RestoreResource", Role::Operate),
];

/// The role that a call of this path needs; none: everybody may.
fn needed(path: &str) -> Option<Role> {
    if path.starts_with(HEALTH) {
        return None;
    }
    let method = path.strip_prefix("/interaction.v1.");
    let known = method.and_then(|method| ROLES.iter().find(|(name, _)| *name == method));
    Some(known.map_or(Role::Operate, |(_, role)| *role))
}

/// Puts [`AccessService`] in front of a service.
#[derive(Debug, Clone)]
pub(super) struct AccessLayer {
    access: Access,
    proxies: TrustedProxies,
}

impl AccessLayer {
    /// With the tokens and the proxies of this gate.
    pub(super) fn new(gate: &Gate) -> Self {
        Self { access: gate.access.clone(), proxies: gate.proxies.clone() }
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = AccessService<S>;

    fn layer(&self, inner: S) -> AccessService<S> {
        AccessService { inner, layer: self.clone() }
    }
}

/// Answers calls that may not be made, and hands on the others.
#[derive(Debug, Clone)]
pub(super) struct AccessService<S> {
    inner: S,
    layer: AccessLayer,
}

impl<S, B> Service<Request<B>> for AccessService<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        if let Some(needed) = needed(path) {
            match self.layer.access.check(request.headers(), needed, path.starts_with(SCOPED)) {
                Ok(caller) => {
                    let stage = request.extensions_mut().remove::<Stage>();
                    if let Some(Err(full)) = stage.map(|stage| stage.let_in(&caller)) {
                        count("reserve");
                        return Either::Right(ready(Ok(status::no_place(full).into_http())));
                    }
                    request.extensions_mut().insert(caller);
                }
                Err(denied) => return Either::Right(ready(Ok(refusal(denied)))),
            }
        }
        let peer = request.extensions().get().and_then(TcpConnectInfo::remote_addr);
        let address = caller_address(&self.layer.proxies, peer, request.headers());
        request.extensions_mut().insert(CallerAddress(address));
        Either::Left(self.inner.call(request))
    }
}

fn refusal(denied: Denied) -> Response<Body> {
    metrics::counter!("interaction_access_denied_total", "surface" => "grpc", "reason" => denied.reason()).increment(1);
    status::refuse(denied.because(), denied.to_string()).into_http()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::http::PATHS;
    use prost::Message;
    use prost_types::FileDescriptorSet;
    use service_runtime::listen::Paths;

    /// `/package.Service/Method` of everything in the contract.
    fn methods() -> Vec<String> {
        let set = FileDescriptorSet::decode(interaction_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut found = Vec::new();
        for file in &set.file {
            for service in &file.service {
                let methods = service.method.iter();
                found.extend(methods.map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name())));
            }
        }
        found
    }

    #[test]
    fn every_method_of_the_contract_has_its_role_here() {
        let methods = methods();
        assert!(methods.contains(&"/interaction.v1.InteractionService/Like".to_owned()), "{methods:?}");
        for path in methods {
            let known = path
                .strip_prefix("/interaction.v1.")
                .is_some_and(|method| ROLES.iter().any(|(name, _)| *name == method));
            assert!(known, "{path} is not in the table of roles; until then it needs the role operate");
        }
    }

    #[test]
    fn by_grpc_web_each_call_of_callers_needs_the_same() {
        let Paths { writes, reads, scoped, grpc_web } = PATHS;
        let below = grpc_web.unwrap().below;
        assert_eq!(below, SCOPED);
        let of_callers: Vec<_> = methods().into_iter().filter(|path| path.starts_with(SCOPED)).collect();
        for path in &of_callers {
            let path = path.as_str();
            let by_web = match (writes.contains(&path), reads.contains(&path)) {
                (true, false) => Some(Role::Write),
                (false, true) => Some(Role::Read),
                _ => None,
            };
            assert_eq!((by_web, scoped.contains(&path)), (needed(path), true), "{path}");
        }
        let by_web = writes.iter().chain(reads).filter(|path| path.starts_with(below)).count();
        assert_eq!(by_web, of_callers.len());
    }

    #[test]
    fn what_writes_needs_more_than_what_reads_and_the_unknown_most() {
        for (path, expected) in [
            ("/grpc.health.v1.Health/Check", None),
            ("/grpc.health.v1.Health/Watch", None),
            ("/grpc.health.v1.HealthX/Check", Some(Role::Operate)),
            ("/interaction.v1.InteractionService/Like", Some(Role::Write)),
            ("/interaction.v1.InteractionService/ApplyLikes", Some(Role::Write)),
            ("/interaction.v1.InteractionService/GetLikeCounts", Some(Role::Read)),
            ("/interaction.v1.SyncAdminService/GetCacheStats", Some(Role::Read)),
            ("/interaction.v1.SyncAdminService/WarmUp", Some(Role::Operate)),
            ("/interaction.v1.InteractionService/Likes", Some(Role::Operate)),
            ("/interaction.v1.InteractionService/", Some(Role::Operate)),
            ("//interaction.v1.InteractionService/GetLikeCounts", Some(Role::Operate)),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Some(Role::Operate)),
            ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Some(Role::Operate)),
            ("/", Some(Role::Operate)),
        ] {
            assert_eq!(needed(path), expected, "{path}");
        }
    }
}
