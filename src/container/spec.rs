//! The runtime spec of a container.

use oci_spec::runtime::Spec;

use super::environment::environment;
use super::error::ContainerError;
use super::options::RunOptions;
use super::{resources, security};
use crate::image::config::RunConfig;
use crate::image::user::User;
use crate::sandbox::defaults::{self, Network};

/// Who and where the container is.
pub(super) struct Identity<'a> {
    pub hostname: &'a str,
    pub user: &'a User,
    pub command: Vec<String>,
}

/// The spec of everything but the mounts beside Docker's own, and the root file system.
pub(super) fn spec(
    image: &RunConfig,
    options: &RunOptions,
    identity: Identity<'_>,
) -> Result<Spec, ContainerError> {
    let Identity { hostname, user, command } = identity;
    let mut spec = defaults::spec(options.network)?;
    let shm_size = options.shm_size.filter(|size| *size > 0).unwrap_or(defaults::SHM_SIZE);
    spec.set_mounts(Some(defaults::mounts(shm_size, false))).set_hostname(Some(hostname.to_owned()));
    if let Some(root) = spec.root_mut() {
        root.set_readonly(Some(options.read_only));
    }
    if let Some(process) = spec.process_mut() {
        process.set_args(Some(command)).set_terminal(Some(options.tty));
        process.set_env(Some(environment(image, options, hostname, &user.home)));
        process.set_cwd(directory(image, options)?.into()).set_rlimits(resources::rlimits(options)?);
        process.user_mut().set_uid(user.uid).set_gid(user.gid);
        process.user_mut().set_additional_gids(Some(user.additional_gids.clone()));
    }
    if let Some(linux) = spec.linux_mut() {
        let mut resources = resources::resources(options)?;
        resources.set_devices(linux.resources().as_ref().and_then(|known| known.devices().clone()));
        linux.set_resources(Some(resources));
        if !options.sysctls.is_empty() {
            let sysctl = linux.sysctl_mut().get_or_insert_default();
            for (name, value) in &options.sysctls {
                sysctl.insert(checked(options, name, value)?.to_owned(), value.clone());
            }
        }
    }
    security::apply(&mut spec, options, user.uid)?;
    Ok(spec)
}

/// A parameter of the container's own namespaces; others are the host's.
fn checked<'o>(options: &RunOptions, name: &'o str, value: &str) -> Result<&'o str, ContainerError> {
    let refused = |reason: &str| Err(ContainerError::option("--sysctl", format!("{name}={value}"), reason));
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    match name {
        name if name.starts_with("net.") && options.network == Network::Host => {
            refused("it is the host's, whose network this container uses")
        }
        name if name.starts_with("net.") || name.starts_with("fs.mqueue.") || IPC.contains(&name) => Ok(name),
        _ => refused("it belongs to no namespace of the container"),
    }
}

/// The working directory: absolute, `/` if nothing is said.
fn directory(image: &RunConfig, options: &RunOptions) -> Result<String, ContainerError> {
    let path = options.workdir.as_deref().filter(|path| !path.is_empty()).unwrap_or(&image.working_dir);
    if path.is_empty() {
        return Ok("/".to_owned());
    }
    if !path.starts_with('/') {
        let reason = "it needs to be an absolute path";
        return Err(ContainerError::option("working directory", path, reason));
    }
    Ok(super::mounts::clean(path).unwrap_or_else(|_| "/".to_owned()))
}
