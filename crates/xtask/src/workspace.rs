//! Where things are in this repository, and which programs to use.

use anyhow::{Result, bail};
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The top of the repository.
///
/// Cargo says at run time where it is; a program that a shared target directory holds may come from another clone.
pub(crate) fn root() -> PathBuf {
    let here =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.ancestors().nth(2).map_or_else(|| here.clone(), Path::to_path_buf)
}

/// A script of this repository.
pub(crate) fn script(name: &str) -> PathBuf {
    root().join("scripts").join(name)
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Which programs to run: `PROFILE`, as for `scripts/up.sh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Debug,
    Release,
    /// Optimized as far as it goes, which takes several times as long to build.
    Dist,
}

impl Profile {
    /// # Errors
    ///
    /// If `PROFILE` is none of `debug`, `release` and `dist`.
    pub(crate) fn from_environment(default: Self) -> Result<Self> {
        Self::parse(env::var_os("PROFILE").as_deref(), default)
    }

    fn parse(name: Option<&OsStr>, default: Self) -> Result<Self> {
        match name.map(OsStr::to_string_lossy).as_deref() {
            None | Some("") => Ok(default),
            Some("debug") => Ok(Self::Debug),
            Some("release") => Ok(Self::Release),
            Some("dist") => Ok(Self::Dist),
            Some(other) => bail!("PROFILE must be release, debug or dist, got {other}"),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
            Self::Dist => "dist",
        }
    }

    /// How cargo is asked for it.
    pub(crate) fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Debug => &[],
            Self::Release => &["--release"],
            Self::Dist => &["--profile", "dist"],
        }
    }

    /// A program of this workspace.
    pub(crate) fn program(self, name: &str) -> PathBuf {
        target().join(self.name()).join(name)
    }

    /// Arguments of `cargo build` for all programs, with the clients of all servers. Always the same selection: with
    /// another one cargo would choose other features of the dependencies, and build them again.
    pub(crate) fn build_arguments(self) -> Vec<&'static str> {
        let all = ["build", "--locked", "--workspace", "--bins", "--features", "distributed"];
        all.iter().chain(self.flags()).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_where_the_workspace_is() -> Result<()> {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml"))?;
        assert!(manifest.contains("[workspace]"), "{manifest}");
        assert!(script("up.sh").is_file());
        Ok(())
    }

    #[test]
    fn a_profile_has_one_of_three_names() -> Result<()> {
        assert_eq!(Profile::parse(None, Profile::Release)?, Profile::Release);
        assert_eq!(Profile::parse(Some("".as_ref()), Profile::Debug)?, Profile::Debug);
        assert_eq!(Profile::parse(Some("debug".as_ref()), Profile::Release)?, Profile::Debug);
        assert_eq!(Profile::parse(Some("dist".as_ref()), Profile::Release)?, Profile::Dist);
        assert!(Profile::parse(Some("fast".as_ref()), Profile::Release).is_err());
        Ok(())
    }
}
