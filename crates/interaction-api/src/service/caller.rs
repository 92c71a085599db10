//! Who calls: what limits count it under, and what its token is limited to.

use super::limits::network;
use crate::status;
use axum::http::Extensions;
use domain::{LikeIntent, Resource, ResourceType, UserId};
use service_runtime::listen::access::{Caller, CallerAddress, Scope};
use std::net::IpAddr;
use std::sync::Arc;
use tonic::{Request, Status};

/// What a caller's turns are counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum CallerKey {
    /// Name of its token.
    Token(Arc<str>),
    /// Where it calls from; of IPv6 the network.
    Address(IpAddr),
    /// Nothing is known, as within a process.
    Unknown,
}

/// The caller of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Who {
    token: Option<Arc<str>>,
    /// Where it calls from, behind proxies that are trusted.
    pub(super) address: Option<IpAddr>,
    scope: Option<Arc<Scope>>,
}

impl Who {
    /// By what the layers before have found out.
    pub(super) fn of(extensions: &Extensions) -> Self {
        let caller = extensions.get::<Caller>();
        Self {
            token: caller.filter(|caller| caller.token_name().is_some()).map(|caller| Arc::clone(&caller.name)),
            address: extensions.get().and_then(|CallerAddress(address)| *address),
            scope: caller.map(|caller| Arc::clone(&caller.scope)),
        }
    }

    pub(super) fn calls<T>(request: &Request<T>) -> Self {
        Self::of(request.extensions())
    }

    #[cfg(test)]
    pub(super) fn with_token(name: &str) -> Self {
        Self { token: Some(name.into()), ..Self::default() }
    }

    #[cfg(test)]
    pub(super) fn from_address(address: IpAddr) -> Self {
        Self { address: Some(address), ..Self::default() }
    }

    /// Name of its token, where tokens are needed.
    pub(super) fn token(&self) -> Option<&Arc<str>> {
        self.token.as_ref()
    }

    /// What its turns are counted under.
    pub(super) fn key(&self) -> CallerKey {
        match (&self.token, self.address) {
            (Some(name), _) => CallerKey::Token(Arc::clone(name)),
            (None, Some(address)) => CallerKey::Address(network(address)),
            (None, None) => CallerKey::Unknown,
        }
    }

    fn scope(&self) -> Option<&Scope> {
        self.scope.as_deref().filter(|scope| scope.is_limited())
    }

    /// Whether it may act for this user, and look at what is this user's.
    pub(super) fn may_user(&self, user: UserId) -> Result<(), Status> {
        let allowed = self.scope().is_none_or(|scope| scope.has_user(user.get()));
        if allowed { Ok(()) } else { Err(status::out_of_scope("users")) }
    }

    /// Whether it may look at what any user likes.
    pub(super) fn may_all_users(&self) -> Result<(), Status> {
        let allowed = self.scope().is_none_or(|scope| !scope.limits_users());
        if allowed { Ok(()) } else { Err(status::out_of_scope("users")) }
    }

    /// Whether it may act on things of these kinds, and look at them.
    pub(super) fn may_types(&self, kinds: impl IntoIterator<Item = ResourceType>) -> Result<(), Status> {
        let Some(scope) = self.scope() else { return Ok(()) };
        let allowed = kinds.into_iter().all(|kind| scope.has_type(kind.name()));
        if allowed { Ok(()) } else { Err(status::out_of_scope("types")) }
    }

    /// The same of resources.
    pub(super) fn may_resources(&self, resources: &[Resource]) -> Result<(), Status> {
        self.may_types(resources.iter().map(|resource| resource.kind))
    }

    /// Whether it may do this.
    pub(super) fn may_like(&self, intent: &LikeIntent) -> Result<(), Status> {
        self.may_user(intent.pair.user)?;
        self.may_types([intent.pair.resource.kind])
    }
}
