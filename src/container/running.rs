//! Starting a container, and what can be done with one that runs.

use std::fs::Permissions;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use oci_spec::runtime::Spec;

use super::environment::command;
use super::error::ContainerError;
use super::home::{Home, State};
use super::options::RunOptions;
use super::spec::{Identity, spec};
use super::{mounts, volume};
use crate::base::digest::LayerId;
use crate::base::host;
use crate::base::platform::Platform;
use crate::image::user::{self, User};
use crate::sandbox::{Exit, Launch, OverlayRoot, Process, Stdio, spawn};
use crate::store::{Image, Lease, Store};

/// A container that was started. Dropping it kills what still runs.
#[derive(Debug)]
pub struct Container {
    // In the order in which they end.
    process: Process,
    state: Mutex<State>,
    home: Home,
    store: Store,
    _lease: Lease,
}

/// Starts a container of `image`; returns when its command is being executed.
pub fn start(
    store: &Store,
    image: &Image,
    options: &RunOptions,
    stdio: Stdio,
) -> Result<Container, ContainerError> {
    let found = image.config.platform();
    if !found.satisfies(&Platform::host()) {
        let host = Platform::host().to_string();
        return Err(ContainerError::Platform { image: found.to_string(), host });
    }
    let config = &image.config.config;
    let command = command(config, options)?;
    let lease = store.lease()?;
    lease.hold(&image.layers)?;
    let user = resolve_user(store, &image.layers, &config.user, options)?;
    let (id, home) = Home::new(store)?;
    let hostname = options.hostname.clone().filter(|name| !name.is_empty());
    let hostname = hostname.unwrap_or_else(|| id.chars().take(12).collect());
    let identity = Identity { hostname: &hostname, user: &user, command: command.clone() };
    let mut spec = spec(config, options, identity)?;
    let asked = mounts::asked(options)?;
    let mut more = mounts::etc(&home, options, &hostname)?;
    more.extend(volume::volumes(store, &home, config, &image.layers, &asked)?);
    more.extend(asked);
    let own = spec.mounts().clone().unwrap_or_default();
    spec.set_mounts(Some(mounts::arrange(own, more)));
    install_root(store, &image.layers, &home, &mut spec)?;
    home.document("config.json", &spec)?;
    let process = spawn(Launch { spec: &spec, stdio, init: options.init })?;
    let mut state = State {
        id,
        image: image.id,
        command,
        created: store.clock().now().rfc3339(),
        rm: options.rm,
        process: None,
        finished: None,
        exit_code: None,
    };
    let start = host::start_time(process.pid()).unwrap_or_default();
    state.process = Some((process.pid(), start, host::boot_id()));
    home.document("state.json", &state)?;
    if !options.rm {
        home.keep();
    }
    Ok(Container { process, state: Mutex::new(state), home, store: store.clone(), _lease: lease })
}

/// Looks the user up in the image's own files.
fn resolve_user(
    store: &Store,
    layers: &[LayerId],
    image: &str,
    options: &RunOptions,
) -> Result<User, ContainerError> {
    let text = options.user.as_deref().filter(|user| !user.is_empty()).unwrap_or(image);
    let read = |path: &str| store.read_file(layers, path.as_bytes(), user::MAX_FILE);
    let (passwd, group) = (read("etc/passwd")?, read("etc/group")?);
    let mut user = user::resolve(text, passwd.as_deref(), group.as_deref()).map_err(ContainerError::User)?;
    for name in &options.group_add {
        let gid = user::resolve_group(name, group.as_deref()).map_err(ContainerError::User)?;
        if !user.additional_gids.contains(&gid) {
            user.additional_gids.push(gid);
        }
    }
    Ok(user)
}

/// Puts the root file system into the spec: the image's layers with an upper of the container's.
fn install_root(
    store: &Store,
    layers: &[LayerId],
    home: &Home,
    spec: &mut Spec,
) -> Result<(), ContainerError> {
    let upper = home.directory("upper", 0o755)?;
    let work = home.directory("work", 0o700)?;
    // An overlay's root looks like its upper.
    let merged = store.merged(layers)?;
    if let Some(root) = merged.get(b"") {
        own(&upper, root.entry.mode, root.entry.uid, root.entry.gid)?;
    }
    let overlay = OverlayRoot { lowers: store.trees(layers)?, upper, work };
    Ok(overlay.install(spec, &store.root().join("mount-points"))?)
}

fn own(path: &Path, mode: u32, uid: u32, gid: u32) -> Result<(), ContainerError> {
    let set = || {
        if (uid, gid) != (0, 0) {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
        }
        std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))
    };
    set().map_err(ContainerError::file("set the owner of", path))
}

impl Container {
    /// Its ID: 64 hexadecimal digits.
    pub fn id(&self) -> String {
        self.state.lock().expect("no holder of this lock panics").id.clone()
    }

    /// Sends a signal to its PID 1; one that has ended needs none.
    pub fn signal(&self, signal: i32) -> Result<(), ContainerError> {
        Ok(self.process.signal(signal)?)
    }

    /// The controlling side of its terminal, if it has one.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.process.terminal().map(AsFd::as_fd)
    }

    /// Sets the size of its terminal.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<(), ContainerError> {
        Ok(self.process.resize(rows, columns)?)
    }

    /// What could not be done as asked and was left out, as Docker would: one line each.
    pub fn warnings(&self) -> &[String] {
        self.process.warnings()
    }

    /// Waits for its end, then takes down how it ended, or removes it.
    pub fn wait(&self) -> Result<Exit, ContainerError> {
        let exit = self.process.wait();
        let mut state = self.state.lock().expect("no holder of this lock panics");
        if state.rm {
            self.home.remove();
        } else if let Ok(exit) = exit
            && state.finished.is_none()
        {
            state.process = None;
            state.finished = Some(self.store.clock().now().rfc3339());
            state.exit_code = Some(exit.code());
            self.home.document("state.json", &*state)?;
        }
        Ok(exit?)
    }
}
