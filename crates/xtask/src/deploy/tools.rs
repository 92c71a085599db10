//! Other programs' checks of what is under `deploy/`, each where it is installed.

use super::Report;
use crate::command::{Environment, is_installed, outcome, output, said};
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Tools<'a> {
    pub(crate) scratch: &'a Path,
    pub(crate) environment: &'a Environment,
    /// Validators that `--schemas` fetched.
    pub(crate) fetched: Option<PathBuf>,
}

impl Tools<'_> {
    /// A program, if it is installed or was fetched.
    fn find(&self, name: &str) -> Option<PathBuf> {
        let fetched =
            self.fetched.as_ref().map(|directory| directory.join("bin").join(name)).filter(|path| path.exists());
        fetched.or_else(|| is_installed(name).then(|| name.into()))
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.environment.command(program);
        command.current_dir(workspace::root());
        command
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Result<()> {
        output(self.command(program).args(arguments)).map(drop)
    }

    pub(crate) fn prometheus(&self, dashboard_rules: Option<&Path>, report: &mut Report) {
        let promtool = Path::new("promtool");
        report.check("promtool check config", || self.prometheus_configuration());
        let rules = workspace::root().join(super::charts::RULES).display().to_string();
        let tests = workspace::root().join(super::charts::RULE_TESTS).display().to_string();
        report.check("promtool check rules", || self.run(promtool, &["check", "rules", &rules]));
        report.check("promtool test rules", || self.run(promtool, &["test", "rules", &tests]));
        if let Some(file) = dashboard_rules {
            let file = file.display().to_string();
            report.check("promtool check rules, on every query of the dashboard", || {
                self.run(promtool, &["check", "rules", &file])
            });
        }
        report.only_parsed("Grafana's dashboard and provisioning (no Grafana here)");
        report.only_parsed("the OpenTelemetry collector's configuration");
    }

    /// It insists that files exist which only the container has.
    fn prometheus_configuration(&self) -> Result<()> {
        let directory = self.scratch.join("prometheus");
        fs::create_dir_all(&directory)?;
        let token = directory.join("token");
        fs::write(&token, "")?;
        for entry in fs::read_dir(workspace::root().join("deploy/prometheus"))? {
            let entry = entry?;
            let text = fs::read_to_string(entry.path())?;
            let text = text.replace("/run/secrets/prometheus_token", &token.display().to_string());
            fs::write(directory.join(entry.file_name()), text)?;
        }
        let file = directory.join("prometheus.yml").display().to_string();
        self.run(Path::new("promtool"), &["check", "config", &file])
    }

    pub(crate) fn systemd(&self, report: &mut Report) {
        if !is_installed("systemd-analyze") {
            report.only_parsed("systemd units (no systemd-analyze)");
            return;
        }
        let units = self.units();
        report.check("systemd-analyze verify", || {
            // It may warn and yet succeed.
            let output =
                outcome(self.command("systemd-analyze").arg("verify").args(units.as_deref().unwrap_or_default()))?;
            let said = said(&output);
            ensure!(output.status.success() && said.trim().is_empty(), "{said}");
            units.as_ref().map(drop).map_err(|error| anyhow::anyhow!("{error:#}"))
        });
        let help = output(self.command("systemd-analyze").arg("--help")).unwrap_or_default();
        if help.contains("--offline") {
            report.check("systemd-analyze security: exposure below 2.0", || {
                for unit in units.as_deref().unwrap_or_default() {
                    let arguments = ["security", "--no-pager", "--offline=true", "--threshold=20"];
                    output(self.command("systemd-analyze").args(arguments).arg(unit))?;
                }
                Ok(())
            });
        }
    }

    /// Copies of the units whose programs exist: verify insists on that.
    fn units(&self) -> Result<Vec<PathBuf>> {
        let (programs, copies) = (self.scratch.join("bin"), self.scratch.join("units"));
        fs::create_dir_all(&programs)?;
        fs::create_dir_all(&copies)?;
        let mut found = vec![];
        for entry in fs::read_dir(workspace::root().join("deploy/systemd"))? {
            let path = entry?.path();
            let program = programs.join(path.file_stem().context("a unit without a name")?);
            fs::write(&program, "#!/bin/sh\n")?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
            let start = format!("ExecStart={}/", programs.display());
            let copy = copies.join(path.file_name().context("a unit without a name")?);
            fs::write(&copy, fs::read_to_string(&path)?.replace("ExecStart=/usr/local/bin/", &start))?;
            found.push(copy);
        }
        found.sort();
        ensure!(!found.is_empty(), "there are no units");
        Ok(found)
    }

    /// Every overlay as it would be applied.
    pub(crate) fn kustomize(&self, report: &mut Report) -> BTreeMap<&'static str, PathBuf> {
        let mut rendered = BTreeMap::new();
        let (program, subcommand) = if let Some(kubectl) = self.find("kubectl") {
            (kubectl, "kustomize")
        } else if let Some(kustomize) = self.find("kustomize") {
            (kustomize, "build")
        } else {
            report.only_parsed("kubernetes/ (neither kubectl nor kustomize)");
            return rendered;
        };
        for overlay in ["base", "production", "production-clusters"] {
            let file = self.scratch.join(format!("{overlay}.yaml"));
            let ok = report.check(&format!("kustomize {overlay}"), || {
                let directory = format!("deploy/kubernetes/{overlay}");
                // The last line's end belongs to the last text in it.
                Ok(fs::write(&file, output(self.command(&program).args([subcommand, &directory]))? + "\n")?)
            });
            if ok {
                rendered.insert(overlay, file);
            }
        }
        rendered
    }

    pub(crate) fn kubernetes_schemas(&self, rendered: &BTreeMap<&'static str, PathBuf>, report: &mut Report) {
        let Some(base) = rendered.get("base") else { return };
        match self.find("kubernetes-validate") {
            // Kinds of KEDA are not among its schemas: keda.rs has those.
            Some(validate) => {
                let base = base.display().to_string();
                report.check("kubernetes-validate --strict", || self.run(&validate, &["--strict", "--no-warn", &base]));
            }
            None => report.only_parsed("fields of Kubernetes objects (no kubernetes-validate; --schemas fetches it)"),
        }
    }

    pub(crate) fn containers(&self, report: &mut Report) {
        match self.find("hadolint") {
            Some(hadolint) => _ = report.check("hadolint", || self.run(&hadolint, &["deploy/Dockerfile"])),
            None => report.only_parsed("Dockerfile (no hadolint; --schemas fetches it)"),
        }
        let has_compose = is_installed("docker")
            && outcome(self.command("docker").args(["compose", "version"])).is_ok_and(|found| found.status.success());
        if has_compose {
            let arguments =
                ["compose", "--file", "deploy/compose.yaml", "--profile", "standalone", "config", "--quiet"];
            report.check("docker compose config", || self.run(Path::new("docker"), &arguments));
        }
        match self.find("check-jsonschema") {
            Some(validator) => {
                let arguments = ["--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml"];
                report.check("the Compose file's schema", || self.run(&validator, &arguments));
            }
            None => report.only_parsed("compose.yaml (no check-jsonschema; --schemas fetches it)"),
        }
    }

    pub(crate) fn scripts(&self, report: &mut Report) {
        report.check("make_secrets.sh, twice", || self.secrets());
        let scripts =
            ["make_secrets", "rotate_secrets", "backup", "pin_images"].map(|name| format!("deploy/{name}.sh"));
        match self.find("shellcheck") {
            Some(shellcheck) => {
                report.check("shellcheck", || {
                    output(self.command(&shellcheck).arg("--severity=warning").args(&scripts)).map(drop)
                });
            }
            None => {
                // Of several files it would read the first one only.
                report.check("bash -n", || {
                    scripts.iter().try_for_each(|script| output(self.command("bash").args(["-n", script])).map(drop))
                });
            }
        }
        if outcome(self.command("git").args(["rev-parse", "--git-dir"])).is_ok_and(|found| found.status.success()) {
            report.check("secrets are ignored by git", || {
                output(self.command("git").args(["check-ignore", "--quiet", "deploy/secrets/database_url"])).map(drop)
            });
        }
    }

    /// They are made once, and all of them hold something.
    fn secrets(&self) -> Result<()> {
        let directory = self.scratch.join("deploy");
        fs::create_dir_all(&directory)?;
        let script = directory.join("make_secrets.sh");
        fs::copy(workspace::root().join("deploy/make_secrets.sh"), &script)?;
        output(&mut self.command(&script))?;
        let before = contents(&directory.join("secrets"))?;
        output(&mut self.command(&script))?;
        ensure!(before == contents(&directory.join("secrets"))?, "make_secrets.sh changed existing secrets");
        match before.iter().find(|(_, content)| content.is_empty()) {
            Some((path, _)) => bail!("{} is empty", path.display()),
            None => Ok(()),
        }
    }
}

fn contents(directory: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let entries = fs::read_dir(directory)?;
    entries
        .map(|entry| {
            let path = entry?.path();
            let content = fs::read(&path)?;
            Ok((path, content))
        })
        .collect()
}
