//! Go, with the libraries that Debian packages as sources: they are unpacked, not installed.

use super::{Bench, Client, quickstart};
use crate::command::{is_installed, outcome, output};
use anyhow::Result;
use std::fs;

const PACKAGES: &[&str] = &[
    "golang-google-grpc-dev",
    "golang-google-protobuf-dev",
    "golang-google-genproto-dev",
    // Of two versions the one that knows fields with presence.
    "golang-github-golang-protobuf-1-5-dev",
    "golang-golang-x-net-dev",
    "golang-golang-x-sys-dev",
    "golang-golang-x-text-dev",
    "protoc-gen-go-grpc",
];

pub(super) fn prepare(bench: &Bench) -> Result<Client> {
    if !is_installed("go") {
        return Ok(Client::Missing("Go is not installed"));
    }
    if bench.modules.is_none() {
        return Ok(Client::Missing("npm cannot be reached, and so there is no buf"));
    }
    let work = bench.work.join("go");
    fs::create_dir_all(work.join("src"))?;
    if !is_installed("apt-get")
        || !outcome(bench.command("apt-get").args(["download", "--quiet"]).args(PACKAGES).current_dir(&work))?
            .status
            .success()
    {
        return Ok(Client::Missing("there are no packages of Debian"));
    }
    for entry in fs::read_dir(&work)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            output(bench.command("dpkg").arg("-x").arg(path).arg(work.join("debian")))?;
        }
    }
    let path = format!("{}:{}", work.display(), work.join("debian/usr/share/gocode").display());
    let go = |arguments: &[&str]| {
        let mut command = bench.command("go");
        command.args(arguments).current_dir(&work);
        command.env("GO111MODULE", "off").env("GOPATH", &path).env("GOFLAGS", "").env("GOCACHE", work.join("cache"));
        command
    };
    output(&mut go(&["build", "-o", "protoc-gen-go", "google.golang.org/protobuf/cmd/protoc-gen-go"]))?;
    for plugin in [work.join("protoc-gen-go"), work.join("debian/usr/bin/protoc-gen-go-grpc")] {
        // The contract's own package: interaction/v1.
        let code = work.join("src/interaction");
        bench.generate("proto".as_ref(), &plugin.display().to_string(), "module=interaction", &code)?;
    }
    output(go(&["build", "-o", "quickstart"]).arg(quickstart("go/quickstart.go")))?;
    Ok(Client::Ready(bench.command(work.join("quickstart"))))
}
