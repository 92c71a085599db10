//! Ops HTTP behind its gate, inside the test.

use axum::Router;
use service_runtime::{Context, Gate, ServiceConfig};
use tempfile::TempDir;

/// It ends with this value.
pub(crate) struct Guarded {
    pub(crate) context: Context,
    pub(crate) addr: String,
    /// For files that the configuration names.
    pub(crate) dir: TempDir,
}

impl Guarded {
    pub(crate) async fn start(dir: TempDir, config: &ServiceConfig, routes: Router) -> Self {
        let mut context = Context::new("test", "1", "host-1");
        context.gate = Gate::open(config).unwrap();
        context.watch_gate();
        let listener = context.gate.listen("service.http_addr", ([127, 0, 0, 1], 0).into()).await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        context.serve_ops(listener, routes);
        Self { context, addr, dir }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.context.soft.cancel();
    }
}
